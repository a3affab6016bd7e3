"""The one place where a split is made that the data's publishers did not make."""

from __future__ import annotations

import warnings
from typing import Any, TypeGuard

import numpy as np

from src.core.errors import DataError
from src.database import SPLITS

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1  # of what is not test
SPLIT_SEED = 12345


def divided(
    said: np.ndarray,
    labels: np.ndarray,
    persons: np.ndarray | None,
    where: object,
    class_names: list[str],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The row numbers of each split, and what `facts` record of those that are made here.

    Args:
        said: (n,) the split of each row; "" for all where nothing says it.
        labels: (n,) int64.
        persons: (n,) int64, whose rows stay together in the splits that are made here.
        where, class_names: what the rows are from and their classes, for errors.

    Raises:
        DataError: the rows are too few, of all or of a class; or there is no train or test split.
    """
    parts = {split: np.flatnonzero(said == split) for split in SPLITS if split in said}
    made: dict[str, Any] = {}
    how = "held out" if persons is None else "held out by person"
    require_needed(said, where)
    try:
        if "" in said:
            _require_two_of_each(labels, persons, class_names)
            parts["train"], parts["test"] = hold_out(labels, TEST_FRACTION, persons)
            made |= {"test": how}
        if "val" not in parts:
            train = parts["train"]
            whose = None if persons is None else persons[train]
            _require_two_of_each(labels[train], whose, class_names)
            kept, held_out = hold_out(labels[train], VAL_FRACTION, whose)
            parts["val"], parts["train"] = train[held_out], train[kept]
            made |= {"val": how, "split_seed": SPLIT_SEED}
    except DataError as error:
        missing = "has no splits" if "" in said else "has no validation split"
        raise DataError(f"{where} {missing}, and {error}") from error
    return {split: parts[split] for split in SPLITS}, made


def require_needed(said: np.ndarray, where: object) -> None:
    """Raise DataError where splits are said, but not both train and test."""
    for split in ("train", "test"):
        if split not in said and "" not in said:
            raise DataError(f"{where} has no rows of the split {split}")


def _require_two_of_each(
    labels: np.ndarray, persons: np.ndarray | None, class_names: list[str]
) -> None:
    """Raise DataError where rows are split by class and one has one row; by person it may."""
    if _several(persons):
        return
    alone = np.flatnonzero(np.bincount(labels) == 1)
    if len(alone):
        others = f" (and so have {len(alone) - 1} other classes)" if len(alone) > 1 else ""
        raise DataError(
            f"class '{class_names[alone[0]]}' has only 1 row{others}, which cannot be in two "
            "splits: say the splits, leave the class out, or gather more of it"
        )


def hold_out(
    labels: np.ndarray, fraction: float, persons: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of (rows kept, rows held out), split by class, each in shuffled order.

    Args:
        labels: (n,) int64.
        fraction: of the rows, to be held out.
        persons: (n,) int64; all rows of a person are in one part.

    Raises:
        DataError: too few rows for every class to be in both parts, or too few persons for every
            class to be kept.
    """
    if _several(persons):
        return _hold_out_persons(labels, fraction, persons)
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, random_state=SPLIT_SEED, stratify=labels
        )
    except ValueError as error:
        raise DataError(
            f"{len(labels)} rows of {len(np.unique(labels))} classes are too few to hold "
            f"out {fraction:.0%} of them with every class in both parts: {error}"
        ) from error
    return kept, held_out


def _several(persons: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether a person has two rows; else splits are those of rows."""
    return persons is not None and len(np.unique(persons)) < len(persons)


def _hold_out_persons(
    labels: np.ndarray, fraction: float, persons: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The fold of scikit-learn's StratifiedGroupKFold whose classes are nearest to `fraction`.

    Of folds without which each class still has rows; one that has all classes comes first.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    people, total = len(np.unique(persons)), np.bincount(labels)
    count = min(round(1 / fraction), people, total.max())
    folds: list[tuple[float, float, np.ndarray]] = []
    if count > 1:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=SPLIT_SEED)
        with warnings.catch_warnings(action="ignore"):  # a class with fewer rows than folds
            for _, rows in splitter.split(labels, labels, persons):
                held = np.bincount(labels[rows], minlength=len(total))
                if len(rows) and (held < total)[total > 0].all():
                    lost, error = (held == 0).sum(), np.abs(held - fraction * total).sum()
                    folds.append((int(lost), float(error), rows))
    if not folds:
        raise DataError(
            f"{people} persons with rows of {(total > 0).sum()} classes are too few to hold out "
            f"{fraction:.0%} of them with every class in the other part"
        )
    held_out = min(folds, key=lambda fold: fold[:2])[2]
    stream = np.random.default_rng(SPLIT_SEED)
    kept = np.setdiff1d(np.arange(len(labels)), held_out)
    return stream.permutation(kept), stream.permutation(held_out)
