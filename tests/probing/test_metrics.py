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
    assert metrics.average_mindistance(ours, theirs, CPU) == pytest.approx(expected, rel=1e-6)
    assert metrics.average_mindistance(theirs, theirs, CPU) == 0


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
