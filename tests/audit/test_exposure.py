"""What shadow releases say of single records."""

import numpy as np
import pytest

from src.audit import exposure, units
from tests.audit.support import rows


def halves(shadows, n, seed=0):
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(shadows // 2):
        half = rng.permutation(n) < n // 2
        inside += [half, ~half]
    return np.stack(inside)


def people(n):
    return units.of(rows(np.arange(n)))


def test_few_exposed_records_are_found_behind_a_mean_that_shows_nothing():
    inside = halves(16, 400)
    scores = np.random.default_rng(1).normal(size=inside.shape)
    scores[:, :4] += 50 * inside[:, :4]  # 1 % of the records give themselves away
    found = exposure.exposed(scores, inside, people(400), np.random.default_rng(2))
    assert found["exposed_1_auc"].value == 1
    assert found["exposed_1_auc"].off > 4
    assert 0.5 < found["exposed_5_auc"].value < 0.8


def test_having_been_chosen_makes_nobody_exposed():
    values = []
    for seed in range(12):
        inside = halves(16, 200, seed)
        scores = np.random.default_rng(seed).standard_t(2, size=inside.shape)
        found = exposure.exposed(scores, inside, people(200), np.random.default_rng(seed))
        values.append([look.off for look in found.values()])
    strays = np.abs(values) > 2.6
    assert np.mean(values) == pytest.approx(0, abs=0.6)
    assert strays.mean() < 0.1


def test_measuring_by_the_shadows_that_chose_would_expose_somebody(monkeypatch):
    inside = halves(16, 200)
    scores = np.random.default_rng(0).normal(size=inside.shape)
    order = np.argsort(-exposure._gaps(scores, inside))[:10]
    assert exposure._record_aucs(scores[:, order], inside[:, order]).mean() > 0.75
    found = exposure.exposed(scores, inside, people(200), np.random.default_rng(0))
    assert found["exposed_5_auc"].value < 0.65


def test_too_few_shadows_expose_nobody():
    inside = halves(2, 10)
    assert exposure.exposed(np.zeros((2, 10)), inside, people(10), np.random.default_rng(0)) == {}


def test_a_persons_rows_count_together():
    whose = np.array([0, 0, 1, 1])
    data = rows(np.zeros(4))
    everyone = units.of(type(data)(data.embeddings, data.labels, persons=whose))
    inside = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 2, dtype=bool)
    scores = np.where(inside, 1.0, 0.0) + np.array([0, 5, 0, 5])
    found = exposure.exposed(scores, inside, everyone, np.random.default_rng(0))
    assert found["exposed_5_auc"].value == 1


def test_relative_likelihoods_by_hand():
    """s = exp(-d / τ) with τ = 1: ratios e^0/(mean of e^-1, e^-1) = e, and e^-1/e^-1 = 1."""
    shadows = np.array([[-1.0, -1.0], [-1.0, -1.0]])
    found = exposure.relative_likelihoods(np.array([0.0, -1.0]), shadows)
    assert list(found) == [1.0, 0.5]


def test_a_label_that_releases_lack_is_no_error():
    shadows = np.array([[-np.inf, -1.0], [-np.inf, -2.0]])
    found = exposure.relative_likelihoods(np.array([-np.inf, -1.0]), shadows)
    assert found[1] > found[0]
