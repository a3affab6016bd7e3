"""The Gaussian mechanism in closed form, by other accountants and by hand."""

import math

import dp_accounting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from src.anonymizers.dp import analytic
from src.core.errors import InputError
from tests.anonymizers.dp.support import google_epsilon


def test_delta_of_one_by_hand():
    """σ = 1, ε = 1: Φ(−1/2) − e Φ(−3/2) = 0.308538 − 2.718282 · 0.066807."""
    assert analytic.delta(1.0, 1.0) == pytest.approx(0.308538 - math.e * 0.066807, abs=2e-6)
    assert analytic.delta(2.0, 1e-300) == pytest.approx(2 * norm.cdf(0.25) - 1)


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(1.0, 1e-5), (8.0, 1e-5), (0.1, 1e-6), (50.0, 1e-5), (4.0, 1e-9)]
)
def test_noise_by_another_accountant(epsilon, delta):
    found = analytic.noise_multiplier(epsilon, delta)
    theirs = dp_accounting.get_sigma_gaussian(epsilon, delta)
    assert found == pytest.approx(theirs, rel=1e-6)
    assert found >= theirs * (1 - 1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 100), st.integers(2, 12))
def test_noise_spends_the_budget_and_no_more(epsilon, digits):
    delta = 10.0**-digits
    sigma = analytic.noise_multiplier(epsilon, delta)
    assert analytic.epsilon(sigma, delta) <= epsilon
    assert analytic.epsilon(sigma, delta) >= epsilon * (1 - 1e-6)
    assert analytic.delta(sigma, epsilon) <= delta
    assert analytic.epsilon(sigma / 2, delta) > epsilon  # half the noise is not enough


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(2, 40), min_size=1, max_size=8))
def test_mechanisms_together_by_another_accountant(multipliers):
    ours = analytic.epsilon(analytic.composed(multipliers), 1e-5)
    theirs = google_epsilon(*((multiplier, 1.0, 1) for multiplier in multipliers))
    assert ours == pytest.approx(theirs, rel=0.01, abs=0.005)


def test_what_cannot_be_reached():
    with pytest.raises(InputError, match="--epsilon 1e-300 is too small"):
        analytic.noise_multiplier(1e-300, 1e-10)
