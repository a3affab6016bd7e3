"""Released rows that are real rows: proof of a leak, also where they are few.

An AUC hardly moves when one row in a hundred is a copy, and so few non-members cannot show that
none of them is copied. But a copy lies nearer to one real row than any real row lies to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from src.audit import attacks, units, views
from src.audit.attacks import TINY, subset
from src.audit.sampling import EVERYTHING, Sample
from src.audit.statistics import Estimate, binomial
from src.audit.views import View
from src.core import distances
from src.database import EmbeddingSet

LEVEL = 0.01  # how often such proof is found where there is nothing to find
THOUSANDTH = 1e-3  # of the median distance between real neighbours: nearer is a copy
TAIL = 0.05  # share of the real rows' ratios to which the tail is fitted
FEWEST = 10  # ratios that a tail is fitted to
MOST_ROWS = 4000  # real rows, of which ratios are taken; more would only cost time
MOST_NEIGHBOURS = 64  # that are searched for one of another person
EQUAL = 1e-6  # relative: distances that differ by less are of copies of one row

VIEWS: dict[str, Callable[[EmbeddingSet, EmbeddingSet, np.ndarray], View]] = {
    "as they are": lambda release, real, rows: View(subset(release, rows), real),
    "after standardising": lambda release, real, rows: _shown(
        views.standardised(release, real), rows
    ),
    "by the shape of each row": lambda release, real, rows: views.shapes(
        subset(release, rows), real
    ),
}


class Nearness(NamedTuple):
    """How near each row is to its nearest real row, and that against the next one."""

    distances: np.ndarray  # (m,) float64
    ratios: np.ndarray  # (m,) float64 in 0..1: over the distance to the next person's (row)
    nearest: np.ndarray  # (m,) int64, the number of the real row


class Hugging(NamedTuple):
    """Released rows that lie nearer to one real row than chance allows."""

    rows: np.ndarray  # (k,) int64, numbers of released rows, the nearest first
    nearest: np.ndarray  # (k,) int64, numbers of the real rows
    p_value: float  # of so many rows so near, if real rows' own nearness were the rule


class Copied(NamedTuple):
    """Released rows that are real rows, in the view that shows them best."""

    view: str
    released: np.ndarray  # (k,) int64, numbers of rows of the release, ascending
    real: np.ndarray  # (k,) int64, of the nearest real rows; training rows come first
    members: int  # number of training rows
    rows: int  # of the release
    p_value: float
    sampled: int  # rows of the release, drawn at random, among which all were looked for
    in_sample: int  # how many of them were found there; others are exact copies

    @property
    def share(self) -> Estimate:
        """They as a share of the released rows, with an interval at the level of such proof.

        Where the rows drawn hold none, exact copies alone were found, among all rows.
        """
        if self.in_sample:
            return binomial(self.in_sample, self.sampled, 1 - LEVEL)
        return binomial(len(self.released), self.rows, 1 - LEVEL)

    def lines(self) -> list[str]:
        """Released row and real row by number, from 0 as in their files, one pair per line."""
        return [
            f"released row {ours}: "
            + (
                f"training row {real}"
                if real < self.members
                else f"test row {real - self.members}"
            )
            for ours, real in zip(self.released, self.real, strict=True)
        ]


def shares(
    release: EmbeddingSet,
    members: EmbeddingSet,
    shown: np.ndarray,
    lengths: np.ndarray,
    device: torch.device,
) -> tuple[Estimate, Estimate]:
    """The shares of released rows that equal a member, and that lie a thousandth away or less.

    Args:
        shown: (n,) bool, the released rows whose nearest member is known; the second share is
            of them, the first one of all.
        lengths: (m,) from each of these to the nearest member.
    """
    exact = attacks.occurs(release, members)
    known = attacks.distinct(members)
    sample = subset(known, np.arange(len(known))[:: -(-len(known) // MOST_ROWS)])
    queries, references = (
        torch.from_numpy(data.embeddings).to(device) for data in (sample, known)
    )
    apart = distances.nearest(queries, references, min(2, len(known))).distances[:, -1]
    near = exact[shown] | (lengths <= THOUSANDTH * float(apart.median()))
    return binomial(int(exact.sum()), len(exact)), binomial(int(near.sum()), len(near))


def nearness(
    rows: EmbeddingSet, real: EmbeddingSet, device: torch.device, *, own: np.ndarray | None = None
) -> Nearness:
    """The nearest real row of each row, and how much nearer it is than the next person's.

    Args:
        own: (m,) int64, the number of each row's own unit among the real ones, which does not
            count; None for released rows, which have none.
    """
    whose = units.of(real).whose
    most = 2 * int(np.bincount(whose).max()) + 2
    k = min(len(real), MOST_NEIGHBOURS, most)
    queries, references = (torch.from_numpy(d.embeddings).to(device) for d in (rows, real))
    found = distances.nearest(queries, references, k)
    lengths, indices = (part.cpu().numpy() for part in found)
    lengths = lengths.astype(np.float64)
    people = whose[indices]
    able = np.ones_like(people, dtype=bool) if own is None else people != own[:, None]
    each = np.arange(len(rows))
    first = able.argmax(1)
    nearest = lengths[each, first]
    further = able & (people != people[each, first][:, None])
    further &= lengths > nearest[:, None] * (1 + EQUAL)
    following = np.where(further.any(1), lengths[each, further.argmax(1)], lengths[:, -1])
    ratios = nearest / np.maximum(following, np.maximum(nearest, TINY))
    ratios[~able.any(1)] = 1.0
    return Nearness(nearest, ratios, indices[each, first])


def hugging(
    release: EmbeddingSet,
    real: EmbeddingSet,
    level: float,
    device: torch.device,
    *,
    weight: float = 1.0,
) -> Hugging:
    """Released rows nearer to one real row than real rows lie to each other.

    For points without structure in d dimensions the ratio of the distances to the nearest and to
    the second nearest, to the power of d, is uniform. So the ratios of the real rows, each left
    out, have a tail t^d, whose d is fitted to the smallest of them (Hill, 1975), lowered by two
    standard errors; it is used below them. It says how many of the m released rows may be so near
    by chance, and the number of those that are is Poisson.

    Args:
        level: the chance of any such row where there is nothing to find.
        weight: rows from which these were chosen, over their number.
    """
    sample = np.arange(len(real))[:: -(-len(real) // MOST_ROWS)]
    own = units.of(real).whose[sample]
    expected = np.sort(nearness(subset(real, sample), real, device, own=own).ratios)
    ours = nearness(release, real, device)
    chances = _tail(ours.ratios, expected)
    order = np.argsort(chances, kind="stable")
    ordered = chances[order]
    counts = 2 ** np.arange(int(np.log2(len(ordered))) + 1)  # 1, 2, 4, ... of the nearest
    # more than real rows show, at the rate at which they show it, is no proof
    counts = counts[ordered[counts - 1] < 1 / len(expected)]
    if not len(counts):
        return Hugging(order[:0], ours.nearest[:0], 1.0)
    from scipy.stats import poisson

    looked_at = weight * len(ordered)
    means = looked_at * ordered[counts - 1]
    p_values = poisson.sf(counts - 1, means) * (int(np.log2(len(ordered))) + 1)
    best = int(np.argmin(p_values))
    if p_values[best] > level:
        return Hugging(order[:0], ours.nearest[:0], min(1.0, float(p_values[best])))
    near = order[: max(counts[best], np.searchsorted(ordered, level / looked_at))]
    return Hugging(near, ours.nearest[near], float(p_values[best]))


def _tail(ratios: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The chance of a ratio at most this small (m,), from those of real rows, ascending."""
    n = len(expected)
    fitted = min(max(FEWEST, round(TAIL * n)), n)
    bound = max(expected[fitted - 1], TINY)
    mean = np.log(bound / np.maximum(expected[:fitted], TINY)).mean()
    power = (1 - 2 / np.sqrt(fitted)) / max(mean, TINY)
    beyond = fitted / n * (np.minimum(ratios, bound) / bound) ** power
    # at most as rare as the real rows themselves show it
    return np.maximum(beyond, np.searchsorted(expected, ratios, side="right") / n)


