"""What is said of metrics, and that it claims no more than they show."""

import numpy as np
import pytest

from src.audit import statistics
from src.audit.measures import MEASURES
from src.audit.statistics import Estimate
from src.audit.verdicts import verdict
from src.database import Splits
from tests.audit.support import ATTACKS, HALF, LEAK, NONE, TOP, audited, blobs, splits


def test_a_shifted_test_split_is_not_reported_as_a_leak():
    data = splits(blobs(600, 2, shift=1.0))
    released = blobs(300, 5)  # of the training distribution, but of none of its rows
    report = audited(data, "gaussian", released=released)
    assert report.metrics["nearest_auc"].value.low > 0.5
    verdicts = {key: row.verdict for key, row in report.metrics.items()}
    assert verdicts["nearest_auc"].startswith("train and test differ"), verdicts
    assert not any(said.startswith("leak") for said in verdicts.values()), verdicts
    exposed = audited(data).metrics["nearest_auc"].verdict
    assert exposed.startswith("train and test differ")
    assert exposed.endswith("the rest may be a leak")
    unshifted = audited(splits(blobs(600, 2)), "gaussian", released=released)
    assert unshifted.metrics["nearest_auc"].verdict.startswith("no leak found")


def test_a_shift_that_one_control_shows_holds_for_every_row():
    data = splits(blobs(600, 2, spread=0.8), train=600)
    released = blobs(600, 5, spread=2.0)  # has seen no row
    rows = audited(data, "gaussian", released=released).metrics
    assert rows["nearest_auc"].chance.high < 0.5  # disjoint rows lie nearer to the test rows
    above = [
        key for key in ATTACKS if (rows[key].value.low or 0) > MEASURES[key].useless
    ]  # would be called leaks by their own values
    assert above
    for key in above:
        assert rows[key].verdict.startswith("train and test differ"), key


@pytest.mark.parametrize(("name", "settings"), [("identity", {}), ("ksame", {"k": 2})])
def test_leaks_are_called_leaks_where_train_and_test_do_not_differ(name, settings):
    for seed in range(3):
        data = Splits(blobs(300, seed), blobs(60, seed + 10), blobs(300, seed + 20))
        rows = audited(data, name, seed=seed, **settings).metrics
        for key in ("nearest_auc", "calibrated_auc", "shadow_auc", "linkability"):
            assert rows[key].verdict.startswith("leak: "), (key, rows[key])


def test_smoother_rows_than_real_ones_are_near_but_no_leak():
    released = blobs(300, 7, spread=0.3)  # has seen no row
    rows = audited(splits(blobs(600, 2), train=600), "gaussian", released=released).metrics
    assert rows["very_near"].value.low > 0.01
    assert rows["very_near"].verdict.startswith("near: ")
    assert rows["very_near"].verdict.endswith("test rows do; averages do that too")
    said = verdict("very_near", Estimate(0.004, 0.0, 0.02), TOP, {}, non_members=500)
    assert said == "not shown near: 0.4% lie closer to a training row than 99% of test rows do"


@pytest.mark.parametrize(
    ("value", "chance", "said"),
    [
        (LEAK, HALF, "leak: members score higher in 80.0% of pairs"),
        (TOP, HALF, "leak: members score higher in 100.0% of pairs, as much as the training rows "
                    "themselves"),
        (NONE, HALF, "no leak found (up to 0.580 not ruled out)"),
        (Estimate(0.4, 0.3, 0.45), HALF, "no leak found; below chance"),
        (Estimate(0.6, 0.53, 0.67), Estimate(0.55, 0.51, 0.59),
         "not told from chance: disjoint real rows give 0.550"),
        (LEAK, Estimate(0.55, 0.51, 0.59), "leak: members score higher in 80.0% of pairs"),
        (LEAK, Estimate(0.75, 0.7, 0.8),
         "train and test differ (0.750 without a leak): cannot tell"),
        (LEAK, Estimate(0.6, 0.56, 0.64),
         "train and test differ (0.600 without a leak): the rest may be a leak"),
        (NONE, Estimate(0.4, 0.36, 0.44),
         "train and test differ (0.400 without a leak): cannot tell, as a leak may be hidden"),
        (Estimate(None), HALF, "n/a: undefined for this release"),
    ],
)  # fmt: skip
def test_verdicts(value, chance, said):
    assert verdict("nearest_auc", value, TOP, {"nearest_auc": chance}, non_members=500) == said


def test_the_auc_of_an_attack_tells_whether_its_other_metrics_are_shifted():
    value, chances = Estimate(0.2, 0.1, 0.3), {"shadow_tpr_at_0.01": Estimate(0.02, 0, 0.05)}
    said = {
        control: verdict(
            "shadow_tpr_at_0.01", value, TOP, {**chances, "shadow_auc": auc}, non_members=500
        )
        for control, auc in (("even", HALF), ("shifted", LEAK))
    }
    assert said["even"] == "leak: finds 20.0% of members"
    assert said["shifted"].startswith("train and test differ (0.020 without a leak)")


@pytest.mark.parametrize(("n", "useless"), [(100, 2 / 101), (240, 3 / 241)])
def test_scores_that_know_nothing_are_rarely_called_a_leak_by_their_tpr(n, useless):
    values, leaks = [], 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        value, chance = (
            statistics.membership(
                draw.normal(size=300),
                draw.normal(size=n),
                fprs=(0.01,),
                bootstrap=statistics.Bootstrap(200, draw),
            ).tpr[0.01]
            for _ in range(2)
        )
        key = "nearest_tpr_at_0.01"
        leaks += verdict(key, value, TOP, {key: chance}, non_members=n).startswith("leak")
        values.append(value.value)
    assert statistics.expected_fpr(0.01, n) == pytest.approx(useless)
    assert np.mean(values) == pytest.approx(useless, abs=3 * np.std(values) / np.sqrt(300))
    assert leaks < 0.05 * 300  # against 1 % FPR 16 of them would be, with 100 non-members


def test_no_verdict_on_utility_speaks_of_privacy():
    for key, row in MEASURES.items():
        if row.useless is None:
            said = verdict(key, LEAK, TOP, {key: HALF}, non_members=500)
            assert said.startswith("utility: ")
            assert "leak" not in said
