"""Rows that occur twice: the same image or embedding in two splits."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

BLOCK = 1 << 22  # elements that are looked at once


def among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows are equal to a row of `others`, (n,) bool.

    Args:
        rows: (n, D).
        others: (m, D) of the same type; -0.0 equals 0.0.
    """
    known = {*_marks(others)}
    return np.fromiter((mark in known for mark in _marks(rows)), bool, len(rows))


def _marks(rows: np.ndarray) -> Iterator[bytes]:
    """16 bytes per row, equal for equal rows; those of different rows differ in practice."""
    step = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step] + 0  # -0.0 becomes 0.0
        for row in np.ascontiguousarray(block):
            yield blake2b(row, digest_size=16).digest()