def _shown(view: View, rows: np.ndarray) -> View:
    return view._replace(release=subset(view.release, rows))


def search(
    released: EmbeddingSet,
    train: EmbeddingSet,
    test: EmbeddingSet,
    device: torch.device,
    *,
    sample: Sample = EVERYTHING,
) -> Copied:
    """The released rows that lie too near to one real row, in the view that shows them best.

    Args:
        released: all rows; equal ones count once.
        train, test: all real rows, also those that are copies of each other.
        sample: the released rows among which copies are looked for; exact ones are among all.
    """
    first = attacks.firsts(released)
    release, real = subset(released, first), attacks.together(train, test)
    drawn = sample.of(release, "released")
    rows = np.flatnonzero(drawn | _exact(release, real, drawn, sample))
    weight = len(release) / len(rows) if len(rows) > drawn.sum() else 1.0
    level = LEVEL / len(VIEWS)
    found = {
        name: hugging(*seen(release, real, rows), level, device, weight=weight)
        for name, seen in VIEWS.items()
    }
    best = min(found, key=lambda name: (found[name].p_value, -len(found[name].rows)))
    ours, place = np.unique(found[best].rows % len(rows), return_index=True)
    nearest = found[best].nearest[place]
    copied = rows[ours]
    return Copied(
        best,
        first[copied],
        nearest,
        len(train),
        len(release),
        found[best].p_value,
        int(drawn.sum()),
        int(drawn[copied].sum()),
    )


def _exact(
    release: EmbeddingSet, real: EmbeddingSet, drawn: np.ndarray, sample: Sample
) -> np.ndarray:
    """The released rows, at most as many as are drawn, that equal a real row (n,) bool."""
    if drawn.all():
        return drawn
    exact = attacks.occurs(release, real)
    return exact & (np.cumsum(exact) <= sample.most)
