"""What a few seeds say: an interval of a mean, and whether one mean is below another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.95  # of intervals, and of the one-sided test


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def interval(values: Sequence[float], lowest: float, highest: float) -> Interval | None:
    """The 95 % t-interval of the mean of values from `lowest` to `highest`.

    None where nothing varies: for a single value, and for values that are all the same.
    """
    if len(set(values)) < 2:
        return None
    from scipy.stats import t

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = error * float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return Interval(max(lowest, mean - reach), min(highest, mean + reach))


def below(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether a mean is significantly below another one (Welch's t-test, one-sided, 5 %).

    Without any spread, or with single values, whether it is lower at all.
    """
    gap = statistics.fmean(others) - statistics.fmean(values)
    if gap <= 0 or min(len(values), len(others)) < 2:
        return gap > 0
    parts = [(statistics.variance(side) / len(side), len(side)) for side in (values, others)]
    square = sum(part for part, _ in parts)
    if not square:
        return True
    from scipy.stats import t

    # shares of the square, which do not underflow as the square's own square does
    freedom = 1 / sum((part / square) ** 2 / (size - 1) for part, size in parts)
    return gap / math.sqrt(square) > float(t.ppf(LEVEL, freedom))
