"""Blocks of nearby rows, within which k-Same groups are made where all pairs would be too many.

A balanced 2-means tree cuts the rows into leaves. The exact grouping takes n²·D operations, that
of leaves of B rows n·B·D; each group still has k rows.

The leaves are a function of the data alone, whatever the memory, the device or the number of
threads: rows and centres are whole numbers, so that the products that decide on which side a row
lies are exact in float64, in whatever order they are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NORM_BITS = 25  # the longest row's norm is below 2^25, the difference of two centres' below 2^26
SAMPLE = 8192  # rows of a node by which its centres are found
ROUNDS = 20  # of 2-means at most
CHUNK = 1 << 22  # elements that are converted at once


def leaves(rows: np.ndarray, members: np.ndarray, k: int, block_rows: int) -> list[np.ndarray]:
    """Cut some of the rows into blocks of nearby ones whose sizes are multiples of k.

    Args:
        rows: (N, D) float32.
        members: (n,) int64, the numbers of those that are cut, ascending; n is a multiple of k.
        block_rows: B, the most rows of a block; at least k.

    Returns:
        The row numbers of each block, ascending: (n_i,) int64, n_i at most B.
    """
    most = block_rows // k  # groups of a leaf
    if len(members) <= most * k:
        return [members]
    grid = _Grid.of(rows, members)
    found, waiting = [], [members]
    while waiting:
        members = waiting.pop()
        groups = len(members) // k
        parts = -(-groups // most)
        if parts == 1:
            found.append(members)
            continue
        first = k * -(-groups * (parts // 2) // parts)  # as large as its share of the leaves
        side = np.argsort(grid.products(rows, members, _direction(grid, rows, members, first)))
        waiting += [np.sort(members[side[first:]]), np.sort(members[side[:first]])]
    return found


def _direction(grid: _Grid, rows: np.ndarray, members: np.ndarray, first: int) -> np.ndarray:
    """The difference [D] of two centres of a node's rows, by balanced 2-means on a sample.

    Args:
        first: how many of the members are to lie on the side of the first centre.
    """
    sample = members[:: -(-len(members) // SAMPLE)]
    points = grid.whole(rows[sample])
    share = max(1, min(len(sample) - 1, round(len(sample) * first / len(members))))
    start = points[np.square(points - np.rint(points.mean(0))).sum(1).argmax()]
    direction = points[np.square(points - start).sum(1).argmax()] - start
    before = None
    for _ in range(ROUNDS):
        order = np.argsort(points @ direction, kind="stable")
        inside = np.zeros(len(points), dtype=bool)
        inside[order[:share]] = True
        if before is not None and np.array_equal(inside, before):
            break
        before = inside
        centre, other = (np.rint(points[side].mean(0)) for side in (inside, ~inside))
        direction = other - centre
    return direction


@dataclass(frozen=True)
class _Grid:
    """Whole numbers in the place of rows: moved near their mean, scaled by a power of two."""

    shift: np.ndarray  # (D,) float64, whole
    scale: float

    @classmethod
    def of(cls, rows: np.ndarray, members: np.ndarray) -> _Grid:
        """The grid on which the member farthest from the members' mean has a norm below 2^25."""
        chunks = [members[chunk] for chunk in _chunks(len(members), rows.shape[1])]
        mean = sum(rows[chunk].sum(0, dtype=np.float64) for chunk in chunks) / len(members)
        longest = max(np.linalg.norm(rows[chunk] - mean, axis=1).max() for chunk in chunks)
        scale = math.ldexp(1.0, NORM_BITS - 1 - math.frexp(longest)[1])
        return cls(np.rint(mean * scale), scale)

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """Rows (m, D) as whole numbers, float64."""
        return np.rint(rows.astype(np.float64) * self.scale) - self.shift

    def products(self, rows: np.ndarray, members: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The dot product of each member's row with a whole direction [D] → (m,) float64."""
        found = np.empty(len(members))
        for chunk in _chunks(len(members), rows.shape[1]):
            found[chunk] = self.whole(rows[members[chunk]]) @ direction
        return found


def _chunks(count: int, dim: int) -> Iterator[slice]:
    """Slices that cover `count` rows of `dim` numbers."""
    step = max(1, CHUNK // dim)
    return (slice(i, i + step) for i in range(0, count, step))
