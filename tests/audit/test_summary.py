"""What all looks together say of a release, and when it cannot be told."""

import dataclasses

import numpy as np
import pytest

from src.audit import summary
from src.audit.settings import AuditSettings
from src.database import EmbeddingSet, Splits
from tests.audit.people import crowd, people
from tests.audit.support import audited, blobs, splits

FAST = AuditSettings(shadows=0, bootstrap=20)


def test_an_average_leak_is_called_by_the_strongest_look():
    data = splits(blobs(300, 2))
    noisy = data.train.embeddings + 0.8 * np.random.default_rng(0).normal(size=(300, 8))
    report = audited(
        data, "gaussian", released=EmbeddingSet(noisy.astype("f4"), data.train.labels),
        options=FAST,
    )  # fmt: skip
    found = report.summary
    assert found.leak is True
    assert found.strongest.endswith("_auc")
    assert 0.49 < found.control < found.low < found.value < found.high <= 1
    assert found.ceiling > found.value
    assert found.said[0] == "LEAK: the release tells training rows from others."
    assert f"is {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in found.said[1]
    assert found.said[2].endswith("that takes --shadows 16.")


def test_its_interval_is_wider_than_that_of_the_same_look_alone():
    report = audited(splits(blobs(300, 2)), "gaussian", released=blobs(300, 5), options=FAST)
    found = report.summary
    assert found.leak is False
    assert found.said[0].startswith("No leak found; up to 0.")
    if found.strongest in report.metrics and found.strongest != "worst_class_auc":
        alone = report.metrics[found.strongest].value
        assert found.high - found.low > 1.3 * (alone.high - alone.low)
    assert not any(row.verdict.startswith("leak") for row in report.metrics.values())


def test_a_release_nearer_to_test_rows_tells_of_them():
    data = splits(blobs(300, 2))
    noise = 0.8 * np.random.default_rng(0).normal(size=(300, 8))
    released = EmbeddingSet((data.test.embeddings + noise).astype("f4"), data.test.labels)
    found = audited(data, "gaussian", released=released, options=FAST).summary
    assert found.leak is True
    assert found.value < 0.5
    assert "tells test rows from others" in found.said[0]


def test_where_train_and_test_differ_only_copies_prove_a_leak():
    data = splits(blobs(300, 2, shift=1.0))
    for released, leak in ((blobs(300, 5), None), (data.train, True)):
        report = audited(data, "gaussian", released=released, options=FAST)
        assert report.summary.leak is leak
        table = report.table()
        assert "no leak shown" not in table
        if leak is None:
            assert report.summary.said[0].startswith("CANNOT TELL: train and test differ")
            assert "--one_run" in report.summary.said[2]
            assert "--held_out" in report.summary.said[2]
            assert not any(row.verdict.startswith("leak") for row in report.metrics.values())


def test_few_non_members_can_neither_show_nor_rule_out_a_leak():
    data = splits(blobs(16, 2), train=300)
    found = audited(data, "gaussian", released=blobs(300, 5), options=FAST).summary
    assert found.leak is None
    assert "so few non-members that chance alone reaches" in found.said[0]
    assert "times as many with --held_out" in found.said[2]
    assert audited(data, options=FAST).summary.leak is True


def test_the_worst_class_is_found_behind_a_mean_and_named():
    """One of five classes is released with little noise, four are drawn afresh."""
    data = Splits(
        *(blobs(n, seed, classes=5, dim=20) for n, seed in ((500, 0), (50, 1), (500, 2)))
    )
    other = blobs(500, 5, classes=5, dim=20)
    own = data.train.labels == 3
    noise = 0.9 * np.random.default_rng(0).normal(size=(own.sum(), 20))
    x = np.concatenate((data.train.embeddings[own] + noise, other.embeddings[other.labels != 3]))
    y = np.concatenate((data.train.labels[own], other.labels[other.labels != 3]))
    report = audited(data, "gaussian", released=EmbeddingSet(x.astype("f4"), y), options=FAST)
    assert report.summary.leak is True
    assert report.summary.strongest == "worst_class_auc"
    assert "in class 3" in report.summary.said[1]
    worst = report.metrics["worst_class_auc"]
    assert worst.value.low > 0.6
    assert report.metrics["nearest_auc"].value.value < 0.65


def test_shadows_tell_of_the_most_exposed_behind_the_mean():
    data = splits(blobs(150, 2, dim=12), train=150)
    data = dataclasses.replace(data, train=blobs(150, 0, dim=12))
    options = AuditSettings(shadows=8, bootstrap=20)
    report = audited(data, "ksame", options=options, k=5)
    exposed, mean = (report.metrics[key].value for key in ("exposed_1_auc", "shadow_auc"))
    assert exposed.value > mean.value
    assert report.metrics["exposed_1_auc"].chance.value == pytest.approx(0.5, abs=0.05)
    assert f"AUC of {exposed.value:.3f}" in report.summary.said[2]
    assert report.metrics["rmia_auc"].value.value > 0.5


def test_what_exposes_rows_is_not_cleared_by_a_release_that_shows_nothing():
    """The release holds none of the rows, but the method as stated would."""
    data = splits(blobs(300, 2))
    options = AuditSettings(shadows=12, bootstrap=20)
    found = audited(data, "ksame", released=blobs(300, 5), options=options, k=2).summary
    assert found.leak is None
    assert "but others made like it do" in found.said[0]
    assert "--one_run" in found.said[2]


def test_persons_are_judged_by_person():
    data = crowd(80, 80)
    for released, leak in ((people(80, 9, first=90_000), False), (data.train, True)):
        anonymous = EmbeddingSet(released.embeddings, released.labels)
        found = audited(data, "gaussian", released=anonymous, options=FAST).summary
        assert found.leak is leak or (leak is False and found.leak is None)


def test_a_broken_audit_that_takes_one_look_s_width_would_call_leaks(monkeypatch):
    """The width is what keeps the error rate: without it harmless rows are called leaks."""
    monkeypatch.setattr(summary.looks, "width", lambda looks, level: 1.0)
    said = [
        audited(splits(blobs(150, seed)), "gaussian", released=blobs(300, 50 + seed), options=FAST)
        for seed in (2, 3)
    ]
    assert any(report.summary.leak for report in said)


def test_the_same_seed_says_the_same_and_another_nearly_so():
    data, released = splits(blobs(300, 2)), blobs(300, 5)
    first, again, other = (
        audited(data, "gaussian", released=released, options=FAST, seed=seed).summary
        for seed in (0, 0, 1)
    )
    assert first == again
    assert other.leak is not True
