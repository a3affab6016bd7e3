import sys

import numpy as np
import pytest

from src.anonymizers.dp import accounting
from src.anonymizers.dp.accounting import Mechanism
from src.core.errors import InputError, MissingPackageError
from tests.anonymizers.dp.support import gaussian_delta, google_epsilon


def opacus_epsilon(*mechanisms, delta=1e-5):
    return accounting.epsilon(accounting.accountant(mechanisms), delta)


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.73, 20.0])
def test_one_gaussian_mechanism_by_its_closed_form(multiplier):
    stated = opacus_epsilon(Mechanism(multiplier))
    assert gaussian_delta(multiplier, stated) <= 1e-5  # what is stated holds
    assert gaussian_delta(multiplier, stated - 0.03) > 1e-5  # and hardly less would


def test_four_gaussian_mechanisms_are_one_with_half_the_noise():
    assert opacus_epsilon(Mechanism(4.0, steps=4)) == pytest.approx(
        opacus_epsilon(Mechanism(2.0)), abs=0.01
    )


@pytest.mark.parametrize(
    "mechanisms",
    [
        (Mechanism(1.2, 0.1, 300),),
        (Mechanism(16.8), Mechanism(13.8, 0.25, 400)),
        (Mechanism(2.7), Mechanism(4.0, steps=3), Mechanism(2.3, 0.25, 200)),
        (Mechanism(10.0), Mechanism(0.8, 0.02, 1000)),
        (Mechanism(5.0), Mechanism(30.0, 1.0, 100)),
    ],
)
def test_an_accountant_that_is_not_opacus_agrees(mechanisms):
    assert 0 <= opacus_epsilon(*mechanisms) - google_epsilon(*mechanisms) < 0.02


@pytest.mark.parametrize("target", [0.1, 1.0, 16.0])
def test_the_noise_spends_the_budget_and_no_more(target):
    beside = (Mechanism(40.0 / target),)
    multiplier = accounting.noise_multiplier(
        target, 1e-6, sampling_rate=0.2, steps=50, beside=beside
    )
    spent = google_epsilon(*beside, Mechanism(multiplier, 0.2, 50), delta=1e-6)
    assert 0.85 * target < spent <= target


@pytest.mark.parametrize("steps", [1, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("multiplier", [0.5, 10.0])
def test_rounding_is_part_of_the_bound(multiplier, steps):
    """Many steps without sampling are one with less noise, whose delta is known exactly."""
    for delta in (1e-5, 1e-8, accounting.smallest_delta(steps)):
        many = Mechanism(multiplier * steps**0.5, steps=steps)
        stated = accounting.epsilon(accounting.accountant((many,)), delta)
        assert gaussian_delta(multiplier, stated) <= delta
    assert accounting.epsilon(accounting.accountant((many,)), 0.99 * delta) == np.inf


def test_what_would_take_too_long_has_a_wider_bound(monkeypatch):
    def stated(steps):
        many = Mechanism(2.0 * steps**0.5, steps=steps)
        return accounting.epsilon(accounting.accountant((many,)), 1e-5, eps_error=1e-3)

    exact = stated(1)
    assert exact < stated(1_000_000) < exact + 0.2
    assert accounting.epsilon(accounting.accountant((Mechanism(0.01),)), 1e-5) == np.inf


def test_a_delta_that_is_too_small_for_the_accountant():
    with pytest.raises(InputError, match=r"--delta 1e-13 is too small.* below 5e-13 over 100 st"):
        accounting.noise_multiplier(1.0, 1e-13, steps=100)


def test_a_budget_that_is_spent_already():
    with pytest.raises(InputError, match="--epsilon 1 is too small"):
        accounting.noise_multiplier(1.0, 1e-5, beside=(Mechanism(1.0),))


def test_without_opacus_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(MissingPackageError, match=r"pip install -r requirements-dp.txt"):
        accounting.accountant()


@pytest.mark.parametrize(("target", "error"), [(16.0, 0.01), (0.2, 0.01), (0.01, 0.0005)])
def test_the_error_of_the_accountant_is_small_beside_the_target(target, error):
    assert accounting.tolerance(target) == pytest.approx(error)
