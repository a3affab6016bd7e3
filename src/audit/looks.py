"""Many looks at one release, with one error rate: permutations of who is a member.

If a release says nothing of who is in it, members and non-members of a class can be exchanged.
So the scores of every attack are kept and membership is drawn again, within each class, a thousand
times: that gives the chance value and spread of each look, and how far the farthest of all looks
strays by chance (Westfall and Young, 1993). No distribution is assumed, and few rows do not harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from src.audit.statistics import Estimate

REPETITIONS = 1000
BLOCK_ELEMENTS = 1 << 24  # of a block of permutations
FEWEST = 2  # members and non-members of a class that is looked at by itself
NORMAL = 1.959964  # standard errors on either side of a 95 % interval of one look

Key = TypeVar("Key")


class Look(NamedTuple):
    """One metric, how far it strays by chance, and the draws that say so."""

    value: float
    chance: float  # its mean where there is nothing to find
    spread: float  # its standard deviation there
    error: float  # its own standard error, at least the spread
    draws: np.ndarray  # (b,) float32, (value - chance) / spread of permuted memberships

    @property
    def off(self) -> float:
        """How many standard errors the value is above chance, negative below; 0 without error."""
        return (self.value - self.chance) / self.error if self.error else 0.0

    def estimate(self, width: float = NORMAL) -> Estimate:
        """The value with an interval of so many standard errors to each side, within 0..1."""
        reach = width * self.error
        return Estimate(self.value, max(0.0, self.value - reach), min(1.0, self.value + reach))


def of_scores(
    scores: Mapping[str, np.ndarray],
    members: int,
    labels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[dict[str, Look], dict[tuple[str, int], Look]]:
    """The AUC of every attack, over all units and class by class.

    Args:
        scores: (u,) per attack, members first; higher means member.
        members: their number.
        labels: (u,) int64, within which members and non-members are exchanged.
    """
    from scipy.stats import rankdata

    table = np.column_stack(list(scores.values()))
    inside = np.arange(len(table)) < members
    drawn = _permuted(inside, labels, rng)
    whole = _aucs(rankdata(table, axis=0), inside, drawn)
    overall = dict(zip(scores, _looks(table, inside, whole), strict=True))
    classes: dict[tuple[str, int], Look] = {}
    found = np.unique(labels)
    for label in found if len(found) > 1 else ():
        own = labels == label
        if min(inside[own].sum(), (~inside[own]).sum()) < FEWEST:
            continue
        aucs = _aucs(rankdata(table[own], axis=0), inside[own], drawn[:, own])
        looks = _looks(table[own], inside[own], aucs)
        classes |= {(name, int(label)): look for name, look in zip(scores, looks, strict=True)}
    return overall, classes


def width(looks: list[Look], level: float) -> float:
    """How many standard errors the farthest of these looks strays by chance at most.

    Args:
        level: the chance that it strays farther where there is nothing to find.
    """
    if not looks:
        return NORMAL
    farthest = np.sort(np.max([np.abs(look.draws) for look in looks], axis=0))
    place = int(np.ceil((1 - level) * (len(farthest) + 1))) - 1
    return max(NORMAL, float(farthest[min(place, len(farthest) - 1)]))


def farthest(looks: Mapping[Key, Look]) -> Key:
    """The look that is the most of its standard errors above chance."""
    return max(looks, key=lambda key: looks[key].off)


def look(value: float, drawn: np.ndarray, error: float = 0.0) -> Look:
    """A metric with its values (b,) under permuted memberships."""
    spread = float(drawn.std())
    if spread == 0:
        return Look(value, float(drawn.mean()), 0.0, error, np.zeros(len(drawn), np.float32))
    draws = ((drawn - drawn.mean()) / spread).astype(np.float32)
    return Look(value, float(drawn.mean()), spread, max(spread, error), draws)


def _permuted(inside: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Membership drawn again within each label (b, u) bool."""
    drawn = np.empty((REPETITIONS, len(inside)), dtype=bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        drawn[:, own] = rng.permuted(np.tile(inside[own], (REPETITIONS, 1)), axis=1)
    return drawn


def _aucs(ranks: np.ndarray, inside: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The AUC by the given membership, then by the drawn ones (1 + b, k)."""
    step = max(1, BLOCK_ELEMENTS // len(inside))
    blocks = [inside[None], *np.split(drawn, range(step, len(drawn), step))]
    sums = np.concatenate([block.astype(np.float64) @ ranks for block in blocks])
    counts = np.concatenate([block.sum(1) for block in blocks])[:, None]
    return (sums - counts * (counts + 1) / 2) / (counts * (len(inside) - counts))


def _looks(table: np.ndarray, inside: np.ndarray, aucs: np.ndarray) -> list[Look]:
    errors = _errors(table, inside)
    return [look(float(auc[0]), auc[1:], e) for auc, e in zip(aucs.T, errors, strict=True)]


def _errors(table: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The standard error of each column's AUC (k,) (DeLong, DeLong, Clarke-Pearson, 1988)."""
    from scipy.stats import rankdata

    ours, theirs = table[inside], table[~inside]
    m, h = len(ours), len(theirs)
    ranks = rankdata(table, axis=0)
    above = (ranks[inside] - rankdata(ours, axis=0)) / h  # share of H below each member
    below = 1 - (ranks[~inside] - rankdata(theirs, axis=0)) / m
    return np.sqrt(above.var(0, ddof=1) / m + below.var(0, ddof=1) / h)
