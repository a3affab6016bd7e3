import argparse
import subprocess
import sys

import pytest

from src import cli
from src.anonymizers import ANONYMIZERS
from src.errors import InputError, OutputError, UnknownNameError
from tests.conftest import ROOT, call

SCRIPTS = ["create_db", "anonymize", "probing", "probing_noise", "probing_noise_cvae"]


def parser():
    made = cli.Parser("a test")
    cli.add_head_flags(made)
    cli.add_anonymizer_flags(made, online=False, default="identity", only_tagged=True)
    return made


def test_the_command_line_wins_over_the_config_file(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("num_epochs: 7\nbatch_size: 9\nanonymizer: kSAME\nk: 3\nper_class: true\n")
    args = parser().parse(["--num_epochs", "5", "--config", str(config)])
    assert (args.num_epochs, args.batch_size) == (5, 9)
    entry, settings = cli.chosen_anonymizer(args, online=False)
    assert entry.release_id(settings, 0) == "ksame-3-perclass"
    args = parser().parse(["--config", str(config), "--no-per_class"])
    assert cli.chosen_anonymizer(args, online=False)[1].per_class is False


@pytest.mark.parametrize(
    ("text", "argv", "release"),
    [
        ("anonymizer: ksame\nk: 3", "--anonymizer cvae", "cvae-s0"),
        ("anonymizer: ksame\nk: 3", "--anonymizer KSAME --per_class", "ksame-3-perclass"),
        ("k: 3", "--anonymizer ksame", "ksame-3"),
        ("anonymizer: ksame\nk: 3", "--release x", "x"),
        ("k: 3", "--release x", "x"),
        ("release: x", "--anonymizer ksame --k 5", "ksame-5"),
    ],
)
def test_the_command_line_s_anonymizer_or_release_wins(tmp_path, text, argv, release):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    made = cli.probing_parser("a test", output_root="")
    args = made.parse(["--config", str(config), *argv.split()])
    if args.release is None:
        entry, settings = cli.chosen_anonymizer(args, online=False)
        assert entry.release_id(settings, 0) == release
    else:
        cli.forbid_settings(args, "no setting of the config is left")
        assert args.release == release


def test_a_negative_number_in_a_config_file_is_no_flag(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("learning_rate: -1.0e-05")
    with pytest.raises(InputError, match="-1e-05 is not greater than 0"):
        parser().parse(["--config", str(config)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_epochs: 2024-13-45", "is not YAML: month must be in 1..12"),
        ("num_epoch: 7", "unknown config key 'num_epoch'; did you mean 'num_epochs'"),
        ("num_epochs: seven", "'seven' is not a whole number"),
        ("quiet: 1", "quiet is 1; it must be true or false"),
        ("- a\n- b", "must hold 'name: value' lines, not a list"),
        ("a: [", "is not YAML"),
        ("config: other.yaml", "unknown config key 'config'"),
    ],
)
def test_config_files_that_cannot_be_used(tmp_path, text, message):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        parser().parse(["--config", str(config)])


def test_a_config_file_that_is_not_there():
    with pytest.raises(InputError, match=r"cannot read config file absent\.yaml: No such file"):
        parser().parse(["--config", "absent.yaml"])


def test_a_mistyped_flag_is_not_abbreviated_but_suggested():
    with pytest.raises(UnknownNameError, match="'--num_epoch'; did you mean '--num_epochs'"):
        parser().parse(["--num_epoch", "3"])


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_numbers_are_finite_and_in_range(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.number(float, minimum=0)(text)


def test_whole_numbers_are_those_of_64_bits():
    assert cli.number(int)(str(2**63 - 1)) == 2**63 - 1
    with pytest.raises(argparse.ArgumentTypeError, match="is above 9223372036854775807"):
        cli.number(int, minimum=1)(str(2**63))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b"])
def test_a_dataset_name_is_no_path(name):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.plain_name(name)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_device_names(name):
    assert cli.device_name(name) == name


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU"])
def test_device_names_that_are_none(name):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.device_name(name)


def test_a_setting_of_another_anonymizer_is_an_error():
    args = parser().parse(["--anonymizer", "identity", "--k", "3"])
    with pytest.raises(InputError, match="--k is no setting of identity"):
        cli.chosen_anonymizer(args, online=False)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OutputError("cannot write x:\n  full"), 2, "error: cannot write x: full\n"),
        (PermissionError(13, "Permission denied", "x/y"), 2, "error: x/y: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "error: output: No space left on device\n"),
        (TimeoutError("timed out"), 2, "error: timed out\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_are_one_line(capsys, error, status, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    assert exit.value.code == status
    assert capsys.readouterr().err == line


def test_every_setting_is_a_flag_with_help(capsys):
    made = cli.Parser("a test")
    cli.add_anonymizer_flags(made, online=False)
    with pytest.raises(SystemExit):
        made.parse(["--help"])
    text = capsys.readouterr().out
    for entry in ANONYMIZERS.values():
        if not entry.online:
            for name in entry.settings.__dataclass_fields__:
                assert f"--{name}" in text


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
    assert done.err.startswith("error: ")
    assert done.err.endswith("aaa/vit_base_patch14_dinov2.lvd142m: File name too long\n")
