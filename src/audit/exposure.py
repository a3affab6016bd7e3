"""What shadow releases say: of single records, and of scores that need a mean over releases."""

from __future__ import annotations

import numpy as np

from src.audit import looks
from src.audit.looks import Look
from src.audit.units import Units

FEWEST = 4  # shadows: a half must hold each record once inside and once outside
REPETITIONS = 200
SHARES = {"exposed_1_auc": 0.01, "exposed_5_auc": 0.05}


def relative_likelihoods(target: np.ndarray, shadows: np.ndarray) -> np.ndarray:
    """Share of the population that a score's ratio to its mean over shadow releases exceeds (n,).

    RMIA (Zarifzadeh, Liu, Shokri, ICML 2024): [s(x)/s̄(x)] / [s(z)/s̄(z)] >= 1 for how many z, with
    s = exp(-distance/τ), τ the median distance. The candidates themselves are the population;
    another one would give other shares, in the same order.

    Args:
        target: (n,) minus the distance to the nearest released row.
        shadows: (s, n) the same for shadow releases.
    """
    finite = -shadows[np.isfinite(shadows)]
    scale = max(float(np.median(finite)) if len(finite) else 1.0, 1e-300)
    mean = np.exp(shadows / scale).mean(0)
    own = np.exp(target / scale)
    ratios = np.divide(own, mean, out=np.zeros_like(own), where=mean > 0)
    return np.searchsorted(np.sort(ratios), ratios, side="right") / len(ratios)


def exposed(
    scores: np.ndarray, inside: np.ndarray, people: Units, rng: np.random.Generator
) -> dict[str, Look]:
    """The AUC per record of the records (persons) that stand out most, inside against outside.

    They are chosen by one half of the shadows and measured by the other, and the other way round,
    so that having been chosen makes nobody stand out. Both sides are scores of the same records:
    a test split that differs from training cannot show as exposure. By chance: shadows exchanged.

    Args:
        scores: (s, n) against shadow releases; complements of halves stand side by side.
        inside: (s, n) bool, whether the row was in that half.
        people: whose the n rows are.
    """
    if len(scores) < FEWEST:
        return {}
    values = np.stack([people.means(row) for row in scores])
    values = np.maximum(values, values[np.isfinite(values)].min(initial=0.0))
    _, first = np.unique(people.whose, return_index=True)
    within = inside[:, first]
    counts = [max(1, round(share * len(first))) for share in SHARES.values()]
    measured = _measured(values, within, counts)
    drawn = np.stack(
        [
            _measured(values[rng.permutation(len(values))], within, counts)
            for _ in range(REPETITIONS)
        ]
    )
    return {
        name: looks.look(float(value), draws)
        for name, value, draws in zip(SHARES, measured, drawn.T, strict=True)
    }


def _measured(values: np.ndarray, inside: np.ndarray, counts: list[int]) -> np.ndarray:
    """The mean AUC of the records that the other half of the shadows names, by number of them."""
    odd = np.arange(len(values)) // 2 % 2 == 1
    halves = [(values[half], inside[half]) for half in (odd, ~odd)]
    found = np.zeros(len(counts))
    for chosen_by, measured_by in (halves, halves[::-1]):
        order = np.argsort(-_gaps(*chosen_by), kind="stable")
        aucs = _record_aucs(*(part[:, order[: max(counts)]] for part in measured_by))
        found += [aucs[:count].mean() / 2 for count in counts]
    return found


def _gaps(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How far each record's scores inside exceed those outside, in its own deviations (u,)."""
    times = np.stack([inside.sum(0), (~inside).sum(0)])
    sums = np.stack([(values * inside).sum(0), (values * ~inside).sum(0)])
    means = sums / np.maximum(times, 1)
    residuals = values - np.where(inside, means[0], means[1])
    variance = np.square(residuals).mean(0)
    gaps = (means[0] - means[1]) / np.sqrt(variance + variance.mean() + 1e-300)
    return np.where(times.min(0) > 0, gaps, -np.inf)


def _record_aucs(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Per record (column), how often a score inside exceeds one outside; a tie counts half."""
    above = (values[:, None] > values) + (values[:, None] == values) / 2  # (s, s, u)
    pairs = inside[:, None] & ~inside
    count = pairs.sum((0, 1))
    return np.where(count > 0, (above * pairs).sum((0, 1)) / np.maximum(count, 1), 0.5)
