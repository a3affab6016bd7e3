"""Released rows that are real rows."""

import dataclasses

import numpy as np
import pytest

from src.audit import copies
from src.audit.settings import AuditSettings
from src.database import EmbeddingSet
from tests.audit.support import CPU, audited, blobs, rows, splits

FAST = AuditSettings(shadows=0, bootstrap=20)


def with_copies(draws, real, numbers, noise=0.0):
    """Harmless draws, and real rows after them, perhaps moved a little."""
    rng = np.random.default_rng(0)
    moved = real.embeddings[numbers] + noise * rng.normal(size=(len(numbers), real.dim))
    return EmbeddingSet(
        np.concatenate((draws.embeddings, moved.astype("f4"))),
        np.concatenate((draws.labels, real.labels[numbers])),
    )


def test_how_near_the_nearest_row_is_against_the_next():
    real = rows([0.0, 1.0, 10.0])
    found = copies.nearness(rows([1.0, 0.25, 4.0]), real, CPU)
    assert list(found.nearest) == [1, 0, 1]
    assert found.distances == pytest.approx([0, 0.25, 3])
    assert found.ratios == pytest.approx([0, 0.25 / 0.75, 3 / 4])
    alone = copies.nearness(real, real, CPU, own=np.arange(3))
    assert alone.ratios == pytest.approx([1 / 10, 1 / 9, 9 / 10])


def test_the_next_row_is_another_persons_and_copies_of_one_row_are_one():
    real = dataclasses.replace(rows([0.0, 0.1, 1.0, 1.0]), persons=np.array([0, 0, 1, 2]))
    found = copies.nearness(rows([0.25, 1.0]), real, CPU)
    assert found.ratios == pytest.approx([0.15 / 0.75, 0])
    assert found.nearest[0] == 1


def test_shares_of_exact_and_of_very_near_copies():
    members = rows([0.0, 1.0, 2.0, 3.0])  # neighbours are 1 apart
    released = rows([0.0, 1.0005, 2.01, 7.0])
    lengths = np.array([0, 0.0005, 0.01, 4.0])
    exact, near = copies.shares(released, members, np.ones(4, bool), lengths, CPU)
    assert (exact.value, near.value) == (0.25, 0.5)
    few = np.array([False, True, True, False])  # looked at; the exact copy is not among them
    fewer = copies.shares(released, members, few, lengths[few], CPU)
    assert [share.value for share in fewer] == [0.25, 0.5]
    assert exact.low == pytest.approx(0.0063, abs=1e-4)  # Clopper and Pearson, 1 of 4
    assert exact.high == pytest.approx(0.8059, abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 0.01])
def test_few_copies_are_proven_and_named(noise):
    data = splits(blobs(150, 2))
    numbers = np.array([7, 30, 211])
    released = with_copies(blobs(300, 5), data.train, numbers, noise)
    report = audited(data, "gaussian", released=released, options=FAST)
    assert report.summary.leak is True
    assert report.summary.strongest == "close_copies"
    assert list(report.proof.released) == [300, 301, 302]
    assert list(report.proof.real) == list(numbers)
    assert report.proof.lines()[0] == "released row 300: training row 7"
    assert report.summary.value == pytest.approx(3 / 303)
    assert (report.metrics["exact_copies"].value.value > 0) == (noise == 0)
    assert (report.metrics["near_copies"].value.value > 0) == (noise < 0.01)
    assert report.metrics["nearest_auc"].value.low < 0.5  # an average does not show them


def test_copies_of_test_rows_are_told_from_those_of_training_rows():
    data = splits(blobs(150, 2))
    report = audited(data, "gaussian", released=data.test, options=FAST)
    assert report.summary.leak is True
    assert report.proof.lines()[3] == "released row 3: test row 3"
    assert "150 of them to a test row" in report.summary.said[1]


def test_rows_that_repeat_among_real_rows_prove_nothing():
    """Of integers in few dimensions another real row is often equal."""
    rng = np.random.default_rng(0)
    real = [rows(rng.poisson(0.7, size=(300, 5))) for _ in range(3)]
    data = splits(real[1])
    data = dataclasses.replace(data, train=real[0])
    report = audited(data, "gaussian", released=real[2], options=FAST)
    assert report.metrics["exact_copies"].value.value > 0.3
    assert report.summary.leak is not True
    assert not len(report.proof.released)


def test_harmless_rows_have_no_copies_in_few_and_in_many_dimensions():
    for dim in (1, 2, 30):
        for seed in range(15):
            real, other = (blobs(300, seed + add, dim=dim) for add in (0, 50))
            found = copies.search(blobs(300, seed + 100, dim=dim), real, other, CPU)
            assert not len(found.released), (dim, seed, found)


def test_the_search_would_flag_anything_if_no_tail_were_fitted(monkeypatch):
    monkeypatch.setattr(copies, "_tail", lambda ratios, expected: ratios**30)
    found = copies.search(blobs(300, 2, dim=2), blobs(300, 0, dim=2), blobs(300, 1, dim=2), CPU)
    assert len(found.released)
