"""Kinds of values."""

import argparse
from pathlib import Path

import pytest

from src.cli.values import (
    PICTURES,
    backbone_name,
    device_name,
    new_folder,
    number,
    output_file,
    path,
    plain_name,
)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_numbers_are_finite_and_in_range(text):
    with pytest.raises(argparse.ArgumentTypeError):
        number(float, minimum=0)(text)


@pytest.mark.parametrize(
    ("limits", "text", "message"),
    [
        ({}, "1.5", "'1.5' is not a whole number"),
        ({"minimum": 2}, "1", "1 is below 2"),
        ({"above": 0}, "0", "0 is not greater than 0"),
    ],
)
def test_what_is_wrong_with_a_number_is_said(limits, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        number(int, **limits)(text)


def test_whole_numbers_are_those_of_64_bits():
    assert number(int)(str(2**63 - 1)) == 2**63 - 1
    with pytest.raises(argparse.ArgumentTypeError, match="is above 9223372036854775807"):
        number(int, minimum=1)(str(2**63))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b"])
def test_a_dataset_name_is_not_a_path(name):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a name"):
        plain_name(name)
    assert plain_name("a.b-c") == "a.b-c"


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_device_names(name):
    assert device_name(name) == name


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU"])
def test_names_that_are_not_devices(name):
    with pytest.raises(argparse.ArgumentTypeError):
        device_name(name)


def test_what_is_wrong_with_a_name_or_a_place_is_said_after_the_flag_s_name(tmp_path):
    (tmp_path / "x.png").write_text("notes")
    for kind, text, message in (
        (plain_name, "../x", "'../x' is not a name: it is a path"),
        (backbone_name, "a/..", "'a/..' is not a name: it begins or ends"),
        (path, "", "a path cannot be empty"),
        (output_file(PICTURES), f"{tmp_path}/x.txt", "must end in one of .pdf, .png, .svg"),
        (output_file(PICTURES), f"{tmp_path}/x.png", "exists and holds something else"),
        (new_folder, str(tmp_path), "it exists and is not empty"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            kind(text)


def test_names_and_places_that_can_be_used(tmp_path):
    assert backbone_name("hf-hub:owner/name") == "hf-hub:owner/name"
    assert path("a/b") == Path("a/b")
    assert output_file(PICTURES)(f"{tmp_path}/x.svg") == tmp_path / "x.svg"
    assert new_folder(f"{tmp_path}/new/x") == tmp_path / "new" / "x"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_pictures_begin_as_they_are_expected_to(tmp_path, kind):
    from matplotlib.figure import Figure

    picture = tmp_path / f"x.{kind}"
    Figure().savefig(picture)
    assert picture.read_bytes().startswith(PICTURES[f".{kind}"])
    assert output_file(PICTURES)(str(picture)) == picture
