"""Sweeps: what is checked before, what is run, what is kept, and what survives a kill."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
import yaml

from src.anonymizers import cvae
from src.anonymizers.base import Anonymizer
from src.core import records
from src.core.cluster import REQUIREMENTS
from src.database import SPLITS, Database, EmbeddingSet, read, write
from src.probing import head
from tests.support import ROOT, call, files_below

TINY = {
    "name": "tiny",
    "datasets": ["small"],
    "backbones": ["pixels"],
    "seeds": [0, 1],
    "sigma": [0, 1],
    "head": {"num_epochs": 1},
    "runs": [
        {"anonymizer": "identity"},
        {"anonymizer": "kSAME", "k": [2, 5]},
        {"anonymizer": "cvae", "num_epochs": 1},
        {"anonymizer": "cvae-online", "num_epochs": 1, "variance": [0.5, 1]},
    ],
    "report": {"figures": []},
}
RUNS = 12


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory, digits):
    """A database of 200 digits."""
    root = tmp_path_factory.mktemp("database")
    for split in SPLITS:
        whole = getattr(digits, split)
        rows = slice(200 if split == "train" else 100)
        part = EmbeddingSet(whole.embeddings[rows], whole.labels[rows], whole.meta)
        write(Database(root, "small", "pixels").path(split), part)
    return root


class Place:
    """The folders of one sweep."""

    def __init__(self, folder, embeddings, **changes):
        self.folder, self.logs = folder, folder / "logs"
        self.database = Database(folder / "database", "small", "pixels")
        if not self.database.root.exists():
            shutil.copytree(embeddings, self.database.root)
        self.config = folder / "sweep.yaml"
        self.config.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
        self.words = [
            str(self.config), "--device", "cpu", "--database_root", str(self.database.root),
            "--ckpt_root", str(folder / "ckpts"), "--output_root", str(self.logs),
        ]  # fmt: skip

    def sweep(self, *more):
        return call("src.sweep.__main__", *self.words, *more)

    def start(self, *more):
        """The sweep in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "src.sweep", *self.words, *map(str, more)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def results(self):
        return sorted((self.logs / "small" / "pixels").glob("*.json"))

    def table(self):
        """results.csv without the seconds."""
        path = self.logs / "reports" / "tiny" / "results.csv"
        return [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]


@pytest.fixture
def place(tmp_path, embeddings):
    return Place(tmp_path, embeddings)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, embeddings):
    """A sweep that ran in this process from nothing to the end, and what it printed."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), embeddings)
    return place, place.sweep()


@pytest.fixture
def finished(tmp_path, undisturbed, embeddings):
    """A copy of the undisturbed sweep's files, to damage."""
    shutil.copytree(undisturbed[0].folder, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path, embeddings)


