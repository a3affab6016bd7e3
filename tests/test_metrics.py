"""Distances against brute force in float64, utility against figures worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src import metrics


def brute_force(queries, references):
    """Distances [m, n] from the differences, in float64."""
    differences = queries.double()[:, None] - references.double()[None]
    return differences.square().sum(2).sqrt()


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    m=st.integers(1, 30),
    n=st.integers(1, 60),
    dim=st.integers(1, 40),
    k=st.integers(1, 6),
    shift=st.sampled_from([0.0, 100.0, -1e4]),
    block_bytes=st.sampled_from([1, 400, 1 << 20]),
)
def test_nearest_finds_what_brute_force_finds(seed, m, n, dim, k, shift, block_bytes):
    queries, references = normal(seed, m, dim) + shift, normal(seed + 1, n, dim) + shift
    k = min(k, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK_BYTES", block_bytes)
        found = metrics.nearest(queries, references, k)
    everything = brute_force(queries, references)
    expected = everything.sort(dim=1).values[:, :k]
    torch.testing.assert_close(found.distances.double(), expected, rtol=1e-5, atol=1e-6)
    there = everything.gather(1, found.indices)
    torch.testing.assert_close(there, expected, rtol=1e-5, atol=1e-6)
    assert all(len(set(row)) == k for row in found.indices.tolist())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_of_equally_near_references_the_lower_index_comes_first(data):
    n, dim = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3))
    grid = st.lists(st.integers(0, 3), min_size=n * dim, max_size=n * dim)
    rows = torch.tensor(data.draw(grid), dtype=torch.float32).view(n, dim)
    found = metrics.nearest(rows, rows)
    copies = (rows[:, None] == rows[None]).all(2)
    assert found.distances.eq(0).all()
    if copies.sum(1).max() <= metrics.SPARE:
        assert found.indices[:, 0].tolist() == copies.float().argmax(1).tolist()
    assert copies.gather(1, found.indices).all()


def test_a_copy_is_at_distance_exactly_0_however_far_from_the_origin():
    references = normal(0, 500, 64) * 1e-3 + 1e3
    found = metrics.nearest(references.flip(0), references)
    assert found.distances.eq(0).all()
    assert found.indices[:, 0].tolist() == list(range(499, -1, -1))


def test_distance_of_two_releases_by_hand():
    originals = torch.tensor([[0.0, 5.0], [2.0, 5.0]])  # standardised: -1 and 1; 0 (constant)
    rows = torch.tensor([[1.0, 0.0], [5.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    # mean 3, variance 2 → ±√2, 0, 0; the nearest of ±1 is √2 - 1 and 1 away
    expected = (2 * (2**0.5 - 1) + 2) / 4
    assert metrics.average_mindistance(rows, originals) == pytest.approx(expected, rel=1e-6)
    assert metrics.average_mindistance(originals, originals) == 0


def test_moments_are_those_of_the_population_and_0_for_constant_features():
    rows = normal(2, 1000, 5) * torch.tensor([1e-3, 1, 1e3, 1, 0]) + torch.tensor(
        [1e3, 0, -5, 1, 0.1]
    )
    mean, std = metrics.moments(rows)
    wide = rows.double().numpy()
    np.testing.assert_allclose(mean.numpy(), wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std.numpy()[:4], wide.std(0)[:4], rtol=1e-5)
    assert std[4] == 0  # although 0.1 is not a float and its mean is rounded
    x = metrics.standardize(rows, mean, std)
    assert x[:, 4].abs().max() == 0
    torch.testing.assert_close(x[:, 1:4].std(0, correction=0), torch.ones(3))


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
