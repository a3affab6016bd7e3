"""Rows that occur twice: the same image or embedding in two splits."""

from __future__ import annotations

import numpy as np


def among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows are equal to a row of `others`, (n,) bool.

    Args:
        rows: (n, D).
        others: (m, D) of the same type; -0.0 equals 0.0.
    """
    known = {row.tobytes() for row in others + 0}
    return np.fromiter((row.tobytes() in known for row in rows + 0), bool, len(rows))
