"""Who is looked at where all would be too many: rows of whole persons, drawn at random.

Every product of two sets of rows then has a side of bounded size, so an audit's time grows with
the number of rows and not with its square.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from src.audit import attacks, units
from src.core import seeding
from src.database import EmbeddingSet

FEWEST_PERSONS = 100  # that are drawn where there are as many, whatever their rows


class Sample(NamedTuple):
    """How rows are drawn; the same ones whenever they are drawn again."""

    most: int  # rows of each side
    seed: int  # of the audit

    def of(self, data: EmbeddingSet, name: str) -> np.ndarray:
        """Which rows are looked at (n,) bool: all, or those of persons drawn at random.

        Of fewer than a hundred persons with more rows than that, rows are drawn.

        Args:
            name: of the side, with random numbers of its own.
        """
        if len(data) <= self.most:
            return np.ones(len(data), dtype=bool)
        rng = np.random.default_rng(seeding.stream_seed(self.seed, f"audit/sample/{name}"))
        people = units.of(data)
        order = rng.permutation(len(people))
        within = np.cumsum(np.bincount(people.whose)[order]) <= self.most
        within[:FEWEST_PERSONS] = True
        persons = np.zeros(len(people), dtype=bool)
        persons[order[within]] = True
        rows = np.flatnonzero(people.rows(persons))
        if len(rows) > self.most:
            rows = rng.permutation(rows)[: self.most]
        chosen = np.zeros(len(data), dtype=bool)
        chosen[rows] = True
        return chosen

    def drawn(self, data: EmbeddingSet, name: str) -> EmbeddingSet:
        """Those rows."""
        return some(data, self.of(data, name))


EVERYTHING = Sample(sys.maxsize, 0)


def some(data: EmbeddingSet, chosen: np.ndarray) -> EmbeddingSet:
    """The rows where these truth values are true; not copied where all are."""
    return data if chosen.all() else attacks.subset(data, chosen)
