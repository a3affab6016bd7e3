"""Settings: checked when made, named by what differs from the defaults."""

from dataclasses import dataclass

import pytest

from src.core.errors import InputError, UnknownNameError
from src.core.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Oven(Settings):
    """An oven."""

    trays: int = setting("how many", tag="", minimum=1)
    heat: float = setting("in degrees", 180.0, tag="heat", above=0)
    fan: bool = setting("whether it blows", False, tag="fan")
    timer: float | None = setting("minutes (default: none)", None, minimum=0, fitted=False)


def test_whole_numbers_become_numbers_so_that_equal_values_have_equal_names():
    assert Oven(trays=2, heat=200, timer=5) == Oven(trays=2, heat=200.0, timer=5.0)
    assert type(Oven(trays=2, heat=200).heat) is float
    assert type(Oven(trays=2, timer=5).timer) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trays": 0}, "^--trays 0 is below its minimum, 1$"),
        ({"trays": 1, "heat": 0}, "^--heat 0.0 must be greater than 0$"),
        ({"trays": 1, "timer": -1}, "^--timer -1.0 is below its minimum, 0$"),
        ({"trays": 1, "heat": float("nan")}, "--heat nan must be greater than 0"),
        ({"trays": 1, "heat": float("inf")}, "^--heat inf must be finite$"),
        ({"trays": 1, "timer": float("nan")}, "--timer nan is below its minimum, 0"),
        ({"trays": 1.0}, r"^--trays is 1\.0; it must be a whole number$"),
        ({"trays": True}, "^--trays is True; it must be a whole number$"),
        ({"trays": 1, "heat": True}, "^--heat is True; it must be a number$"),
        ({"trays": 1, "fan": 1}, "^--fan is 1; it must be true or false$"),
        ({"trays": 1, "fan": None}, "^--fan is None; it must be true or false$"),
        ({"trays": 1, "heat": "1e3"}, r"it must be a number$"),
        ({"trays": [1]}, r"^--trays is \[1\]; it must be a whole number$"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        Oven(**values)


def test_parsing_wants_known_names_and_what_has_no_default():
    assert Oven.parse({"trays": 2, "heat": None}, of="oven") == Oven(trays=2)
    with pytest.raises(UnknownNameError, match="unknown setting of oven 'tray'; did you mean"):
        Oven.parse({"tray": 2}, of="oven")
    for values in ({}, {"trays": None}):
        with pytest.raises(InputError, match="^oven needs --trays: how many$"):
            Oven.parse(values, of="oven")


def test_what_differs_from_the_defaults_is_given_and_named():
    assert Oven(trays=2).given == {"trays": 2}
    assert Oven(trays=2).tags == ["2"]
    full = Oven(trays=2, heat=200, fan=True, timer=0.5)
    assert full.given == {"trays": 2, "heat": 200.0, "fan": True, "timer": 0.5}
    assert full.tags == ["2", "heat200", "fan", "timer0.5"]
    close = Oven(trays=2, heat=180.00000000000003)
    assert close.tags == ["2", "heat180.00000000000003"]


def test_a_fit_does_not_depend_on_what_is_not_fitted():
    assert Oven(trays=2, heat=200, timer=5).for_fit() == Oven(trays=2, heat=200)
