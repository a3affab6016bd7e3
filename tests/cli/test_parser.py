"""The parser: config files over which the command line wins, and errors as one line."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src import cli
from src.core.errors import InputError, OutputError, UnknownNameError
from src.probing.settings import HeadSettings
from tests.support import ROOT, call

SCRIPTS = ["create_db", "anonymize", "probing", "probing_noise", "probing_noise_cvae"]


def parser():
    made = cli.Parser("a test")
    made.add_argument("--sigma", type=cli.number(float, minimum=0), nargs="+", default=[])
    made.add_argument("rest", nargs="*")
    cli.add_seed_flag(made)
    cli.add_settings_flags(made, HeadSettings)
    cli.add_release_flags(made)
    return made


def parse(tmp_path, text, *argv):
    """Parse `argv` over a config file with that text."""
    config = tmp_path / "c.yaml"
    config.write_text(text)
    return parser().parse(["--config", str(config), *argv])


def test_the_command_line_wins_over_the_config_file(tmp_path):
    text = "num_epochs: 7\nbatch_size: 9\nanonymizer: kSAME\nk: 3\nper_class: true\nseed:\n"
    args = parse(tmp_path, text, "--num_epochs", "5")
    assert (args.num_epochs, args.batch_size) == (5, 9)
    assert cli.release_id(args) == "ksame-3-perclass"
    text = text.replace("true", "false")
    assert cli.release_id(parse(tmp_path, text)) == "ksame-3"


@pytest.mark.parametrize(
    ("text", "argv", "release"),
    [
        ("anonymizer: ksame\nk: 3", "--anonymizer cvae --seed 0", "cvae-s0"),
        ("anonymizer: ksame\nk: 3", "--anonymizer KSAME --per_class", "ksame-3-perclass"),
        ("k: 3", "--anonymizer ksame", "ksame-3"),
        ("anonymizer: ksame\nk: 3", "--release x", "x"),
        ("k: 3", "--release x", "x"),
        ("release: x", "--anonymizer ksame --k 5", "ksame-5"),
        ("release: x", "", "x"),
    ],
)
def test_the_command_line_s_anonymizer_or_release_wins(tmp_path, text, argv, release):
    assert cli.release_id(parse(tmp_path, text, *argv.split())) == release


def test_a_list_in_a_config_file_is_for_a_flag_that_takes_several(tmp_path):
    assert parse(tmp_path, "sigma: [0, 0.5]").sigma == [0, 0.5]
    assert parse(tmp_path, "sigma: 0.5").sigma == [0.5]
    assert parse(tmp_path, "sigma: [1]", "--sigma", "2", "3").sigma == [2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1, 2]", r"c\.yaml: seed takes one value, not \[1, 2\]"),
        ("seed: [1]", r"seed takes one value, not \[1\]"),
        ("k: [3, other.yaml]", r"k takes one value, not \[3, 'other.yaml'\]"),
        ("seed: {a: 1}", r"seed takes one value, not \{'a': 1\}"),
        ("seed: true", "seed takes one value, not True"),
        ("sigma: true", "sigma takes one or more values, not True"),
        ("sigma: {a: 1}", r"sigma .*not \{'a': 1\}"),
        ("sigma: [[1]]", r"sigma takes one or more values, not \[\[1\]\]"),
        ("quiet: [true]", r"quiet is \[True\]; it must be true or false"),
        ("per_class: 1", "per_class is 1; it must be true or false"),
    ],
)
def test_a_list_for_a_single_value_is_an_error(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        parse(tmp_path, text)


def test_a_negative_number_in_a_config_file_is_not_a_flag(tmp_path):
    args = parse(tmp_path, "learning_rate: -1.0e-05")
    with pytest.raises(InputError, match="--learning_rate -1e-05 must be greater than 0"):
        cli.settings_of(args, HeadSettings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_epochs: 2024-13-45", "'2024-13-45' is not a whole number"),
        ("seed: 1:30", "argument --seed: '1:30' is not a whole number"),
        ("seed: 0x10", "argument --seed: '0x10' is not a whole number"),
        ("seed: ~", "argument --seed: '~' is not a whole number"),
        ("quiet: no", "quiet is 'no'; it must be true or false"),
        ("k: 2\nseed: 1\nk: 5", "the key 'k' occurs twice (lines 1 and 3)"),
        ("k: 2\n'k': 5", "the key 'k' occurs twice"),
        ("seed: {a: 1, a: 2}", "the key 'a' occurs twice"),
        ("version: 1", "unknown config key 'version'"),
        ("num_epoch: 7", "unknown config key 'num_epoch'; did you mean 'num_epochs'"),
        ("num_epochs: seven", "'seven' is not a whole number"),
        ("quiet: 1", "quiet is 1; it must be true or false"),
        ("- a\n- b", "must hold 'name: value' lines, not a list"),
        ("a: [", "is not YAML"),
        ("config: other.yaml", "unknown config key 'config'"),
    ],
)
def test_config_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(tmp_path, text)


def test_a_config_file_says_what_the_command_line_would(tmp_path):
    """Its values are words, so that none of them becomes another value on the way."""
    made = cli.Parser("a test")
    cli.add_data_flags(made)
    cli.add_seed_flag(made)
    made.add_argument("--rate", type=float, nargs="+")
    config = tmp_path / "c.yaml"
    config.write_text("dataset: 010\nseed: 010\nrate: [1e-1, 2]\nbackbone: no\n")
    args = made.parse(["--config", str(config)])
    assert (args.dataset, args.seed, args.rate, args.backbone) == ("010", 10, [0.1, 2], "no")
    config.write_text("dataset: 1.50\nbackbone: 2024-01-01\nseed: null\nrate:\n")
    args = made.parse(["--config", str(config)])
    assert (args.dataset, args.seed, args.rate) == ("1.50", 42, None)
    assert args.backbone == "2024-01-01"


def test_a_list_in_a_config_file_does_not_swallow_what_follows(tmp_path):
    args = parse(tmp_path, "sigma: [1, 2]", "a", "b")
    assert (args.sigma, args.rest) == ([1, 2], ["a", "b"])


@pytest.mark.parametrize("how", ["flag", "equals", "config"])
@pytest.mark.parametrize("text", ["~/x", "$SCRATCH/x", "${SCRATCH}/x"])
def test_home_and_variables_are_expanded_in_every_path(tmp_path, monkeypatch, text, how):
    for name in ("HOME", "SCRATCH"):
        monkeypatch.setenv(name, str(tmp_path))
    made = cli.Parser("a test")
    cli.add_folder_flag(made, "--root", "r", "things")
    made.add_argument("--file", type=Path, nargs="*")
    config = tmp_path / "c.yaml"
    config.write_text(f"root: {text}\nfile: [{text}, a]\n")
    if "{" in text:
        config.write_text(f"root: '{text}'\nfile: ['{text}', a]\n")
    argv = {
        "flag": ["--root", text, "--file", text, "a"],
        "equals": [f"--root={text}", "--file", text, "a"],
        "config": ["--config", str(config)],
    }[how]
    args = made.parse(argv)
    assert args.root == tmp_path / "x"
    assert args.file == [tmp_path / "x", Path("a")]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a\0b", "has a NUL character"),
        ("Z\udce4hne", "is not utf-8; rename the file"),
    ],
)
def test_words_that_no_file_could_hold_are_refused_for_every_flag(word, message):
    made = cli.Parser("a test")
    made.add_argument("--text")
    with pytest.raises(InputError, match=message):
        made.parse([f"--text={word}"])


def test_an_error_shows_no_control_characters(capsys):
    def main():
        raise InputError("unknown '\x1b[31m' in \udce4")

    with pytest.raises(SystemExit):
        cli.run(main)
    assert capsys.readouterr().err == "error: unknown '\\x1b[31m' in \\udce4\n"


def test_a_config_file_that_does_not_exist():
    with pytest.raises(InputError, match=r"cannot read config file absent\.yaml: No such file"):
        parser().parse(["--config", "absent.yaml"])


def test_a_mistyped_flag_is_not_abbreviated_but_suggested():
    with pytest.raises(UnknownNameError, match="'--num_epoch'; did you mean '--num_epochs'"):
        parser().parse(["--num_epoch", "3"])


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OutputError("cannot write x:\n  full"), 2, "error: cannot write x: full\n"),
        (PermissionError(13, "Permission denied", "x/y"), 2, "error: x/y: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "error: output: No space left on device\n"),
        (TimeoutError("timed out"), 2, "error: timed out\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            MemoryError("Unable to allocate 7.28 TiB for an array"),
            2,
            "error: out of memory: 7.28 TiB for an array could not be allocated; "
            "what helps: fewer rows or more memory\n",
        ),
        (MemoryError(), 2, "error: out of memory; what helps: fewer rows or more memory\n"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: "
                "can't allocate memory: you tried to allocate 40 bytes. Error code 12"
            ),
            2,
            "error: out of memory: 40 bytes could not be allocated; "
            "what helps: fewer rows or more memory\n",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"),
            2,
            "error: out of memory: 20.00 GiB could not be allocated; "
            "what helps: a smaller batch or --device cpu\n",
        ),
    ],
)
def test_errors_are_one_line(capsys, error, status, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    assert exit.value.code == status
    assert capsys.readouterr().err == line


def test_a_programming_error_keeps_its_traceback():
    def main():
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        cli.run(main)


@pytest.mark.parametrize(("status", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_a_main_s_number_is_the_exit_status(status, code):
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: status)
    assert exit.value.code == code


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["probing.py"], "usage: probing.py "),
        (["-m", "src.audit"], "usage: python -m src.audit "),
        (["-m", "src.sweep"], "usage: python -m src.sweep "),
        (["-m", "benchmarks"], "usage: python -m benchmarks "),
        (["-m", "benchmarks.plan"], "usage: python -m benchmarks.plan "),
        (["-m", "benchmarks.parity"], "usage: python -m benchmarks.parity "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_the_usage_is_what_was_typed(command, usage):
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith(usage), done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy(script):
    program = (
        f"import sys, {script}\n"
        "try:\n"
        f"    {script}.main(['--help'])\n"
        "except SystemExit as exit:\n"
        "    assert exit.code == 0\n"
        "heavy = {'torch', 'timm', 'sklearn', 'matplotlib', 'medmnist'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--dataset" in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(database):
    command = f"{sys.executable} {ROOT / 'probing.py'} --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_a_full_disk_for_output_is_one_line(tmp_path):
    program = (
        "import resource; from src import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3))\n"
        "cli.run(lambda: print('result'))\n"
    )
    with (tmp_path / "out").open("w") as output:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=output, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr == b"error: output: File too large\n"


def test_a_name_too_long_for_a_file_is_one_line(tmp_path):
    done = call("probing", "--database_root", tmp_path, "--dataset", "a" * 300)
    assert done.status == 2
    assert done.err.startswith("error: argument --dataset: 'aaaa")
    assert done.err.endswith("' is not a name: it is longer than 200 bytes\n")


WAITING = """
import sys, time
from pathlib import Path
from src import cli
from src.core import files
def main():
    with files.replacing(Path(sys.argv[1])) as part:
        part.write_text("half")
        print("written", flush=True)
        for _ in range(600):  # Python looks at a signal after a call: one just before is late
            time.sleep(0.1)
cli.run(main)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_terminal_that_is_closed_leaves_no_part(tmp_path, number, status):
    target = tmp_path / "mine.txt"
    target.write_text("old")
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == status
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("mine.txt", "old")]