def wait_for(condition, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What is checked before anything runs.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "unknown key 'sedes'; did you mean 'seeds'?"),
        ({"name": "../x"}, "name: '../x' is not a name"),
        ({"datasets": []}, "datasets is an empty list"),
        ({"datasets": ["small", "small"]}, "datasets has small twice"),
        ({"seeds": [0, 1.5]}, "seeds must be whole numbers, 0 or above, not 1.5"),
        ({"seeds": [True]}, "seeds must be whole numbers, 0 or above, not True"),
        ({"sigma": [0, -1]}, "sigma must be numbers, 0 or above, not -1"),
        ({"sigma": [1, 1.0]}, "sigma has 1 twice"),
        ({"head": {"epochs": 3}}, "unknown setting of head 'epochs'"),
        ({"head": {"num_epochs": "3"}}, "num_epochs is '3'; it must be a whole number"),
        ({"head": {"learning_rate": "fast"}}, "learning_rate is 'fast'; it must be a number"),
        ({"runs": []}, "runs must be a list with at least one anonymizer"),
        ({"runs": [{"anonymizer": "ksme", "k": 2}]}, "unknown anonymizer 'ksme'; did you mean"),
        ({"runs": [{"k": 2}]}, "runs, entry 1: anonymizer must be a name, not None"),
        ({"runs": [{"anonymizer": "ksame"}]}, "entry 1: ksame needs --k"),
        ({"runs": [{"anonymizer": "ksame", "k": []}]}, "entry 1: k is an empty list"),
        ({"runs": [{"anonymizer": "ksame", "k": [2, 1]}]}, "entry 1: k 1 is below its minimum"),
        ({"runs": [{"anonymizer": "ksame", "k": 2.5}]}, "k is 2.5; it must be a whole number"),
        ({"runs": [{"anonymizer": "ksame", "k": 2, "per_class": 1}]}, "it must be true or false"),
        ({"runs": [{"anonymizer": "identity", "k": 2}]}, "unknown setting of identity 'k'"),
        ({"runs": [{"anonymizer": "ksame", "k": [2, 2]}]}, "entry 1: ksame (k=2) is listed twice"),
        ({"runs": ["identity"]}, "entry 1: it must hold 'name: value' pairs, not 'identity'"),
        ({"report": {"metrics": ["f1"]}}, "unknown name in report's metrics 'f1'"),
        ({"report": {"figures": ["pie"]}}, "unknown name in report's figures 'pie'"),
        ({"report": {"sigma": [3]}}, "report: sigma 3 is not among the sweep's"),
        ({"report": {"published": "no.yaml"}}, "no.yaml: No such file or directory"),
        ({"datasets": ["smal"]}, "unknown dataset 'smal'"),
        ({"datasets": ["digits"], "backbones": ["pixel"]}, "unknown backbone 'pixel'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, embeddings, changes, message):
    place = Place(tmp_path, embeddings, **changes)
    before = files_below(tmp_path)
    done = place.sweep()
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert files_below(tmp_path) == before


def test_a_list_in_a_config_is_no_second_flag(place):
    (place.folder / "flags.yaml").write_text("jobs: [1, other.yaml]\n")
    done = place.sweep("--config", place.folder / "flags.yaml")
    assert done.status == 2
    assert "jobs takes one value, not [1, 'other.yaml']" in done.err
    assert not place.logs.exists()


# What is run.


def test_a_sweep_from_nothing_to_its_table(undisturbed):
    place, done = undisturbed
    assert (done.status, done.err) == (0, "")
    assert len(place.results()) == RUNS * 2
    assert done.out.startswith("| dataset")
    assert "| ksame (k=5)" in done.out
    assert str(place.logs / "reports" / "tiny" / "table.tex") in done.out
    assert len(place.table()) == 1 + RUNS * 2
    assert sorted(p.name for p in place.database.folder.glob("train_*")) == [
        "train_cvae-num_epochs1-s0.npz", "train_cvae-num_epochs1-s1.npz",
        "train_ksame-2.npz", "train_ksame-5.npz",
    ]  # fmt: skip


def test_results_are_those_of_the_scripts(undisturbed, tmp_path):
    place, _ = undisturbed
    flags = [
        "--dataset", "small", "--backbone", "pixels", "--device", "cpu", "--num_epochs", 1,
        "--database_root", place.database.root, "--output_root", tmp_path, "--seed", 1,
        "--sigma", 0, 1,
    ]  # fmt: skip
    assert call("probing_noise", *flags, "--anonymizer", "ksame", "--k", 5).status == 0
    for theirs in tmp_path.rglob("*.json"):
        ours = json.loads((place.logs / "small" / "pixels" / theirs.name).read_text())
        assert ours | {"seconds": 0} == json.loads(theirs.read_text()) | {"seconds": 0}


def test_what_runs_share_is_made_once(place, monkeypatch):
    calls = []

    def counted(owner, name, what):
        original = getattr(owner, name)

        def count(*args, **kwargs):
            calls.append(what)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, count)

    counted(Anonymizer, "anonymize", "release")
    counted(cvae, "_train", "fit")
    counted(Database, "read", "read")
    counted(head, "_fit", "head")
    assert place.sweep().status == 0
    assert {what: calls.count(what) for what in set(calls)} == {
        "release": 4,  # k-Same twice, the CVAE once for each seed
        "fit": 2,  # one for each seed serves three variants
        "head": RUNS - 3,  # two seeds on one release at once: identity, k-Same twice
        "read": 3,  # once for all runs, twice for the report
    }


