"""Classes of files that belong together: matched by name, in whatever order each has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.core.errors import DataError

FEW = 1000  # classes that may be numbered even where rows are fewer


def require_numbered(path: Path, labels: np.ndarray) -> None:
    """Raise DataError where labels (n,) are not numbers of classes, but of patients, dates, ..."""
    if labels.max() + 1 > max(len(labels), FEW):
        raise DataError(
            f"{path}: label {labels.max()} is too large for {len(labels)} rows; labels are 0..C-1"
        )


def require_known(
    path: Path, labels: np.ndarray, train_path: Path, train: np.ndarray, named: int
) -> None:
    """Raise DataError where rows are of classes that training does not have.

    Args:
        labels: (n,) of these rows.
        train: (m,) of the training rows.
        named: how many classes have names, also without a training row.
    """
    unknown = np.setdiff1d(labels, np.union1d(train, np.arange(named)))
    if len(unknown):
        raise DataError(f"{path}: label {unknown[0]} does not occur in {train_path}")
    if not np.isin(labels, train).any():
        raise DataError(f"{path} has no row of a class that {train_path} has rows of")


def renumbered(
    path: Path, labels: np.ndarray, names: Sequence[str], others: Sequence[str]
) -> np.ndarray:
    """Labels (n,) int64 by the names of their own file → by those of another file.

    Raises:
        DataError: rows have a class that the other file does not name, or names are not unique.
    """
    numbers = {name: number for number, name in enumerate(others)}
    if len(numbers) < len(others) or len(set(names)) < len(names):
        raise DataError(
            f"{path}: its classes ({', '.join(names)}) and those of the training rows "
            f"({', '.join(others)}) are in another order, and a name occurs twice"
        )
    unknown = [names[c] for c in np.unique(labels) if names[c] not in numbers]
    if unknown:
        raise DataError(
            f"{path} has rows of class '{unknown[0]}', which the training rows do not name "
            f"(they name: {', '.join(others)})"
        )
    return np.array([numbers.get(name, -1) for name in names], np.int64)[labels]
