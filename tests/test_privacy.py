import math
import sys

import dp_accounting
import pytest
from dp_accounting import pld
from scipy.stats import norm

from src import privacy
from src.errors import InputError, MissingPackageError
from src.privacy import Mechanism


def opacus_epsilon(*mechanisms, delta=1e-5):
    return privacy.epsilon(privacy.accountant(mechanisms), delta)


def google_epsilon(*mechanisms, delta=1e-5):
    """The same by Google's accountant, which composes privacy losses in both directions."""
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3
    )
    for multiplier, rate, steps in mechanisms:
        event = dp_accounting.GaussianDpEvent(multiplier)
        if rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(rate, event)
        accountant.compose(event, steps)
    return accountant.get_epsilon(delta)


def gaussian_delta(multiplier, epsilon):
    """Of one Gaussian mechanism, exactly (Balle and Wang, ICML 2018, theorem 8)."""
    shift = 1 / (2 * multiplier)
    return norm.cdf(shift - epsilon * multiplier) - math.exp(epsilon) * norm.cdf(
        -shift - epsilon * multiplier
    )


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
    multiplier = privacy.noise_multiplier(target, 1e-6, sampling_rate=0.2, steps=50, beside=beside)
    spent = google_epsilon(*beside, Mechanism(multiplier, 0.2, 50), delta=1e-6)
    assert 0.85 * target < spent <= target


def test_a_budget_that_is_spent_already():
    with pytest.raises(InputError, match="--epsilon 1 is too small"):
        privacy.noise_multiplier(1.0, 1e-5, beside=(Mechanism(1.0),))


def test_without_opacus_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(MissingPackageError, match=r"pip install -r requirements-dp.txt"):
        privacy.accountant()
