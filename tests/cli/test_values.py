"""Kinds of values."""

import argparse

import pytest

from src.cli.values import device_name, number, plain_name


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
