"""Permuted memberships: chance and spread of one look, and of the farthest of many."""

import numpy as np
import pytest

from src.audit import looks
from src.audit.looks import Look
from src.audit.statistics import Estimate

ONE = np.zeros(60, dtype=np.int64)


def seen(scores, members, labels, seed=0):
    return looks.of_scores(scores, members, labels, np.random.default_rng(seed))


def test_the_auc_its_chance_and_its_spread():
    scores = np.random.default_rng(0).normal(size=60)
    scores[:20] += 1
    found, classes = seen({"a": scores}, 20, ONE)
    auc = np.mean(scores[:20, None] > scores[20:])
    assert found["a"].value == pytest.approx(auc)
    assert found["a"].chance == pytest.approx(0.5, abs=0.01)
    assert found["a"].spread == pytest.approx(np.sqrt(61 / (12 * 20 * 40)), rel=0.08)
    assert classes == {}  # one class is all of them


def test_ties_count_half_and_scores_that_are_all_equal_say_nothing():
    found, _ = seen({"a": np.zeros(60), "b": np.repeat([1.0, 0.0, -np.inf], 20)}, 20, ONE)
    assert found["a"][:3] == (0.5, 0.5, 0.0)
    assert found["a"].off == 0
    assert found["b"].value == 1


def test_classes_of_unequal_shares_are_chance_not_a_leak():
    """Members are of class 0 more often, and class 0 scores higher."""
    rng = np.random.default_rng(0)
    labels = np.concatenate((rng.random(400) < 0.3, rng.random(200) < 0.7)).astype(np.int64)
    found, _ = seen({"a": rng.normal(size=600) - 3 * labels}, 400, labels)
    assert found["a"].value > 0.6
    assert abs(found["a"].off) < 3


def test_a_class_is_looked_at_where_it_has_two_of_each():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 2, 2, 2])
    found = seen({"a": np.arange(12.0)}, 6, labels)[1]
    assert set(found) == {("a", 0)}  # class 1 has one non-member, class 2 no member
    assert found["a", 0].value == 0


def test_the_width_is_that_of_the_farthest_of_all():
    rng = np.random.default_rng(0)
    one = looks.look(0.6, 0.5 + 0.05 * rng.normal(size=1000))
    assert looks.width([one], 0.05) == pytest.approx(1.96, abs=0.1)
    many = [looks.look(0.5, rng.normal(size=1000)) for _ in range(100)]
    assert looks.width(many, 0.05) == pytest.approx(3.48, abs=0.2)  # of 100 independent ones
    assert looks.width([one] * 100, 0.05) == looks.width([one], 0.05)  # of 100 equal ones


def test_an_estimate_stays_within_0_and_1_and_the_larger_error_counts():
    look = Look(0.9, 0.5, 0.04, 0.1, np.zeros(1))
    assert look.estimate(2) == Estimate(0.9, pytest.approx(0.7), 1.0)
    assert looks.look(0.9, np.array([0.4, 0.6]), 0.3).error == 0.3
    assert looks.look(0.9, np.array([0.4, 0.6]), 0.05).error == pytest.approx(0.1)


def test_the_farthest_look_is_the_one_above_chance():
    far = {
        "low": looks.look(0.1, np.array([0.4, 0.6])),
        "high": looks.look(0.7, np.array([0.4, 0.6])),
    }
    assert looks.farthest(far) == "high"


@pytest.mark.parametrize("n", [(8, 6), (40, 12)])
def test_few_heavy_tailed_scores_in_many_looks_stray_as_rarely_as_they_may(n):
    strays = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=sum(n))
        scores = {str(k): rng.standard_cauchy(size=sum(n)) for k in range(8)}
        found, classes = seen(scores, n[0], labels, seed)
        every = [*found.values(), *classes.values()]
        width = looks.width(every, 0.05)
        strays += any(abs(look.off) > width for look in every)
    assert strays <= 12  # 6 expected; more than 12 in one of 200 such tests


def test_one_look_at_the_time_would_stray_far_too_often():
    strays = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = {str(k): rng.normal(size=60) for k in range(20)}
        found, _ = seen(scores, 20, ONE, seed)
        strays += any(abs(look.off) > looks.NORMAL for look in found.values())
    assert strays > 5
