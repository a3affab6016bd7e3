"""What shells and machines do to a command: names, paths, terminals, limits, two at once."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

import src
from src.database import EmbeddingSet, read
from tests.support import ROOT, call, files_below, shell

SCRIPTS = ("create_db", "anonymize", "probing", "probing_noise", "probing_noise_cvae")
TOOLS = (
    "src.audit.__main__", "src.bundle.__main__", "src.report.__main__", "src.sweep.__main__",
    "benchmarks.__main__", "benchmarks.plan", "benchmarks.parity", "benchmarks.tables",
)  # fmt: skip
NEEDED = {
    "anonymize": ["--anonymizer", "ksame", "--k", "2"],
    "probing_noise": ["--sigma", "1"],
    "probing_noise_cvae": ["--sigma", "1"],
    "src.audit.__main__": ["--anonymizer", "ksame", "--k", "2"],
}
EVERY = """
import importlib, sys
from src import cli
for name in sys.argv[1].split():
    for word in sys.argv[2].split():
        try:
            cli.run(lambda: importlib.import_module(name).main([word]))
        except SystemExit as exit:
            assert exit.code == 0, (name, word, exit.code)
assert not {"torch", "timm", "sklearn", "matplotlib.pyplot"} & sys.modules.keys()
"""
TERMINALS = {
    "utf-8": {},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run(*command, **environment):
    """A command in a process of its own, as bytes."""
    return subprocess.run(
        [sys.executable, *map(os.fspath, command)],
        cwd=ROOT, capture_output=True, env={**os.environ, **environment}, timeout=100,
    )  # fmt: skip


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_command_prints_its_help_and_its_version(terminal):
    done = run(
        "-c", EVERY, " ".join((*SCRIPTS, *TOOLS)), "--help --version", **TERMINALS[terminal]
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode("latin-1").splitlines()
    assert lines.count(src.__version__) == len(SCRIPTS) + len(TOOLS)


def test_a_result_is_printed_whatever_the_terminal(roots, tmp_path):
    place = tmp_path / "Übung→"
    words = ["probing.py", *roots, "--output_root", place, "--num_epochs", "1"]
    done = run(*words, **TERMINALS["ascii"])  # in which the folder has no name
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"set PYTHONUTF8=1" in done.stderr
    assert not place.exists()
    done = run(*words, **TERMINALS["latin-1"])
    assert done.returncode == 0, done.stderr
    assert b"/\xdcbung\\u2192/digits/pixels/" in done.stdout
    assert len(list((place / "digits" / "pixels").iterdir())) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_name_that_is_not_utf_8_is_one_line_at_the_first_step(script, roots, tmp_path):
    before = files_below(tmp_path)
    for flag in ("--dataset", "--backbone", "--database_root", "--config"):
        done = call(script, *roots, flag, f"{tmp_path}/Z\udce4hne", *NEEDED.get(script, ()))
        assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
        assert "is not utf-8" in done.err
    assert files_below(tmp_path) == before


def test_bytes_on_a_command_line_that_are_not_utf_8(tmp_path):
    done = run("probing.py", "--database_root", os.fsencode(tmp_path) + b"/Z\xe4hne")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"Z\\udce4hne' is not utf-8; rename the file" in done.stderr


# Names.


@pytest.mark.parametrize("script", [*SCRIPTS, "src.audit.__main__"])
@pytest.mark.parametrize("name", ["..", "a/../..", "/etc", "x" * 300, "a ", "a.", ""])
def test_no_flag_names_a_place_outside_its_folder(script, name, roots, tmp_path):
    before = files_below(tmp_path)
    flags = ["--dataset", "--backbone"]
    flags += ["--release"] if script in ("probing", "probing_noise") else []
    flags += ["--task"] if script == "create_db" else []
    for flag in flags:
        needed = () if flag == "--release" and script == "probing" else NEEDED.get(script, ())
        done = call(script, *roots, *needed, f"{flag}={name}")
        assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
        assert f"argument {flag}: '{name[:60]}" in done.err
        assert "is not a name" in done.err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("key", ["name", "datasets", "backbones"])
@pytest.mark.parametrize("name", ["..", "a/../..", "/etc", "x" * 300, "a\0", ""])
def test_no_key_of_a_sweep_does_either(key, name, tmp_path):
    content = {"name": "x", "datasets": ["digits"], "backbones": ["pixels"], "seeds": [0]}
    config = tmp_path / "s.yaml"
    config.write_text(yaml.safe_dump({**content, "runs": [{"anonymizer": "identity"}], key: name}))
    for tool in ("src.sweep.__main__", "src.report.__main__"):
        done = call(tool, config, "--output_root", tmp_path / "logs")
        assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
        assert f"{key}: " in done.err
        assert "is not a name" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("twice", ["runs", "seeds", "name"])
def test_a_key_of_a_sweep_that_occurs_twice_is_named(twice, tmp_path):
    lines = ["name: x", "datasets: [digits]", "backbones: [pixels]", "seeds: [0]",
             "runs: [{anonymizer: identity}]", f"{twice}: [1]"]  # fmt: skip
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    done = call("src.sweep.__main__", tmp_path / "s.yaml", "--dry_run")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"s.yaml: the key '{twice}' occurs twice" in done.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seeds: [010]", "seeds must be whole numbers, 0 or above, not '010'"),
        ("seeds: 1:30", "seeds must be whole numbers, 0 or above, not '1:30'"),
        ("sigma: [0x1]", "sigma must be numbers, 0 or above, not '0x1'"),
        ("datasets: no", "unknown dataset 'no'"),
    ],
)
def test_no_value_of_a_sweep_becomes_another_in_silence(line, message, tmp_path):
    content = {"name": "x", "datasets": "digits", "backbones": "pixels", "seeds": 0}
    text = yaml.safe_dump({key: v for key, v in content.items() if not line.startswith(key)})
    config = tmp_path / "s.yaml"
    config.write_text(f"{text}{line}\nruns: [{{anonymizer: identity}}]\n")
    done = call("src.sweep.__main__", config, "--database_root", tmp_path, "--dry_run")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_a_backbone_of_a_hub_has_a_folder_of_its_own(tmp_path, database):
    folder = database.root / "digits" / "hf-hub_owner_repo"
    folder.mkdir()
    for path in database.folder.iterdir():
        data = read(path)
        meta = {**data.meta, "backbone": "hf-hub:owner/repo"}
        src.database.write(folder / path.name, EmbeddingSet(data.embeddings, data.labels, meta))
    done = call(
        "anonymize", "--database_root", database.root, "--dataset", "digits", "--ckpt_root",
        tmp_path / "ckpts", "--backbone", "hf-hub:owner/repo", *NEEDED["anonymize"],
    )  # fmt: skip
    assert done.status == 0, done.err
    assert (folder / "train_ksame-2.npz").exists()


def test_more_settings_than_a_file_s_name_holds_are_refused_before_work(roots, tmp_path):
    flags = ["--anonymizer", "plan", "--k", 5, "--seed", 0]
    for name in ("hidden_dim", "latent_dim", "num_epochs", "batch_size", "patience", "path_points",
                 "path_steps", "path_batch"):  # fmt: skip
        flags += [f"--{name}", 2**60 + 1] if name != "path_batch" else []
    flags += ["--kl_weight", 0.12345678, "--prior_variance", 0.12345678, "--learning_rate", 1.5e-7]
    done = call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *flags)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "is longer than 200 bytes" in done.err
    assert not (tmp_path / "ckpts").exists()


# Paths and configs.


def test_paths_in_a_config_are_those_of_a_shell(tmp_path, database, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(database.root.parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text(
        "database_root: $SCRATCH/database\noutput_root: ~/logs\ndataset: digits\n"
        "backbone: pixels\nsigma: [1e-1, 2]\nnum_epochs: 1\nseed: 010\n"
    )
    done = call("probing_noise", "--config", "~/c.yaml")
    assert done.status == 0, done.err
    names = {path.name for path in (tmp_path / "logs" / "digits" / "pixels").iterdir()}
    assert names == {"digits_identity-s10_sigma0.1.json", "digits_identity-s10_sigma2.json"}
    assert not (tmp_path / "~").exists()
    done = call("probing", "--database_root=$UNSET_OF_MINE/x")
    assert done.status == 2
    assert "argument --database_root: $UNSET_OF_MINE is not set" in done.err


def test_the_anonymizer_s_epochs_are_named_where_the_head_s_are_meant(roots, tmp_path):
    made = ["--anonymizer", "cvae", "--seed", 0, "--num_epochs", 3]
    assert call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *made).status == 0
    logs = ["--output_root", tmp_path / "logs"]
    for script in ("probing", "probing_noise"):
        needed = NEEDED.get(script, [])
        for flags in (made, made[:4]):
            done = call(script, *roots, *logs, *needed, *flags)
            assert (done.status, done.err.count("\n")) == (2, 1)
            assert "train_cvae-s0.npz does not exist" in done.err
            assert "--fit_num_epochs 3" in done.err
            assert "--release cvae-num_epochs3-s0" in done.err
        named = [*made[:4], "--fit_num_epochs", 3, "--num_epochs", 2]
        assert call(script, *roots, *logs, *needed, *named).status == 0


# Outputs.


def outputs(tmp_path):
    """Every flag that names a file to write: command, words before the flag, its suffix."""
    bundle = ["sample", tmp_path / "bundle", "--rows", 5, "--output"]
    audit = ["--anonymizer", "identity", "--figure"]
    return [
        ("src.bundle.__main__", bundle, ".npz"),
        *(("src.audit.__main__", audit, suffix) for suffix in (".png", ".pdf", ".svg")),
        *(("benchmarks.plan", ["--figure"], suffix) for suffix in (".png", ".pdf")),
        ("benchmarks.__main__", ["--output"], ".json"),
        ("benchmarks.__main__", ["--markdown"], ".md"),
    ]


def test_what_an_output_flag_finds_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.measured", lambda *_: pytest.fail("work was done"))
    for name in (".npz", ".png", ".pdf", ".svg", ".json", ".md", ".txt", ""):
        (tmp_path / f"mine{name}").write_bytes(b"# what I wrote\n" * 9)
    (tmp_path / "folder.npz").mkdir()
    before = files_below(tmp_path)
    for command, words, suffix in outputs(tmp_path):
        wrong = {".npz", ".png", ".pdf", ".svg", ".json", ".md", ".txt", ""} - {suffix}
        if words[-1] == "--figure":
            wrong -= {".png", ".pdf", ".svg"}
        for name in (suffix, *wrong):
            done = call(command, *words, tmp_path / f"mine{name}")
            assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), (command, name)
            what = "holds something else" if name == suffix else "its name must end in"
            assert f"argument {words[-1]}: " in done.err
            assert what in done.err
    done = call("src.bundle.__main__", *outputs(tmp_path)[0][1], tmp_path / "folder.npz")
    assert "it is not an ordinary file" in done.err
    assert files_below(tmp_path) == before


def test_an_output_of_the_same_kind_is_replaced(roots, tmp_path):
    assert call("anonymize", *roots, "--ckpt_root", tmp_path, *NEEDED["anonymize"]).status == 0
    words = ["--shadows", 0, "--bootstrap", 5, "--output_root", tmp_path / "logs"]
    picture = tmp_path / "roc.PNG"
    for _ in range(2):
        audit = [*roots, *NEEDED["anonymize"], *words, "--figure", picture]
        done = call("src.audit.__main__", *audit)
        assert done.status == 0, done.err
        assert picture.read_bytes().startswith(b"\x89PNG")
        picture.write_bytes(b"\x89PNG an older one")


# Two at once.


def test_two_processes_that_write_the_same_release_both_end_well(roots, tmp_path, database):
    made = ["--anonymizer", "cvae", "--seed", "0", "--num_epochs", "3"]
    alone = [*roots, "--ckpt_root", tmp_path / "alone", *made]
    path = database.path("train", "cvae-num_epochs3-s0")
    assert shell("anonymize.py", *alone).status == 0
    expected = path.read_bytes()
    path.unlink()
    together = [*roots, "--ckpt_root", tmp_path / "ckpts", *made]
    command = [sys.executable, str(ROOT / "anonymize.py"), *map(str, together)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in "ab"]
    assert [process.communicate()[1].count(b"Traceback") for process in both] == [0, 0]
    assert [process.returncode for process in both] == [0, 0]
    assert path.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.glob("ckpts/digits/pixels/*")) == [
        "cvae-num_epochs3-s0.json", "cvae-num_epochs3-s0.safetensors"
    ]  # fmt: skip
    for folder in (path.parent, tmp_path / "ckpts"):
        assert not list(folder.rglob(".*"))


KEYS = """
import sys
from pathlib import Path
from src.anonymizers.dp import keys
for folder in sorted(Path(sys.argv[1]).iterdir()):
    print(keys.secret(folder))
