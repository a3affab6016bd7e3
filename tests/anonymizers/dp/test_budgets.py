"""The budget: that it is kept, that it is used, and that it depends on no row."""

import numpy as np
import pytest

from src.anonymizers.dp import budgets, dpcvae
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.anonymizers.dp.support import (
    CPU,
    anonymize,
    gaussian_delta,
    google_epsilon,
    mechanisms,
    short,
    without_meta,
)


@pytest.mark.parametrize(("epsilon", "public"), [(2.0, True), (8.0, False)])
def test_epsilon_by_another_accountant(digits, epsilon, public):
    train = digits.train if public else without_meta(digits.train)
    settings = short(epsilon=epsilon)
    facts = dpcvae.fit(train, settings, seed=0, resources=CPU).facts
    assert ("public_bounds" in facts["budget"]["scaling"]) == public
    assert facts["steps"] == 8  # two epochs of a quarter of the rows
    assert facts["epsilon"] <= epsilon
    other = google_epsilon(*mechanisms(facts), delta=facts["delta"])
    assert 0 <= facts["epsilon"] - other < 0.02
    assert other > 0.95 * epsilon  # and the budget is used


def test_a_small_budget_can_be_spent(digits):
    facts = anonymize(digits, epsilon=0.01).meta["facts"]
    assert facts["epsilon"] <= 0.01
    whole = sum(
        1 / (m.noise_multiplier / m.sampling_rate) ** 2 * m.steps for m in mechanisms(facts)
    )
    exact = gaussian_delta(whole**-0.5, facts["epsilon"])  # nearly, with that much noise
    assert 0.5 * facts["delta"] < exact < facts["delta"]


def test_facts_do_not_depend_on_rows(digits):
    rng = np.random.default_rng(0)
    train = EmbeddingSet(
        rng.random((1100, 64), dtype=np.float32), rng.integers(0, 10, 1100), digits.train.meta
    )
    settings = short()
    ours, theirs = (
        dpcvae.fit(data, settings, seed=seed, resources=CPU).facts
        for data, seed in ((digits.train, 0), (train, 1))
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("rows", "delta"), [(1, 0.1), (10, 0.01), (11, 1e-3), (1000, 1e-4), (1293, 1e-5)]
)
def test_the_default_delta_is_below_one_in_ten_n(rows, delta):
    assert budgets.delta(short(), rows) == pytest.approx(delta)
    assert delta * 10 * rows <= 1 + 1e-9


def test_a_delta_that_would_allow_to_release_a_row(digits):
    with pytest.raises(InputError, match=r"--delta 0.001 must be below 1/n: at most 0.0001"):
        anonymize(digits, delta=1e-3)


@pytest.mark.parametrize("rows", [1, 9, 99, 1234, 60_000, 99_999, 100_000])
def test_whether_a_delta_is_refused_tells_of_no_row(rows):
    """Except for the number of digits: with one row more or less, delta stays below 1/n."""
    most = 10.0 ** -len(str(rows))
    assert budgets.delta(short(delta=most), rows) == most < 1 / rows
    for count in {rows, 10 ** (len(str(rows)) - 1), 10 ** len(str(rows)) - 1}:
        assert budgets.delta(short(delta=most), count) == most
        with pytest.raises(InputError, match="must be below 1/n"):
            budgets.delta(short(delta=most * 1.001), count)


def test_facts_say_what_is_public_and_what_is_not_covered(digits):
    facts = anonymize(digits).meta["facts"]
    for word in ("settings", "features", "class names", "digits of the number of rows"):
        assert word in facts["public"]
    for word in ("chosen by results", "validation and test rows", "metrics", "audits", "figures"):
        assert word in facts["not_covered"]
