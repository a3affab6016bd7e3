"""Gaussians from sums: by hand without noise, what noise leaves, and draws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.networks.gaussians import Gaussians, Sums, model_of


def sums_of(z, labels, noise=0.0, classes=None):
    """Sums of rows z [n, D] of norm at most 1, all with noise of one deviation."""
    z = torch.as_tensor(z, dtype=torch.float64)
    y = torch.nn.functional.one_hot(torch.as_tensor(labels), classes or -1).double()
    generator = torch.Generator().manual_seed(0)
    dim = z.shape[1]
    white = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    symmetric = white.triu(1) / math.sqrt(2)
    symmetric = symmetric + symmetric.T + white.diag().diag()
    more = torch.randn(y.shape[1], dim, generator=generator, dtype=torch.float64)
    return Sums(
        counts=y.sum(0),
        centre=torch.zeros(dim),
        scale=torch.ones(dim),
        radius=torch.tensor(1.0),
        class_sums=y.T @ z + noise * more,
        squares=z.square().sum(),
        moments=z.T @ z + noise * symmetric,
        noise=torch.full((4,), noise),
    )


def rows_of(n, dim, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, dim)) + 0.7 * rng.normal(size=(classes, dim))[np.arange(n) % classes]
    return z / np.linalg.norm(z, axis=1).max(), np.arange(n) % classes


def covariance(model):
    """W [D, D]: spread along the axes, the same variance in all other directions."""
    even = model.other_deviation**2
    along = (model.axes * (model.deviations.square() - even)) @ model.axes.T
    return along + even * torch.eye(len(along), dtype=along.dtype)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 99))
def test_without_noise_they_are_the_means_and_covariance_of_the_rows(dim, seed):
    z, labels = rows_of(300, dim, seed)
    model = model_of(sums_of(z, labels))
    means = np.stack([z[labels == c].mean(0) for c in range(3)])
    within = (z - means[labels]).T @ (z - means[labels]) / 300
    np.testing.assert_allclose(model.means, means, atol=1e-12)
    np.testing.assert_allclose(covariance(model), within, atol=1e-9)
    assert dim == 1 or model.kept_directions == dim
    assert model.kept_means.tolist() == [1.0] * 3


def test_a_mean_of_two_rows_by_hand():
    sums = sums_of([[0.6, 0.0], [0.2, 0.0], [0.0, 0.5]], [0, 0, 1])
    model = model_of(sums)
    assert model.means.tolist() == [[pytest.approx(0.4), 0.0], [0.0, pytest.approx(0.5)]]
    least = 0.02 * (0.36 + 0.04 + 0.25) / 3 / 2
    want = [[(0.36 + 0.04) / 3 - 2 / 3 * 0.16, 0.0], [0.0, least]]  # one row varies in nothing
    np.testing.assert_allclose(covariance(model), want, atol=1e-9)


def test_means_keep_the_share_of_their_length_that_is_not_noise():
    z, labels = rows_of(300, 50)
    for noise in (1.0, 3.0, 4.0):
        sums = sums_of(z, labels, noise)
        model = model_of(sums)
        noisy = sums.class_sums / 100
        kept = (1 - 50 * (noise / 100) ** 2 / noisy.square().sum(1)).clamp(min=0.2)
        np.testing.assert_allclose(model.kept_means, kept, rtol=1e-5)
        np.testing.assert_allclose(model.means, noisy * kept[:, None], rtol=1e-5)
    assert model_of(sums_of(z, labels, 1e6)).kept_means.max() < 0.4  # √(2/50), and chance


def test_directions_below_the_noise_are_not_kept():
    """Of variances 0.3 and 0.004 the first alone stands out of eigenvalues up to 2τ."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 100)) * math.sqrt(0.004)
    z[:, 0] *= 9
    noise = 8.0
    model = model_of(sums_of(z, np.zeros(2000, int), noise))
    edge = noise / 2000 * math.sqrt(200)
    assert 1 <= model.kept_directions <= 3  # 2τ is where they end but for a few
    found = float(covariance(model)[0, 0])
    true = 0.004 * 81
    assert found == pytest.approx(true, rel=0.2)
    assert true > edge > 0.004
    assert float(covariance(model).trace()) == pytest.approx((z**2).sum() / 2000, rel=0.05)


def test_noise_alone_keeps_nothing():
    z, labels = rows_of(300, 64)
    counts = [model_of(sums_of(z, labels, noise)).kept_directions for noise in (0.01, 1, 100)]
    assert counts[0] > 40 > counts[1] >= counts[2]
    assert counts[2] <= 2


def test_the_spread_of_all_rows_does_not_depend_on_the_means():
    z, labels = rows_of(3000, 20)
    model = model_of(sums_of(z, labels, 5.0))
    shares = torch.full((3, 1), 1 / 3, dtype=torch.float64)
    total = covariance(model) + (shares * model.means).T @ model.means
    np.testing.assert_allclose(total.diag(), (z**2).mean(0), rtol=0.3)


def test_draws_have_the_means_and_covariance_in_units_of_the_rows():
    z, labels = rows_of(600, 5)
    sums = sums_of(z, labels)._replace(
        centre=torch.arange(5.0), scale=torch.tensor([1.0, 2, 3, 4, 5]), radius=torch.tensor(2.0)
    )
    sampler = Gaussians(sums)
    drawn = torch.cat(
        list(sampler.sample(torch.full((200_000,), 1), torch.Generator().manual_seed(0)))
    )
    unit = 2 * sums.scale
    np.testing.assert_allclose(
        drawn.mean(0), sums.centre + sampler.model.means[1] * unit, atol=0.01
    )
    want = covariance(sampler.model) * unit[:, None] * unit
    np.testing.assert_allclose(np.cov(drawn.T), want, atol=0.02)
    assert drawn.dtype == torch.float32


def test_classes_have_at_least_one_row():
    sums = sums_of([[0.5, 0.1]] * 4, [0] * 4, classes=2)
    sampler = Gaussians(sums._replace(counts=torch.tensor([3.6, -7.0])))
    assert sampler.class_weights.tolist() == [4.0, 1.0]
    assert all(part.isfinite().all() for part in sampler.model[:3])


def test_its_tensors_are_the_sums():
    sums = sums_of(*rows_of(30, 4))
    state = Gaussians(sums).state_dict()
    assert [*state] == [*Sums._fields]
    assert torch.equal(state["moments"], sums.moments.float())
