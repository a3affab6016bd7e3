"""Utility and distance against figures worked out by hand."""

import numpy as np
import pytest
import torch

from src.database import EmbeddingSet
from src.probing import metrics

CPU = torch.device("cpu")


def test_distance_of_two_releases_by_hand():
    originals = torch.tensor([[0.0, 5.0], [2.0, 5.0]])  # standardised: -1 and 1; 0 (constant)
    rows = torch.tensor([[1.0, 0.0], [5.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    # mean 3, variance 2 → ±√2, 0, 0; the nearest of ±1 is √2 - 1 and 1 away
    expected = (2 * (2**0.5 - 1) + 2) / 4
    ours, theirs = (
        EmbeddingSet(side.numpy(), np.zeros(len(side), np.int64)) for side in (rows, originals)
    )
    assert metrics.average_mindistance(ours, theirs, CPU).mean == pytest.approx(expected, rel=1e-6)
    assert metrics.average_mindistance(theirs, theirs, CPU).mean == 0


@pytest.fixture
def many(monkeypatch):
    """300 rows and 200 originals, of which 100 rows stand for all."""
    monkeypatch.setattr(metrics, "MOST_PAIRS", 300 * 200 - 1)
    monkeypatch.setattr(metrics, "DRAWN", 100)
    rng = np.random.default_rng(0)
    return [
        EmbeddingSet(rng.normal(size=(n, 6)).astype("f4"), np.zeros(n, np.int64))
        for n in (300, 200)
    ]


def test_of_many_rows_some_stand_for_all(many, monkeypatch, caplog):
    caplog.set_level("INFO")
    found = metrics.average_mindistance(*many, CPU)
    assert found.rows == 100
    assert caplog.messages == ["distance to the originals: of 100 of 300 rows, drawn at random"]
    again = metrics.average_mindistance(*many, CPU)  # the same rows for every head
    assert found == again
    monkeypatch.setattr(metrics, "MOST_PAIRS", 300 * 200)
    whole = metrics.average_mindistance(*many, CPU)
    assert whole.rows is None
    assert len(caplog.messages) == 2
    assert found.mean != whole.mean
    assert found.mean == pytest.approx(
        whole.mean, abs=4 * 0.5 / 10
    )  # standard errors of distances' 0.5


def test_it_is_measured_of_as_many_rows_as_are_drawn(many, monkeypatch):
    """Linear: of any number of rows, only those drawn are compared with the originals."""
    sizes, nearest = [], metrics.nearest

    def counted(queries, references):
        sizes.append((len(queries), len(references)))
        return nearest(queries, references)

    monkeypatch.setattr(metrics, "nearest", counted)
    metrics.average_mindistance(*many, CPU)
    metrics.average_mindistance(many[1], many[1], CPU)  # fewer pairs: all
    assert sizes == [(100, 200), (200, 200)]


def test_rows_are_standardised_by_all_and_not_by_those_drawn(many):
    ours, theirs = many
    assert metrics.average_mindistance(ours, ours, CPU).mean == 0
    moved = EmbeddingSet(3 * theirs.embeddings + 5, theirs.labels)
    assert metrics.average_mindistance(ours, moved, CPU).mean == pytest.approx(
        metrics.average_mindistance(ours, theirs, CPU).mean, rel=1e-4
    )


def test_scores_by_hand():
    # class 0 against the rest: pairs (a, c), (a, d), (b, c), (b, d): .8>.3, .8>.1, .4>.3, .4>.1
    probabilities = np.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    labels = np.array([0, 0, 1, 2])
    # class 1: row c (.4) against .1, .5, .2 → 2 of 3; class 2: row d (.7) wins all
    scores = metrics.scores(probabilities, labels)
    assert scores.auc == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)
    assert scores.accuracy == pytest.approx(75)
    assert scores.balanced_accuracy == pytest.approx(100 * (1 / 2 + 1 + 1) / 3)


def test_equal_probabilities_count_half():
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    # label 1 at .5 against .5 (half) and .1 (won): 3/4, and the same seen from class 0
    assert metrics.scores(probabilities, np.array([0, 1, 0])).auc == pytest.approx(75)


def test_a_class_that_does_not_occur_is_left_out_of_the_auc():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert metrics.scores(probabilities, np.array([0, 1, 0])).auc == pytest.approx(100)
    only = metrics.scores(probabilities, np.array([0, 0, 0]))
    assert np.isnan(only.auc)
    assert only.accuracy == pytest.approx(200 / 3)
