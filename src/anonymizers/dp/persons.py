"""Whose the rows are, for sums and samples to which persons contribute alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def numbered(persons: np.ndarray) -> np.ndarray:
    """Persons (n,) as numbers 0, 1, … in the order of their first rows."""
    _, first, whose = np.unique(persons, return_index=True, return_inverse=True)
    return first.argsort().argsort()[whose]


def weights_of(persons: np.ndarray | None, rows: int) -> np.ndarray:
    """What each row weighs (rows,) float64: 1, or 1 over the number of its person's rows.

    A weighted sum of vectors of norm at most 1 changes by at most 1 in norm with each person:
    they contribute the mean of their rows' vectors.
    """
    if persons is None:
        return np.ones(rows)
    whose = numbered(persons)
    return 1.0 / np.bincount(whose)[whose]


class Persons(NamedTuple):
    """Whose the rows are, where some persons have several."""

    rows: Tensor  # [n] the rows' numbers, those of a person beside each other
    first: Tensor  # [p] where each person's begin
    sizes: Tensor  # [p] how many each has
    weights: Tensor  # [n] of each row, 1 over the number of its person's

    @classmethod
    def of(cls, persons: np.ndarray | None, device: torch.device) -> Persons | None:
        """None where each row is a unit of its own."""
        if persons is None:
            return None
        whose = torch.from_numpy(numbered(persons))
        sizes = whose.bincount()
        if len(sizes) == len(whose):
            return None
        rows, first = whose.argsort(stable=True), sizes.cumsum(0) - sizes
        weights = torch.from_numpy(weights_of(persons, len(persons)))
        return cls(*(part.to(device) for part in (rows, first, sizes, weights)))