def test_missing_embeddings_are_extracted_as_by_the_script(tmp_path, embeddings):
    runs = [{"anonymizer": "identity"}]
    place = Place(tmp_path, embeddings, datasets=["digits"], runs=runs, seeds=[3])
    assert (
        "digits/pixels: identity, seed 3: needs embeddings, head" in place.sweep("--dry_run").out
    )
    assert not (place.database.root / "digits").exists()
    assert place.sweep().status == 0
    theirs = tmp_path / "theirs"
    flags = ["--dataset", "digits", "--backbone", "pixels", "--device", "cpu"]
    assert call("create_db", *flags, "--database_root", theirs).status == 0
    assert files_below(place.database.root / "digits") == {
        place.database.root / path.relative_to(theirs): content
        for path, content in files_below(theirs).items()
    }


def test_a_dry_run_only_tells(place):
    before = files_below(place.folder)
    done = place.sweep("--dry_run")
    assert files_below(place.folder) == before
    lines = done.out.splitlines()
    assert len(lines) == RUNS + 1
    assert lines[0] == "small/pixels: identity, seed 0: needs head"
    assert lines[2] == "small/pixels: ksame (k=2), seed 0: needs fit, head"
    assert lines[-1] == f"{RUNS} runs, 0 done, {RUNS} to do"


def test_a_dry_run_needs_no_torch(place):
    code = (
        "import sys\n"
        "from src.sweep.__main__ import main\n"
        "main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, *place.words, "--dry_run"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)


# What is kept, and what is run again.


def test_a_finished_sweep_is_left_alone(finished):
    before = files_below(finished.folder)
    assert finished.sweep("--dry_run").out.endswith(f"{RUNS} runs, {RUNS} done, 0 to do\n")
    assert finished.sweep().status == 0
    assert files_below(finished.folder) == before


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _result(place, name):
    return place.logs / "small" / "pixels" / f"small_{name}.json"


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda p: _truncate(_result(p, "identity-s0_sigma1")), 1),
        (lambda p: _result(p, "ksame-2-s1_sigma0").unlink(), 1),
        (lambda p: _edit(_result(p, "ksame-5-s0_sigma0"), settings={}), 1),
        (lambda p: _edit(_result(p, "ksame-5-s0_sigma0"), inputs={}), 1),
        (lambda p: _edit(_result(p, "ksame-5-s0_sigma0"), format=2), 1),
        (lambda p: _edit(_result(p, "ksame-5-s0_sigma0"), auc=None), 1),
        (lambda p: _result(p, "cvae-num_epochs1-s0_sigma0").write_text("[]"), 1),
        # a release that is damaged, or not the one these settings make, is made again
        (lambda p: _truncate(p.database.path("train", "ksame-5")), 2),
        (
            lambda p: shutil.copy(
                p.database.path("train", "ksame-2"), p.database.path("train", "ksame-5")
            ),
            2,
        ),
    ],
)
def test_what_is_not_whole_or_of_other_origin_is_made_again(finished, undisturbed, damage, again):
    damage(finished)
    assert f"{RUNS - again} done" in finished.sweep("--dry_run").out
    assert finished.sweep().status == 0
    assert finished.table() == undisturbed[0].table()
    untouched = files_below(undisturbed[0].folder)
    kept = [
        path.read_bytes() == untouched[undisturbed[0].folder / path.relative_to(finished.folder)]
        for path in finished.results()
    ]
    assert len(kept) - sum(kept) <= again


def test_each_run_needs_what_its_own_result_takes(finished):
    _result(finished, "cvae-num_epochs1-s0_sigma0").unlink()
    _result(finished, "cvae-online-num_epochs1-s0_sigma1").unlink()
    finished.database.path("train", "cvae-num_epochs1-s1").unlink()
    told = [line for line in finished.sweep("--dry_run").out.splitlines() if "needs" in line]
    assert told == [
        "small/pixels: cvae (num_epochs=1), seed 0: needs head",
        "small/pixels: cvae (num_epochs=1), seed 1: needs fit, head",
        "small/pixels: cvae-online (num_epochs=1), seed 0: needs fit, head",
    ]


