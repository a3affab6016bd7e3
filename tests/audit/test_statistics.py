"""Metrics of an audit: hand-computed values, scikit-learn's, and what intervals must hold."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score, roc_curve

from src.audit import statistics
from src.audit.statistics import Bootstrap, Estimate

SCORES = arrays(
    np.float64, st.integers(2, 30), elements=st.integers(-4, 4) | st.just(-np.inf)
)  # few levels: many ties


def rng(seed=0):
    return np.random.default_rng(seed)


def bootstrap(repetitions=20, seed=0):
    return Bootstrap(repetitions, rng(seed))


def metrics(members, non_members, fprs=(), repetitions=50):
    return statistics.membership(
        np.asarray(members, float),
        np.asarray(non_members, float),
        fprs=fprs,
        bootstrap=bootstrap(repetitions),
    )


def test_auc_by_hand():
    # of the nine pairs six are won, one is equal: (6 + 1/2) / 9
    assert metrics([1, 3, 4], [0, 1, 3.5]).auc.value == pytest.approx(6.5 / 9)


@given(SCORES, SCORES)
def test_auc_and_roc_are_scikit_learns(members, non_members):
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    scores = np.maximum(np.concatenate((members, non_members)), -9)  # it takes no infinity
    auc = metrics(members, non_members, repetitions=1).auc.value
    assert auc == pytest.approx(roc_auc_score(truth, scores))
    curve = statistics.roc(scores[truth == 1], scores[truth == 0])
    for ours, theirs in zip(curve, roc_curve(truth, scores, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs)


@given(SCORES, SCORES, st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_tpr_is_the_best_that_the_curve_has_at_that_fpr(members, non_members, fpr):
    curve = statistics.roc(members, non_members)
    estimate = metrics(members, non_members, (fpr,), repetitions=1).tpr[fpr]
    if fpr * len(non_members) < 1:
        assert estimate == Estimate(None)
    else:
        assert estimate.value == pytest.approx(curve.tpr[curve.fpr <= fpr + 1e-12].max())


def test_tpr_by_hand_with_ties():
    # at 25 % one of four non-members may be accused, but the best two tie: the threshold is above
    found = metrics([5, 4, 3, 0], [3, 3, 1, 0], (0.25, 0.5, 0.2)).tpr
    assert found[0.25].value == 0.5
    assert found[0.5].value == 0.75
    assert found[0.2] == Estimate(None)


@pytest.mark.parametrize("n", [50, 100, 1000])
def test_a_rate_of_exactly_one_row_is_resolved_and_a_smaller_one_is_not(n):
    scores = np.arange(n)
    found = metrics(scores + n, scores, (1 / n, 0.99 / n)).tpr
    assert found[1 / n].value == 1
    assert found[0.99 / n] == Estimate(None)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        metrics([1, np.nan], [0, 1])


def test_balanced_accuracy_of_separated_scores_is_1_and_of_useless_ones_a_half():
    assert metrics(np.arange(10) + 100.0, np.zeros(10)).balanced_accuracy.value == 1
    useless = [
        statistics.balanced_accuracy(
            rng(seed).normal(size=60),
            rng(seed + 1000).normal(size=40),
            bootstrap=bootstrap(1, seed),
        ).value
        for seed in range(400)
    ]
    # the best threshold on the judged rows themselves would give about 0.58 here
    assert np.mean(useless) == pytest.approx(0.5, abs=0.01)


def test_intervals_of_means_have_the_known_width():
    sample = np.repeat([0.0, 1.0], 200)
    estimate = statistics.of_means(lambda p: p, sample, bootstrap=bootstrap(4000))
    assert estimate.value == 0.5
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.05)


def test_a_metric_that_is_not_defined_has_no_estimate():
    estimate = statistics.of_means(
        lambda p: np.full_like(p, np.nan), np.ones(3), bootstrap=bootstrap(5)
    )
    assert estimate == Estimate(None)


def test_share_below_quantile_by_hand():
    references = np.arange(101.0)  # the 10 % quantile is 10
    share = statistics.share_below_quantile(
        np.array([10.0, 10.1, 9.0, 50.0]),
        references,
        0.1,
        whose=np.arange(101),
        bootstrap=bootstrap(20),
    )
    assert share.value == 0.5
    few = statistics.share_below_quantile(
        np.ones(4), np.ones(9), 0.1, whose=np.arange(9), bootstrap=bootstrap(20)
    )
    assert few == Estimate(None)


def test_a_quantile_is_of_rows_and_its_interval_of_units():
    draw = rng(5)
    whose = np.repeat(np.arange(150), 4)
    references = np.repeat(draw.normal(size=150), 4) + 0.01 * draw.normal(size=600)
    values = draw.normal(size=4000)
    by_unit, by_row = (
        statistics.share_below_quantile(
            values, references, 0.1, whose=numbers, bootstrap=bootstrap(300)
        )
        for numbers in (whose, np.arange(600))
    )
    assert by_unit.value == by_row.value
    assert by_unit.high - by_unit.low > 1.4 * (by_row.high - by_row.low)  # about twice
    few = statistics.share_below_quantile(
        values, references, 0.005, whose=whose, bootstrap=bootstrap(20)
    )
    assert few == Estimate(None)


def test_no_hit_at_all_does_not_rule_out_three_in_n():
    share = statistics.share_below_quantile(
        np.full(60, 9.0), np.zeros(200), 0.01, whose=np.arange(200), bootstrap=bootstrap(20)
    )
    assert share == Estimate(0, 0, 3 / 60)
    missed = metrics(np.zeros(30), np.ones(100), (0.01,)).tpr[0.01]
    assert missed == Estimate(0, 0, 0.1)
    assert metrics(np.ones(30), np.zeros(100), (0.01,)).tpr[0.01] == Estimate(1, 0.9, 1)


@pytest.mark.parametrize("sizes", [(100, 100), (600, 120)])
def test_intervals_of_useless_scores_contain_chance_as_often_as_they_say(sizes):
    held = np.zeros(2)
    for seed in range(200):
        draw = rng(seed)
        found = statistics.membership(
            draw.normal(size=sizes[0]),
            draw.normal(size=sizes[1]),
            fprs=(),
            bootstrap=Bootstrap(300, draw),
        )
        held += [e.low <= 0.5 <= e.high for e in (found.auc, found.balanced_accuracy)]
    assert (held >= 0.91 * 200).all()
    assert (held <= 0.99 * 200).all()


def test_the_interval_of_an_auc_is_that_of_hanley_and_mcneil():
    draw = rng(3)
    n, auc = 500, 0.760  # of normal scores one standard deviation apart: Phi(1 / sqrt(2))
    found = metrics(draw.normal(1, 1, n), draw.normal(0, 1, n), repetitions=1000).auc
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    deviation = np.sqrt((auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2)) / n**2)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_a_thousand_repetitions_are_quick():
    draw = rng()
    started = time.process_time()
    metrics(draw.normal(0.5, 1, 3000), draw.normal(size=1000), (0.01,), repetitions=1000)
    assert time.process_time() - started < 3  # about 0.4 on one core


def test_dp_bound_by_hand():
    bound = statistics.tpr_bound(np.array([0.0, 0.1, 0.6, 1.0]), np.log(2), 0.05)
    # 2·FPR + 0.05 below, 1 - (0.95 - FPR) / 2 above, never more than 1
    np.testing.assert_allclose(bound, [0.05, 0.25, 0.825, 1.0])


@given(st.floats(0, 5))
def test_dp_bound_holds_for_randomised_response_and_is_reached_by_it(epsilon):
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    bound = statistics.tpr_bound(np.array([1 - truth]), epsilon, 0.0)
    np.testing.assert_allclose(bound, [truth])
