"""Sums: that one row cannot do more than is stated, and that the noise is there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.anonymizers.dp import sums

rows_of_three = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=8
)


@given(rows_of_three, st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_one_row_changes_a_sum_by_at_most_one(rows, extra):
    def total(values):
        return sums.noisy_sum(torch.tensor(values), 0.0, torch.Generator())

    assert (total([*rows, extra]) - total(rows)).norm() <= 1 + 1e-5


@pytest.mark.parametrize("value", [3e37, 3e38, float("inf"), float("nan")])
def test_no_row_is_too_large_for_a_sum(value):
    rows = torch.full((3, 64), 0.01)
    rows[1] = value
    total = sums.noisy_sum(rows, 0.0, torch.Generator())
    assert (total - 0.02).norm() <= 1 + 1e-5


def test_sums_carry_the_noise_that_is_stated():
    noise = sums.noisy_sum(torch.zeros(2, 20_000), 5.0, torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(5.0, rel=0.02)


def bounds(rows, noise=1e-3):
    return sums.private_bounds(rows, float(len(rows)), noise, torch.Generator().manual_seed(0))


def test_no_row_is_too_large_for_bounds():
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)) * 1e-3
    rows[0] = torch.tensor([3e37, -3e38, 3e37, 0.0])  # divided by the norm of typical rows: inf
    low, high = bounds(rows)
    assert low.isfinite().all()
    assert high.isfinite().all()
    assert (high - low).max() < 1


def test_private_bounds_are_the_mean_and_four_deviations():
    rows = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    rows = rows * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([3.0, 0.0, -1.0])
    low, high = bounds(rows)
    deviation = (rows - rows.mean(0)).abs().mean(0)
    torch.testing.assert_close((low + high) / 2, rows.mean(0), atol=0.1, rtol=0.1)
    torch.testing.assert_close((high - low) / 2, 4 * deviation, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e-6])
def test_constant_features_have_a_range_like_all_others(value):
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    rows[:, 2] = value
    low, high = bounds(rows, noise=5.0)
    assert (high > low).all()
    assert low[2] < value < high[2]


def test_rows_of_zeros():
    low, high = bounds(torch.zeros(50, 4), noise=5.0)
    assert (high > low).all()
    assert low.isfinite().all()
