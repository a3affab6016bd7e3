"""The nearest rows against brute force in float64; moments against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core import distances


def brute_force(queries, references):
    """Distances [m, n] from the differences, in float64."""
    differences = queries.double()[:, None] - references.double()[None]
    return differences.square().sum(2).sqrt()


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 60), st.integers(1, 40)),
    k=st.integers(1, 6),
    shift=st.sampled_from([0.0, 100.0, -1e4]),
    block_bytes=st.sampled_from([1, 400, 1 << 20]),
)
def test_nearest_finds_what_brute_force_finds(seed, shape, k, shift, block_bytes):
    m, n, dim = shape
    queries, references = normal(seed, m, dim) + shift, normal(seed + 1, n, dim) + shift
    k = min(k, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "BLOCK_BYTES", block_bytes)
        found = distances.nearest(queries, references, k)
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
    found = distances.nearest(rows, rows)
    copies = (rows[:, None] == rows[None]).all(2)
    assert found.distances.eq(0).all()
    if copies.sum(1).max() <= distances.SPARE:
        assert found.indices[:, 0].tolist() == copies.float().argmax(1).tolist()
    assert copies.gather(1, found.indices).all()


def test_a_copy_is_at_distance_exactly_0_however_far_from_the_origin():
    references = normal(0, 500, 64) * 1e-3 + 1e3
    found = distances.nearest(references.flip(0), references)
    assert found.distances.eq(0).all()
    assert found.indices[:, 0].tolist() == list(range(499, -1, -1))


def test_moments_are_those_of_the_population_and_0_for_constant_features():
    rows = normal(2, 1000, 5) * torch.tensor([1e-3, 1, 1e3, 1, 0]) + torch.tensor(
        [1e3, 0, -5, 1, 0.1]
    )
    mean, std = distances.moments(rows)
    wide = rows.double().numpy()
    np.testing.assert_allclose(mean.numpy(), wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std.numpy()[:4], wide.std(0)[:4], rtol=1e-5)
    assert std[4] == 0  # although 0.1 is not a float and its mean is rounded
    x = distances.standardize(rows, mean, std)
    assert x[:, 4].abs().max() == 0
    torch.testing.assert_close(x[:, 1:4].std(0, correction=0), torch.ones(3))