def test_results_of_scripts_and_of_older_sweeps_count(place, finished):
    by_script = Place(place.folder / "by_script", finished.database.root)
    flags = [
        "--dataset", "small", "--backbone", "pixels", "--device", "cpu", "--num_epochs", 1,
        "--database_root", by_script.database.root, "--output_root", by_script.logs,
    ]  # fmt: skip
    ksame = ["--anonymizer", "ksame", "--k", 5, "--seed", 1, "--sigma", 0, 1]
    assert call("probing_noise", *flags, *ksame).status == 0
    online = ["--variance", 0.5, "--fit_num_epochs", 1, "--seed", 0, "--sigma", 1, 0]
    ckpts = ["--ckpt_root", by_script.folder / "ckpts"]
    assert call("probing_noise_cvae", *flags, *online, *ckpts).status == 0
    done = [line for line in by_script.sweep("--dry_run").out.splitlines() if "done" in line]
    assert done == [
        "small/pixels: ksame (k=5), seed 1: done",
        "small/pixels: cvae-online (variance=0.5, num_epochs=1), seed 0: done",
        f"{RUNS} runs, 2 done, {RUNS - 2} to do",
    ]
    for path in finished.results():  # before records had a format, they had a fingerprint
        content = json.loads(path.read_text())
        del content["format"], content[records.SUM]
        path.write_text(json.dumps(content | {"fingerprint": "0123456789abcdef"}))
    assert f"{RUNS} runs, {RUNS} done" in finished.sweep("--dry_run").out


def test_other_settings_or_embeddings_make_results_stale(finished, embeddings):
    other = Place(finished.folder, embeddings, head={"num_epochs": 3})
    assert f"{RUNS} runs, 0 done" in other.sweep("--dry_run").out
    same = Place(finished.folder, embeddings)
    train = same.database.read().train
    write(same.database.path("train"), EmbeddingSet(train.embeddings + 1, train.labels))
    assert f"{RUNS} runs, 0 done" in same.sweep("--dry_run").out


# What fails.


def test_a_run_that_fails_is_told_and_the_others_finish(place, monkeypatch, undisturbed):
    original = head.fit_many

    def defect(sought, splits, **kwargs):
        if any(each.seed == 1 and each.rows is splits.train for each in sought):
            raise ZeroDivisionError("a defect")
        return original(sought, splits, **kwargs)

    monkeypatch.setattr(head, "fit_many", defect)
    runs = [*TINY["runs"], {"anonymizer": "kSAME", "k": 201}]
    place.config.write_text(yaml.safe_dump(TINY | {"runs": runs}, sort_keys=False))
    done = place.sweep()
    assert done.status == 1
    told = done.err.splitlines()
    assert len(told) == 3
    assert re.fullmatch(
        r"failed: small/pixels: identity, seed 1: ZeroDivisionError: a defect \(.*py:\d+\)",
        told[0],
    )
    for seed in (0, 1):
        assert told[1 + seed].startswith(f"failed: small/pixels: ksame (k=201), seed {seed}: ")
        assert told[1 + seed].endswith("--k 201 is larger than the 200 rows of the training set")
    seed = undisturbed[0].table()[0].split(",").index("seed")
    whole = [line.split(",") for line in undisturbed[0].table()]
    expected = [line for line in whole if (line[2], line[seed]) != ("identity", "1")]
    assert [line.split(",") for line in place.table()] == expected
    assert "1 (missing: 1)" in done.out


def test_unreadable_embeddings_fail_their_runs_only(tmp_path, embeddings):
    runs = [{"anonymizer": "identity"}]
    place = Place(tmp_path, embeddings, datasets=["small", "other"], runs=runs, seeds=[0])
    shutil.copytree(place.database.folder, place.database.root / "other" / "pixels")
    path = place.database.path("train")
    _truncate(path)
    done = place.sweep()
    assert done.status == 1
    assert done.err.startswith(f"failed: small/pixels: identity, seed 0: {path} is truncated")
    assert len(list((place.logs / "other").rglob("*.json"))) == 2


def test_embeddings_of_another_extraction_are_not_overwritten(tmp_path, embeddings):
    place = Place(tmp_path, embeddings, datasets=["digits"])
    (place.database.root / "small").rename(place.database.root / "digits")
    made = Database(place.database.root, "digits", "pixels")
    train, test = made.path("train"), made.path("test")
    test.unlink()
    data = read(train)
    write(train, EmbeddingSet(data.embeddings, data.labels, data.meta | {"image_size": 4}))
    before = train.read_bytes()
    done = place.sweep()
    assert done.status == 1
    assert f"{train} was made with settings that a sweep does not have" in done.err
    assert train.read_bytes() == before
    assert not test.exists()


