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
    sizes=st.sampled_from([(1, 1, 1), (7, 9, 100), (1024, 8192, 1 << 20)]),
)
def test_nearest_finds_what_brute_force_finds(seed, shape, k, shift, sizes):
    m, n, dim = shape
    queries, references = normal(seed, m, dim) + shift, normal(seed + 1, n, dim) + shift
    k = min(k, n)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("QUERIES", "TILE", "GATHERED"), sizes, strict=True):
            patch.setattr(distances, name, size)
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


@settings(max_examples=100, deadline=None)
@given(
    constant=st.floats(1e-6, 1e6).flatmap(lambda size: st.sampled_from([size, -size])),
    units=st.integers(1, 3),
    rows=st.integers(2, 200),
    seed=st.integers(0, 1000),
)
def test_what_varies_by_a_few_units_in_the_last_place_is_constant(constant, units, rows, seed):
    constant = np.float32(constant)
    off = np.random.default_rng(seed).integers(-units, units + 1, rows)
    x = torch.from_numpy((constant + np.spacing(constant) * off).astype(np.float32))[:, None]
    mean, std = distances.moments(x)
    assert std.item() == 0
    assert mean.item() == pytest.approx(float(constant), rel=1e-6)
    assert distances.standardize(x, mean, std).abs().max() <= 4 * abs(np.spacing(constant))
    with pytest.MonkeyPatch.context() as patch:  # as it was: noise becomes unit deviations
        patch.setattr(distances, "ROUNDING", 0)
        if len(set(x.flatten().tolist())) > 1:
            assert distances.standardize(x, *distances.moments(x)).abs().max() > 0.9


@settings(max_examples=100, deadline=None)
@given(
    constant=st.sampled_from([0.0, 0.1, -3.0, 1e4, 1e-3]),
    units=st.integers(40, 10_000),
    seed=st.integers(0, 1000),
)
def test_what_varies_by_more_has_its_own_deviation(constant, units, seed):
    step = np.spacing(np.float32(constant) or np.float32(1))
    off = np.random.default_rng(seed).integers(-units, units + 1, 500)
    x = (np.float32(constant) + step * off).astype(np.float32)[:, None]
    _, std = distances.moments(torch.from_numpy(x))
    np.testing.assert_allclose(std.numpy(), x.astype(np.float64).std(0), rtol=1e-5)
    assert std > 0


def test_a_feature_that_is_0_but_in_one_row_is_not_constant():
    """The reason for `clip`: its deviation is small, but it is the data's."""
    rows = torch.zeros(10_000, 1)
    rows[7] = 1e-3
    mean, std = distances.moments(rows)
    assert std.item() == pytest.approx(1e-5, rel=1e-3)
    assert distances.standardize(rows, mean, std)[7].item() == pytest.approx(100, rel=1e-3)


@given(clip=st.sampled_from([0.125, 1.0, 10.0, 45.5]), seed=st.integers(0, 100))
def test_clip_limits_standardised_features(clip, seed):
    rows = 20 * normal(seed, 30, 4)
    mean, std = torch.ones(4), torch.tensor([1.0, 0.5, 2.0, 0.0])
    free = distances.standardize(rows, mean, std)
    limited = distances.standardize(rows, mean, std, clip)
    inside = free.abs() <= clip
    assert torch.equal(limited[inside], free[inside])
    assert torch.equal(limited[~inside], (clip * free.sign())[~inside])