"""


def test_processes_that_need_a_key_at_once_get_the_same(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:03}").mkdir()
    command = [sys.executable, "-c", KEYS, str(tmp_path)]
    several = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate()[0].split() for process in several]
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == 100
    assert {len(list(folder.iterdir())) for folder in tmp_path.iterdir()} == {1}


# Small machines.


SMALL = """
import resource, sys, time
import numpy as np, torch
from PIL import Image
from src.core.errors import InputError
from src.embedding import extraction
from src.embedding.backbones import Backbone
from src.embedding.datasets.base import ImageSet

class Images:
    def __len__(self):
        return 30
    def __getitem__(self, index):
        return Image.fromarray(np.full((250, 250, 3), index, np.uint8))

class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

def pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

def extracted():
    started = time.monotonic()
    try:
        options = extraction.ExtractionSettings(batch_size=10, num_workers=2)
        rows = extraction.extract(ImageSet(Images(), np.zeros(30, np.int64)), backbone, options)
        said = "right" if (rows == np.arange(30)[:, None]).all() else "wrong"
    except InputError as error:
        said = str(error)
    return f"{time.monotonic() - started:.1f} {said}"

backbone = Backbone("m", Mean(), pixels, torch.device("cpu"), 3, {})
inside = extraction.get_worker_info
for word in sys.argv[1:]:
    name, limit, worker = word.split("=")
    kind = getattr(resource, name)
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (int(limit), hard))
    extraction.get_worker_info = inside if worker == "whole" else lambda: None
    line = extracted()
    resource.setrlimit(kind, (soft, hard))
    print(line, flush=True)