def test_embeddings_by_another_backbone_are_not_overwritten(tmp_path, embeddings):
    place = Place(tmp_path, embeddings, datasets=["digits"])
    (place.database.root / "small").rename(place.database.root / "digits")
    made = Database(place.database.root, "digits", "pixels")
    made.path("test").unlink()
    for split in ("train", "val"):
        data = read(made.path(split))
        write(made.path(split), EmbeddingSet(data.embeddings, data.labels, {"backbone": "a/b"}))
    before = files_below(place.database.root)
    done = place.sweep()
    assert done.status == 1
    assert f"{made.path('train')} holds embeddings by backbone 'a/b', not 'pixels'" in done.err
    assert files_below(place.database.root) == before


def test_dask_is_asked_for_by_name(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = place.sweep("--jobs", 2)
    assert done.status == 2
    assert done.err.endswith("need Dask: pip install -r requirements-cluster.txt\n")
    assert (ROOT / REQUIREMENTS).exists()


# What survives.


def test_killed_at_any_moment_it_ends_the_same(place, undisturbed):
    ends = [
        (signal.SIGKILL, lambda: place.database.path("train", "ksame-2").exists()),
        (signal.SIGINT, lambda: len(place.results()) >= 6),
    ]
    for number, condition in ends:
        with place.start() as process:
            wait_for(condition, process)
            process.send_signal(number)
            _, errors = process.communicate()
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert "Traceback" not in errors
    assert not (place.logs / "reports").exists()
    done = place.sweep()
    assert (done.status, done.err) == (0, "")
    assert place.table() == undisturbed[0].table()


def test_local_processes_make_the_same(place, undisturbed):
    pytest.importorskip("distributed")
    with _dashboards_port_in_use(), place.start("--jobs", 2) as process:
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert place.table() == undisturbed[0].table()


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker(tmp_path, embeddings, undisturbed):
    distributed = pytest.importorskip("distributed")
    cluster = Place(tmp_path / "cluster", embeddings)
    address = tmp_path / "scheduler.json"
    shared = ["--scheduler-file", str(address), "--no-dashboard"]
    scheduler = _dask("scheduler", *shared, "--port", "0", "--host", "127.0.0.1", cwd=tmp_path)
    one, other = (
        _dask("worker", *shared, "--nthreads", "1", "--no-nanny", cwd=tmp_path) for _ in range(2)
    )
    try:
        wait_for(lambda: address.exists() and address.read_text(), scheduler)
        tcp = json.loads(address.read_text())["address"]
        with distributed.Client(tcp) as client:
            client.wait_for_workers(2)
        with cluster.start("--scheduler", tcp) as process:
            wait_for(lambda: len(cluster.results()) >= 3, process)
            one.kill()
            _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert cluster.table() == undisturbed[0].table()
    finally:
        for process in (scheduler, one, other):
            process.kill()
            process.wait()
    assert cluster.sweep("--scheduler", tcp).status == 0  # nothing to do, nobody to ask


def test_a_scheduler_that_cannot_import_the_project_is_one_line(place, tmp_path):
    pytest.importorskip("distributed")
    address = tmp_path / "scheduler.json"
    words = ["--scheduler-file", str(address), "--no-dashboard", "--port", "0"]
    scheduler = _dask("scheduler", *words, "--host", "127.0.0.1", cwd=tmp_path, project=False)
    try:
        wait_for(lambda: address.exists() and address.read_text(), scheduler)
        tcp = json.loads(address.read_text())["address"]
        done = place.sweep("--scheduler", tcp)
    finally:
        scheduler.kill()
        scheduler.wait()
    assert done.status == 2
    assert done.err == (
        f"error: the Dask scheduler at {tcp} cannot import this project; start it in the "
        "project's folder with: PYTHONPATH=$PWD dask scheduler\n"
    )
    assert not place.results()


@contextmanager
def _dashboards_port_in_use():
    with socket.socket() as other:
        with suppress(OSError):  # by somebody else
            other.bind(("127.0.0.1", 8787))
            other.listen()
        yield


def _dask(*words, cwd, project=True):
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT if project else cwd)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
