"""Metrics of an audit as pure functions of arrays, each with a 95 % bootstrap interval.

Members and non-members are resampled separately (stratified bootstrap), so that every repetition
has the original number of each. Higher scores mean "member"; scores may be infinite, not NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of the intervals
MOST_EPSILON = 700.0  # whose e^ε a float64 can hold; it promises nothing anyway
BLOCK_ELEMENTS = 1 << 22  # of a block of bootstrap repetitions


class Bootstrap(NamedTuple):
    """How intervals are made."""

    repetitions: int
    rng: np.random.Generator


class Estimate(NamedTuple):
    """A metric and its percentile bootstrap interval; None where the number does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Membership(NamedTuple):
    """How well scores tell members from non-members."""

    auc: Estimate  # P(member scores higher) + P(equal) / 2
    tpr: dict[float, Estimate]  # share of members found, by share of non-members accused
    balanced_accuracy: Estimate  # (TPR + TNR) / 2 at thresholds found on other rows


class Roc(NamedTuple):
    """The corners of a ROC curve, from (0, 0) to (1, 1); scores >= threshold are positive."""

    fpr: np.ndarray  # (p,) float64, ascending
    tpr: np.ndarray  # (p,) float64, ascending
    thresholds: np.ndarray  # (p,) float64, descending, the first infinite


