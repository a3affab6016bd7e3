"""What is attacked: persons, each by all their rows, or rows.

A row whose person is not known is a unit of its own. So everything here gives each row's own
value where persons are not known, or where each of them has one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.database import PERSON, ROW, EmbeddingSet, Splits


@dataclass(frozen=True)
class Units:
    """The persons, or else the rows, of n rows.

    Attributes:
        whose: (n,) int64, the number of each row's unit; units are numbered from 0 as they
            first appear.
        labels: (u,) int64, the label of each unit's first row.
    """

    whose: np.ndarray
    labels: np.ndarray

    @property
    def several(self) -> bool:
        """Whether a unit has more than one row."""
        return len(self) < len(self.whose)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Truth values of units (..., u) → of their rows (..., n)."""
        return chosen[..., self.whose]

    def means(self, values: np.ndarray) -> np.ndarray:
        """The mean of each unit's finite values: (n,) → (u,) float64, -inf where it has none."""
        finite = np.isfinite(values)
        whose = self.whose[finite]
        sums = np.bincount(whose, values[finite], minlength=len(self))
        counts = np.bincount(whose, minlength=len(self))
        nothing = np.full(len(self), -np.inf)
        return np.divide(sums, counts, out=nothing, where=counts > 0)

    def largest(self, values: np.ndarray) -> np.ndarray:
        """The largest of each unit's values: (n,) → (u,) float64."""
        found = np.full(len(self), -np.inf)
        np.maximum.at(found, self.whose, values)
        return found

    def one_each(self, rng: np.random.Generator) -> np.ndarray:
        """The number of one row of each unit, drawn at random (u,) int64, ascending."""
        order = rng.permutation(len(self.whose))
        return np.sort(order[np.unique(self.whose[order], return_index=True)[1]])

    def __len__(self) -> int:
        return len(self.labels)


def of(data: EmbeddingSet) -> Units:
    """The persons of these rows where they are known, else the rows."""
    persons = np.arange(len(data)) if data.persons is None else data.persons
    _, first, numbers = np.unique(persons, return_index=True, return_inverse=True)
    appearance = np.argsort(first)
    rank = np.empty_like(appearance)
    rank[appearance] = np.arange(len(first))
    return Units(rank[numbers], data.labels[first[appearance]])


def persons(data: EmbeddingSet) -> np.ndarray:
    """Whose the rows are (n,) int64, where an audit by person needs it."""
    assert data.persons is not None
    return data.persons


def chosen(splits: Splits, asked: str | None) -> str:
    """PERSON or ROW: what is asked for, else the person where the splits say whose rows are.

    Raises:
        InputError: persons are asked for and not known.
    """
    for data in (splits.train, splits.test):
        data.by(asked)
    known = splits.train.persons is not None and splits.test.persons is not None
    return asked or (PERSON if known else ROW)