"""
LITTLE = 1 << 20  # bytes, of which a batch has seven times as many


def said(*limits, before=()):
    """What extraction says under each limit: [(seconds, text)]."""
    words = [*before, sys.executable, "-c", SMALL, *limits]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert max(float(seconds) for seconds, _ in lines) < 30
    return [text for _, text in lines]


def test_a_machine_that_lacks_something_is_one_line_or_no_hindrance():
    """A limit on the size of files stands for a small /dev/shm: both refuse the same call."""
    limits = [*range(6, 40, 2), 256]
    little, lost, *files = said(
        f"RLIMIT_FSIZE={LITTLE}=whole",
        f"RLIMIT_FSIZE={LITTLE}=broken",  # a worker that cannot send a batch: it used to hang
        *(f"RLIMIT_NOFILE={limit}=whole" for limit in limits),
    )
    assert little == "right"
    assert "one has ended" in lost
    for text in (lost, *files):
        assert text == "right" or "--num_workers 0" in text
    assert "Too many open files (a higher limit helps: ulimit -n 4096)" in files[0]
    assert files[-1] == "right"


def may_mount():
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not may_mount(), reason="a small /dev/shm takes a name space of one's own")
def test_a_container_s_shared_memory_is_no_reason_to_stop():
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    before = ["unshare", "-m", "bash", "-c", mount, "bash"]
    assert said("RLIMIT_NOFILE=256=whole", before=before) == ["right"]


# Sweeps and scripts.


def test_a_sweep_takes_what_the_scripts_have_written(roots, tmp_path):
    """At sigma 0 too, where probing.py's clean result is the same head on the same features."""
    logs = ["--output_root", tmp_path / "logs"]
    head = ["--seed", 0, "--num_epochs", 2]
    ckpts = ["--ckpt_root", tmp_path / "ckpts"]
    assert call("anonymize", *roots, *ckpts, *NEEDED["anonymize"]).status == 0
    for release in ([], NEEDED["anonymize"]):
        assert call("probing", *roots, *logs, *head, *release).status == 0
        noisy = [*logs, *head, *release, "--sigma", "1e-1"]
        assert call("probing_noise", *roots, *noisy).status == 0
    online = [*logs, *ckpts, *head, "--fit_num_epochs", 1, "--sigma", 0, 0.1]
    assert call("probing_noise_cvae", *roots, *online).status == 0
    config = tmp_path / "sweep.yaml"
    config.write_text(
        "name: taken\ndatasets: [digits]\nbackbones: [pixels]\nseeds: [0]\nsigma: [0, 1e-1]\n"
        "head: {num_epochs: 2}\nruns:\n- anonymizer: identity\n- {anonymizer: ksame, k: 2}\n"
        "- {anonymizer: cvae-online, num_epochs: 1}\nreport: {figures: []}\n"
    )
    words = [config, *roots[4:], *logs, *ckpts]
    before = files_below(tmp_path)
    done = call("src.sweep.__main__", *words, "--dry_run")
    assert "3 runs, 3 done, 0 to do" in done.out, done.err
    done = call("src.sweep.__main__", *words)
    assert done.status == 0, done.err
    after = files_below(tmp_path)
    assert {path: after[path] for path in before} == before
    new = {path.parent.name for path in after.keys() - before.keys()}
    assert new == {"taken"}
    clean = json.loads((tmp_path / "logs/digits/pixels/digits_identity-s0.json").read_text())
    csv = (tmp_path / "logs" / "reports" / "taken" / "results.csv").read_text().splitlines()
    row = dict(zip(csv[0].split(","), csv[1].split(","), strict=True))
    assert float(row["sigma"]) == 0
    assert float(row["auc"]) == clean["auc"]
    assert np.isfinite(float(row["average_mindistance"]))
