"""Settings of a head: what they show in names, and what is refused."""

import pytest

from src.core.errors import InputError, UnknownNameError
from src.probing.settings import HeadSettings


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [
        ({}, ""),
        ({"head": "adam", "clip": None}, ""),
        ({"learning_rate": 0.1, "num_epochs": 3, "batch_size": 8, "patience": 2}, ""),
        ({"head": "logistic"}, "_logistic"),
        ({"clip": 10}, "_clip10"),
        ({"clip": 10.0, "num_epochs": 3}, "_clip10"),
        ({"clip": 2.5}, "_clip2.5"),
        ({"head": "logistic", "clip": 10}, "_logistic_clip10"),
    ],
)
def test_how_a_head_shows_in_a_results_name(settings, suffix):
    assert HeadSettings(**settings).suffix == suffix


def test_the_default_is_the_published_head():
    assert HeadSettings() == HeadSettings(
        head="adam", clip=None, learning_rate=1e-3, num_epochs=100, batch_size=128, patience=5
    )


@pytest.mark.parametrize(
    "given", [{"learning_rate": 0.1}, {"num_epochs": 3}, {"batch_size": 8}, {"patience": 2}]
)
def test_a_setting_of_adam_beside_logistic_is_refused(given):
    ((name, value),) = given.items()
    message = f"^--{name} {value} has no effect with --head logistic$"
    with pytest.raises(InputError, match=message):
        HeadSettings(head="logistic", **given)
    with pytest.raises(InputError, match=message):
        HeadSettings.parse({"head": "logistic", "clip": 10, **given}, of="head")
    assert HeadSettings(head="logistic", **{name: getattr(HeadSettings(), name)}).suffix


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"head": "logit"}, "unknown head 'logit'; did you mean 'logistic'"),
        ({"head": "svm"}, r"unknown head 'svm' \(valid: adam, logistic\)"),
        ({"head": None}, "--head is None"),
        ({"head": 1}, "--head is 1; it must be a name"),
        ({"clip": 0}, "--clip 0.0 must be greater than 0"),
        ({"clip": -1.0}, "--clip -1.0 must be greater than 0"),
        ({"clip": float("nan")}, "--clip nan must be greater than 0"),
        ({"clip": float("inf")}, "--clip inf must be finite"),
        ({"clip": "10"}, "--clip is '10'; it must be a number"),
        ({"clip": True}, "--clip is True; it must be a number"),
    ],
)
def test_what_is_no_head_is_one_line(given, message):
    with pytest.raises(InputError, match=message) as error:
        HeadSettings(**given)
    assert "\n" not in str(error.value)


def test_an_unknown_setting_is_named():
    with pytest.raises(UnknownNameError, match="unknown setting of head 'clp'; did you mean 'cl"):
        HeadSettings.parse({"clp": 10}, of="head")
