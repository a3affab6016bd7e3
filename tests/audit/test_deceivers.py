"""Releases that hide what they leak, and releases that leak nothing."""

import numpy as np
import pytest

from benchmarks import deceivers, false_alarms
from benchmarks.deceivers import DECEIVERS, OF_PERSONS, parts

UNSEEN = {"rotated by class", "1 % of the rows, rotated"}  # docs/audit.md says why
QUICK = [
    "copies of 1 % of the rows among draws",
    "copies of one class among draws",
    "copies of outliers among draws",
    "2x + 1",
    "1 - x",
    "dimensions permuted",
    "rotated",
    "rounded to one decimal",
    "1 % of the rows, jittered by 1 %",
    "a memorising generator",
    "the test split",
    "noise that cancels in pairs, 3",
]


def small(rng):
    """900 digits, without the pixels that are always the same."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x[:, np.ptp(x, axis=0) > 8] / 16
    chosen = rng.permutation(len(x))[:1200]
    return parts(x[chosen], y[chosen], rng)


@pytest.mark.parametrize("name", QUICK)
def test_deceivers_are_flagged(name):
    assert deceivers.flagged(small, DECEIVERS[name], 1)[0] == "1 of 1"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*DECEIVERS} - {*QUICK} - UNSEEN))
def test_other_deceivers_are_flagged(name):
    assert deceivers.flagged(deceivers.features, DECEIVERS[name], 2)[0] == "2 of 2"


@pytest.mark.parametrize("name", OF_PERSONS)
def test_deceivers_that_release_persons_are_flagged(name):
    assert deceivers.flagged(deceivers.people, OF_PERSONS[name], 1)[0] == "1 of 1"


@pytest.mark.parametrize("name", ["normal rows", "heavy tails", "few rows", "unequal classes",
                                  "persons of four rows", "k-Same of disjoint rows"])  # fmt: skip
def test_harmless_releases_are_not(name):
    for seed in (500, 501):
        assert false_alarms.leak(false_alarms.HARMLESS[name], seed, 0) is not True


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(false_alarms.HARMLESS))
def test_harmless_releases_are_rarely_called_leaks(name):
    found = [false_alarms.leak(false_alarms.HARMLESS[name], seed, 0) for seed in range(20)]
    assert found.count(True) <= 3


def test_shadow_releases_do_not_make_harmless_rows_a_leak():
    assert false_alarms.leak(false_alarms.HARMLESS["few rows"], 500, 4) is not True
