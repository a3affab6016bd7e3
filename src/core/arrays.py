"""Checks of arrays that were read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from src.core.errors import DataError


def checked_embeddings(path: Path, array: np.ndarray) -> np.ndarray:
    """Embeddings read from `path` as (n, D) float32.

    Raises:
        DataError: they are not finite real numbers of that shape.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: embeddings must be real numbers shaped (n, D), "
            f"not {array.dtype} shaped {array.shape}"
        )
    if array.shape[1] == 0:
        raise DataError(f"{path}: embeddings have no dimensions (shape {array.shape})")
    with np.errstate(over="ignore"):
        embeddings = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(embeddings)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{path}: embeddings[{row}, {column}] is {array[row, column]}; "
            "all must be finite in float32"
        )
    return embeddings


def checked_labels(path: Path, array: np.ndarray) -> np.ndarray:
    """Labels read from `path`, shaped (n,) or (n, 1), as (n,) int64.

    Raises:
        DataError: they are not one whole number, 0 or above, per row.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{path}: labels are shaped {array.shape}; one label per row is needed, shaped (n,) "
            "(multi-label sets are not supported)"
        )
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: labels must be whole numbers, not {array.dtype}")
    if len(array) and not np.isfinite(array).all():
        raise DataError(f"{path}: labels contain NaN or infinity")
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    fractional = np.flatnonzero(labels != array)
    if len(fractional):
        raise DataError(f"{path}: label {array[fractional[0]]} is not a whole number")
    if len(labels) and labels.min() < 0:
        raise DataError(f"{path}: label {labels.min()} is negative; labels are 0..C-1")
    return labels