def membership(
    members: np.ndarray,
    non_members: np.ndarray,
    *,
    fprs: tuple[float, ...],
    bootstrap: Bootstrap,
) -> Membership:
    """All metrics of one membership attack from its scores.

    A false-positive rate below one row of the non-members cannot be told from 0, so the true
    positives at that rate have no estimate (None).

    Args:
        members: (m,) scores of those (persons or rows) whose rows the release was made from.
        non_members: (h,) scores of others.
        fprs: the false-positive rates for `tpr`.
    """
    levels, bins = np.unique(np.concatenate((members, non_members)), return_inverse=True)
    if np.isnan(levels).any():
        raise ValueError("a score is NaN")
    sides = bins[: len(members)], bins[len(members) :]
    resolved = [rate for rate in fprs if rate * len(non_members) >= 1]

    def metrics(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        rates = [_tpr(positives, negatives, rate) for rate in resolved]
        return np.stack([_auc(positives, negatives), *rates])

    point = metrics(*(_count(side, len(levels)) for side in sides))[:, 0]
    draws = [
        metrics(*(_resampled(side, len(levels), rows, bootstrap.rng) for side in sides))
        for rows in _blocks(bootstrap.repetitions, len(bins))
    ]
    auc, *tprs = map(_estimate, point, np.concatenate(draws, axis=1))
    found = dict(zip(resolved, tprs, strict=True))
    return Membership(
        auc,
        {r: _open_ended(found[r], len(members)) if r in found else Estimate(None) for r in fprs},
        balanced_accuracy(members, non_members, bootstrap=bootstrap),
    )


def balanced_accuracy(
    members: np.ndarray, non_members: np.ndarray, *, bootstrap: Bootstrap
) -> Estimate:
    """(TPR + TNR) / 2 with each half of the rows judged by the best threshold of the other.

    The best threshold on the judged rows themselves is above 0.5 even for scores that know
    nothing; crossed thresholds have no such bias.
    """
    found = np.empty(len(members), dtype=bool)
    accused = np.empty(len(non_members), dtype=bool)
    half_m, half_h = (_halves(len(side), bootstrap.rng) for side in (members, non_members))
    for side in (False, True):
        curve = roc(members[half_m == side], non_members[half_h == side])
        best = int(np.argmax(curve.tpr - curve.fpr))
        gap = curve.thresholds[best : best + 2]
        threshold = gap.mean() if np.isfinite(gap).all() else gap[0]
        found[half_m != side] = members[half_m != side] >= threshold
        accused[half_h != side] = non_members[half_h != side] >= threshold
    return of_means(lambda tpr, fpr: (tpr + 1 - fpr) / 2, found, accused, bootstrap=bootstrap)


def roc(members: np.ndarray, non_members: np.ndarray) -> Roc:
    """The ROC curve of scores; rows with equal scores enter together."""
    levels, bins = np.unique(np.concatenate((members, non_members)), return_inverse=True)
    counts = (_count(b, len(levels)) for b in (bins[: len(members)], bins[len(members) :]))
    tpr, fpr = (np.concatenate(([0.0], _above(c)[0, ::-1] / c.sum())) for c in counts)
    return Roc(fpr, tpr, np.concatenate(([np.inf], levels[::-1])))


def of_means(
    function: Callable[..., np.ndarray],
    *samples: np.ndarray,
    bootstrap: Bootstrap,
) -> Estimate:
    """A metric that depends on the means of independent samples alone, such as a share.

    Args:
        function: means → metric, elementwise on arrays; NaN where it is undefined.
        samples: (n_i,) numbers or truth values, each resampled separately.
    """
    means = [np.asarray(sample, dtype=np.float64) for sample in samples]
    point = function(*(np.array([sample.mean()]) for sample in means))
    resampled = [_resampled_means(sample, bootstrap) for sample in means]
    return _estimate(float(point[0]), function(*resampled))


def share(hits: np.ndarray, *, bootstrap: Bootstrap) -> Estimate:
    """The share of the units (u,) bool that were hit."""
    return _open_ended(of_means(lambda mean: mean, hits, bootstrap=bootstrap), len(hits))


def binomial(hits: int, n: int, level: float = LEVEL) -> Estimate:
    """The share of n rows that were hit, with its exact interval (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Estimate(hits / n, low, high)


def share_below_quantile(
    values: np.ndarray,
    references: np.ndarray,
    quantile: float,
    *,
    whose: np.ndarray,
    bootstrap: Bootstrap,
) -> Estimate:
    """Share of values at or below a quantile of the references; both samples are resampled.

    None where the units are too few for such a quantile (u · quantile < 1).

    Args:
        whose: (n,) int64, the unit 0..u-1 of each reference; units are resampled.
    """
    n = int(whose.max()) + 1
    if n * quantile < 1:
        return Estimate(None)
    ordered = np.sort(values)

    def resampled_quantile(units: np.ndarray) -> float:
        times = np.bincount(units, minlength=n)
        return float(np.quantile(np.repeat(references, times[whose]), quantile))

    draws = [
        [resampled_quantile(units) for units in bootstrap.rng.integers(n, size=(rows, n))]
        for rows in _blocks(bootstrap.repetitions, n)
    ]

    def below(bound: np.ndarray) -> np.ndarray:
        return np.searchsorted(ordered, bound, side="right") / len(ordered)

    resampled = bootstrap.rng.binomial(len(ordered), below(np.concatenate(draws))) / len(ordered)
    found = _estimate(float(below(np.quantile(references, quantile))), resampled)
    return _open_ended(found, len(ordered))


def expected_fpr(rate: float, non_members: int) -> float:
    """The mean false-positive rate, on further rows, of the threshold for a rate on these.

    The threshold lies just above the (a + 1)-th highest of n scores, a = ⌊rate·n⌋. On average
    (a + 1) / (n + 1) of all such rows are above it (order statistics of uniform numbers). This,
    not the rate itself, is the share of the members that scores which know nothing find.
    """
    return float(_allowed(rate, non_members) + 1) / (non_members + 1)


def tpr_bound(fpr: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """The largest share of members that any attack finds at a false-positive rate under (ε, δ)-DP.

    TPR ≤ e^ε·FPR + δ, and by the same promise for the complements 1 - FPR ≤ e^ε·(1 - TPR) + δ
    (Kairouz, Oh, Viswanath, ICML 2015).
    """
    direct = math.exp(min(epsilon, MOST_EPSILON)) * fpr + delta
    complement = 1 - math.exp(-epsilon) * (1 - delta - fpr)
    return np.minimum(np.minimum(direct, complement), 1.0)


def number(value: float | None) -> str:
    """Three decimals, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """`0.512 [0.480, 0.545]`."""
    if estimate.low is None:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _auc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Counts by ascending level (b, levels) → area under the ROC curve (b,)."""
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return (positives * below).sum(1) / (positives.sum(1) * negatives.sum(1))


def _tpr(positives: np.ndarray, negatives: np.ndarray, fpr: float) -> np.ndarray:
    """Counts by ascending level (b, levels) → largest TPR with at most that FPR (b,)."""
    allowed = _allowed(fpr, negatives.sum(1))
    affordable = _above(negatives) <= allowed[:, None]  # false ... false true ... true
    accepted = np.where(affordable, positives, 0).sum(1)
    return np.asarray(accepted / positives.sum(1))


def _allowed(fpr: float, non_members: int | np.ndarray) -> np.ndarray:
    """The most non-members that may be accused at that rate."""
    # 1e-9: 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996
    return np.floor(fpr * np.asarray(non_members) + 1e-9)


def _above(counts: np.ndarray) -> np.ndarray:
    """Counts by ascending level (b, levels) → rows at each level or above (b, levels)."""
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


def _count(bins: np.ndarray, levels: int) -> np.ndarray:
    return np.bincount(bins, minlength=levels)[None]


def _resampled(
    bins: np.ndarray, levels: int, repetitions: int, rng: np.random.Generator
) -> np.ndarray:
    """Levels of rows (n,) → counts by level of as many rows drawn with replacement (b, levels)."""
    drawn = bins[rng.integers(0, len(bins), (repetitions, len(bins)))]
    drawn += levels * np.arange(repetitions)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=repetitions * levels)
    return counts.reshape(repetitions, levels)


def _resampled_means(sample: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Numbers (n,) → means of as many drawn with replacement (repetitions,)."""
    n = len(sample)
    draws = [
        sample[bootstrap.rng.integers(n, size=(rows, n))].mean(1)
        for rows in _blocks(bootstrap.repetitions, n)
    ]
    return np.concatenate(draws)


def _blocks(repetitions: int, elements: int) -> Iterator[int]:
    """Split repetitions of `elements` elements each into blocks that fit into memory."""
    rows = max(1, BLOCK_ELEMENTS // elements)
    for start in range(0, repetitions, rows):
        yield min(rows, repetitions - start)


def _halves(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random truth values (n,), half of them true."""
    return rng.permutation(n) % 2 == 0


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    """The value with the central interval of the draws that are defined."""
    defined = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(defined):
        return Estimate(None)
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, float(low), float(high))


def _open_ended(share: Estimate, n: int) -> Estimate:
    """A share of n rows whose interval does not end at 0 (1) where no (every) row was hit.

    Resampling cannot find what was not seen; still, up to 3/n is not ruled out (Hanley and
    Lippman-Hand, 1983).
    """
    if share.value == 0:
        return share._replace(high=max(share.high or 0.0, min(1.0, 3 / n)))
    if share.value == 1:
        return share._replace(low=min(share.low or 0.0, max(0.0, 1 - 3 / n)))
    return share
