"""Intervals and comparisons over seeds, by hand and beside scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from src.report.spread import below, interval

percents = st.floats(0, 100).map(lambda value: round(value, 3))
seeds = st.lists(percents, min_size=2, max_size=6)


def test_an_interval_by_hand():
    low, high = interval([97, 98, 99], 0, 100)  # t with 2 degrees of freedom: 4.30265
    assert (low, high) == pytest.approx((98 - 4.30265 / 3**0.5, 100), abs=1e-4)  # cut at 100
    low, high = interval([50, 60], 0, 100)  # t with 1: 12.7062, and 5 is the standard error
    assert (low, high) == (0, 100)
    assert interval([50, 50.5], 0, 100) == pytest.approx(
        (50.25 - 3.17655, 50.25 + 3.17655), abs=1e-4
    )


@pytest.mark.parametrize("values", [[98.0], [98.0, 98.0, 98.0]])
def test_without_spread_there_is_no_interval(values):
    assert interval(values, 0, 100) is None


def test_a_comparison_by_hand():
    """Means 90 and 93, variances 4 and 9: t = 3 / √(4/3 + 9/3) = 1.44, 3.5 degrees of freedom."""
    assert not below([88, 90, 92], [90, 93, 96])  # 2.2 would be needed
    assert below([88, 90, 92], [95, 98, 101])  # t = 3.84
    assert not below([95, 98, 101], [88, 90, 92])


def test_without_spread_any_difference_counts():
    assert below([98, 98, 98], [98.01, 98.01, 98.01])
    assert not below([98, 98], [98, 98])
    assert below([98], [98.01])  # one seed: nothing can be judged


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(seeds, seeds)
def test_it_is_welchs_test(ours, theirs):
    if len(set(ours)) > 1 or len(set(theirs)) > 1:
        expected = ttest_ind(ours, theirs, equal_var=False, alternative="less").pvalue < 0.05
        assert below(ours, theirs) == expected
