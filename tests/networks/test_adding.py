"""Sums of several sites: by hand, order, noise, and the same model as of all rows together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.networks.adding import added
from src.networks.gaussians import Sums, model_of

TINY = 1e-9  # of noise that is stated but not added


def sums_in(x, labels, centre, scale, radius, noise=TINY):
    """Sums [float64] of rows x [n, D] in these units; none is shortened."""
    z = (torch.as_tensor(x) - centre) / (scale * radius)
    assert z.norm(dim=1).max() <= 1
    y = torch.nn.functional.one_hot(torch.as_tensor(labels), 3).double()
    return Sums(
        y.sum(0),
        centre,
        scale,
        radius,
        y.T @ z,
        z.square().sum(),
        z.T @ z,
        torch.full((4,), noise),
    )


def units(rng, dim, spread=0.2):
    centre = torch.tensor(spread * rng.normal(size=dim))
    scale = torch.tensor(np.exp(spread * rng.normal(size=dim)))
    return centre, scale, torch.tensor(20.0 * dim**0.5 * np.exp(rng.uniform()))


def drawn(rng, rows, dim):
    return rng.normal(size=(rows, dim)), np.arange(rows) % 3


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 999))
def test_the_sums_are_those_of_all_rows_in_the_units_that_are_shared(dim, sites, seed):
    rng = np.random.default_rng(seed)
    parts = [drawn(rng, 12, dim) for _ in range(sites)]
    sums, factors = added([sums_in(x, y, *units(rng, dim)) for x, y in parts])
    together = sums_in(
        np.concatenate([x for x, _ in parts]),
        np.concatenate([y for _, y in parts]),
        *(part.double() for part in (sums.centre, sums.scale, sums.radius)),
    )
    assert factors.shape == (sites, 4)
    for name in ("counts", "class_sums", "squares", "moments"):
        found, expected = getattr(sums, name), getattr(together, name)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    assert torch.equal(sums.moments, sums.moments.T)


def test_by_hand():
    """Two sites with one feature, radius 1 and 3, centres 0 and 2, one class."""
    one, two = (
        Sums(
            torch.tensor([rows]), torch.tensor([centre]), torch.ones(1), torch.tensor(radius),
            torch.tensor([[z]]), torch.tensor(z * z), torch.tensor([[z * z]]),
            torch.tensor([1.0, 1.0, 1.0, 1.0]),
        )
        for rows, centre, radius, z in ((1.0, 0.0, 1.0, 0.5), (1.0, 2.0, 3.0, -1 / 3))
    )  # fmt: skip
    # rows are x = 0.5 and x = 1
    sums, factors = added([one, two])
    assert sums.centre.tolist() == [1.0]
    unit = float(sums.scale * sums.radius)
    assert unit == pytest.approx(1 + 3)  # the farther site's: |a| + s = 1 + 3, in shared units
    assert float(sums.class_sums) == pytest.approx((-0.5 + 0) / unit)
    assert float(sums.moments) == pytest.approx(0.25 / unit**2)
    assert float(sums.squares) == pytest.approx(0.25 / unit**2)
    assert factors[:, 0].tolist() == [1.0, 1.0]
    # class sums: s² of the sum's noise and a² of the count's
    assert float(factors[0, 1]) == pytest.approx((1 + 1) ** 0.5 / unit)
    assert float(factors[1, 1]) == pytest.approx((9 + 1) ** 0.5 / unit)
    assert float(sums.noise[1]) == pytest.approx(12**0.5 / unit)


def test_one_site_alone_is_left_as_it_is():
    rng = np.random.default_rng(0)
    alone = sums_in(*drawn(rng, 30, 5), *units(rng, 5), noise=0.3)
    sums, factors = added([alone])
    for found, own in zip(sums, alone, strict=True):
        np.testing.assert_allclose(found, own, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(factors, 1, rtol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_noise_that_is_stated_is_the_noise_that_there_is(spread):
    """Empirical deviations over many draws of the sites' noise."""
    rng = np.random.default_rng(1)
    generator = torch.Generator().manual_seed(0)
    sites = [sums_in(*drawn(rng, 9, 6), *units(rng, 6, spread), noise=0.1) for _ in range(3)]
    clean, found = added(sites).sums, []
    for _ in range(400):
        noisy = []
        for sums in sites:
            white = torch.randn(6, 6, generator=generator).double()
            symmetric = white.triu(1) / 2**0.5
            noisy.append(
                sums._replace(
                    counts=sums.counts + 0.1 * torch.randn(3, generator=generator),
                    class_sums=sums.class_sums + 0.1 * torch.randn(3, 6, generator=generator),
                    squares=sums.squares + 0.1 * torch.randn((), generator=generator),
                    moments=sums.moments + 0.1 * (symmetric + symmetric.T + white.diag().diag()),
                )
            )
        # the units depend on counts a little; the noise is judged in those of the clean sums
        got = added(noisy).sums
        to_clean = (got.scale * got.radius / (clean.scale * clean.radius)).double()
        shift = ((got.centre - clean.centre) / (clean.scale * clean.radius)).double()
        moved = to_clean * got.class_sums + got.counts[:, None] * shift
        found.append(torch.cat([got.counts, moved.flatten()]) - torch.cat(
            [clean.counts, clean.class_sums.flatten()]))  # fmt: skip
    errors = torch.stack(found)
    of_counts, of_sums = (part.square().mean().sqrt() for part in errors.tensor_split([3], 1))
    assert float(of_counts) == pytest.approx(float(clean.noise[0]), rel=0.07)
    assert float(of_sums) == pytest.approx(float(clean.noise[1]), rel=0.07)


def test_the_model_of_four_quarters_is_the_model_of_the_whole():
    rng = np.random.default_rng(3)
    x, y = drawn(rng, 400, 6)
    x[:, 0] += 2 * y
    whole = model_of(sums_in(x, y, *units(rng, 6)))
    parts = [sums_in(x[i::4], y[i::4], *units(rng, 6)) for i in range(4)]
    sums, _ = added(parts)
    again = model_of(sums)
    unit = (sums.scale * sums.radius).double()
    means = again.means * unit + sums.centre
    for c in range(3):
        np.testing.assert_allclose(means[c], x[y == c].mean(0), atol=1e-5)
    assert again.kept_directions == whole.kept_directions == 6


def test_the_noise_of_moments_and_squares():
    """With exact counts the shared units are the same in every draw."""
    rng = np.random.default_rng(2)
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor([TINY, 0.1, 0.1, 0.1])
    sites = [
        sums_in(*drawn(rng, 9, 5), *units(rng, 5, 0.4))._replace(noise=level) for _ in range(3)
    ]
    clean, squares, frobenius = added(sites).sums, [], []
    for _ in range(600):
        noisy = []
        for sums in sites:
            white = torch.randn(5, 5, generator=generator).double()
            symmetric = white.triu(1) / 2**0.5
            noisy.append(
                sums._replace(
                    class_sums=sums.class_sums + 0.1 * torch.randn(3, 5, generator=generator),
                    squares=sums.squares + 0.1 * torch.randn((), generator=generator),
                    moments=sums.moments + 0.1 * (symmetric + symmetric.T + white.diag().diag()),
                )
            )
        got = added(noisy).sums
        squares.append(float((got.squares - clean.squares) ** 2))
        frobenius.append(float((got.moments - clean.moments).square().sum()))
    assert np.mean(squares) ** 0.5 == pytest.approx(float(clean.noise[2]), rel=0.08)
    numbers = 5 * 6 / 2
    assert (np.mean(frobenius) / numbers) ** 0.5 == pytest.approx(float(clean.noise[3]), rel=0.08)
