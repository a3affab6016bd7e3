"""The flags that scripts and tools share, and what they give."""

import dataclasses

import pytest

from src import cli
from src.anonymizers import methods
from src.core.errors import InputError
from src.probing.settings import HeadSettings
from tests.support import call


def parser():
    made = cli.Parser("a test")
    cli.add_seed_flag(made)
    cli.add_settings_flags(made, HeadSettings, num_epochs="e")
    cli.add_release_flags(made)
    return made


@pytest.mark.parametrize(
    ("argv", "release"),
    [
        ("", "identity"),
        ("--anonymizer kSAME --k 5", "ksame-5"),
        ("--anonymizer cvae --variance 0.5 --seed 3", "cvae-var0.5-s3"),
        ("--anonymizer cvae --fit_num_epochs 3 -e 7 --seed 3", "cvae-num_epochs3-s3"),
        ("--release mine --seed 3", "mine"),
    ],
)
def test_flags_name_a_release(argv, release):
    assert cli.release_id(parser().parse(argv.split())) == release


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--anonymizer identity --k 3", r"unknown setting of identity 'k' \(valid: none\)"),
        ("--anonymizer cvae --k 3", "unknown setting of cvae 'k'.*valid: .*kl_weight"),
        ("--anonymizer ksme", "unknown anonymizer 'ksme'; did you mean 'ksame'"),
        ("--anonymizer ksame", "ksame needs --k: rows per group, at least 2"),
        ("--release mine --k 3", "--k 3 has no effect: --release names a file"),
        ("--release mine --anonymizer ksame", "not allowed with"),
    ],
)
def test_flags_that_name_no_release(argv, message):
    with pytest.raises(InputError, match=message):
        cli.release_id(parser().parse(argv.split()))


def test_only_what_is_given_is_among_the_settings():
    args = parser().parse(["--anonymizer", "ksame", "--k", "3", "--per_class"])
    assert args.settings == {"k": 3, "per_class": True}
    assert parser().parse([]).settings == {}


def test_a_settings_class_is_a_group_of_flags():
    args = parser().parse(["-e", "7", "--batch_size", "9"])
    assert cli.settings_of(args, HeadSettings) == HeadSettings(num_epochs=7, batch_size=9)
    for argv, message in (
        (["--num_epochs", "0"], "--num_epochs 0 is below its minimum, 1"),
        (["--learning_rate", "0"], "--learning_rate 0.0 must be greater than 0"),
    ):
        with pytest.raises(InputError, match=message):
            cli.settings_of(parser().parse(argv), HeadSettings)


def test_every_setting_is_a_flag_with_help(capsys):
    made = cli.Parser("a test")
    cli.add_anonymizer_flags(made, methods.ALL)
    with pytest.raises(SystemExit):
        made.parse(["--help"])
    text = capsys.readouterr().out
    for method in methods.ALL.values():
        assert method.name in text
        for field in dataclasses.fields(method):
            assert f"--{field.name}" in text
    assert "(default: 256 cvae, " in " ".join(text.split())  # hidden_dim, which differs


def test_a_setting_whose_flag_is_taken_has_another(capsys):
    with pytest.raises(SystemExit):
        parser().parse(["--help"])
    text = capsys.readouterr().out
    assert "--fit_num_epochs" in text
    assert "--fit_variance" not in text
    with pytest.raises(InputError, match="--sigma"):
        made = cli.Parser("a test")
        cli.add_sigma_flag(made)
        made.parse([])


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (
            "probing",
            ["--anonymizer", "cvae", "--fit_num_epochs", 0],
            "--fit_num_epochs 0 is below",
        ),
        ("probing", ["--anonymizer", "cvae", "--num_epochs", 0], "--num_epochs 0 is below"),
        ("probing", ["--release", "x", "--fit_clip", 3], "--fit_clip 3.0 has no effect"),
        ("probing_noise_cvae", ["--sigma", 1, "--fit_patience", 0], "--fit_patience 0 is below"),
        ("anonymize", ["--anonymizer", "cvae", "--num_epochs", 0], "--num_epochs 0 is below"),
    ],
)
def test_an_error_names_the_flag_that_was_typed(script, flags, message):
    done = call(script, *flags)
    assert done.status == 2
    assert done.err.startswith(f"error: {message}")


def test_shared_flags_have_the_defaults_of_the_contract():
    made = cli.Parser("a test")
    cli.add_data_flags(made)
    cli.add_seed_flag(made)
    cli.add_device_flag(made)
    cli.add_images_flag(made)
    cli.add_folder_flag(made, "--output_root", "assets/logs", "results")
    args = made.parse([])
    assert {name: str(value) for name, value in vars(args).items()} == {
        "config": "None",
        "quiet": "False",
        "settings": "{}",
        "dataset": "digits",
        "backbone": "vit_base_patch14_dinov2.lvd142m",
        "database_root": "assets/database",
        "dataset_root": "assets/data",
        "seed": "42",
        "device": "auto",
        "output_root": "assets/logs",
    }
