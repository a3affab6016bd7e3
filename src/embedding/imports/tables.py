"""Rows of embeddings as a file has them, and what is checked of every such file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.core.errors import DataError
from src.embedding.datasets.finding import name_of, split_of

_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?([eE][+]?0+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Labels(NamedTuple):
    """What a file says of rows besides their numbers.

    Attributes:
        path: the file.
        labels: names of classes, or whole numbers, as text; None where it has none.
        splits: as the file has them; None where it has none.
        persons: ids as the file has them; None where it has none.
        lines: the number of each row's line in the file, where it has lines.
    """

    path: Path
    labels: Sequence[str] | None
    splits: Sequence[str] | None = None
    persons: Sequence[str] | None = None
    lines: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        """How many rows it speaks of."""
        return len(self.labels or self.splits or self.persons or ())

    def at(self, row: int) -> str:
        """Where a row is, for errors."""
        return f"{self.path}, {f'row {row}' if self.lines is None else f'line {self.lines[row]}'}"

    def classes(self) -> list[str]:
        """The name of each row's class; `1.0` is `1`.

        Raises:
            DataError: a row has none, or one that is a fraction; or no row has one.
        """
        if self.labels is None:
            raise DataError(f"{self.path} has no labels; say where: --columns label=NAME")
        known: dict[str, str] = {}
        for row, text in enumerate(self.labels):
            if text not in known:
                known[text] = self._class(row, text)
        return [known[text] for text in self.labels]

    def _class(self, row: int, text: str) -> str:
        if text.strip().lower() in ("", "nan"):
            raise DataError(f"{self.at(row)}: there is no label")
        if whole := _WHOLE.fullmatch(text.strip()):
            return whole[1].removeprefix("+")
        if _NUMBER.fullmatch(text.strip()):
            raise DataError(
                f"{self.at(row)}: label {text.strip()} is a fraction; a label is the name of a "
                "class, or a whole number"
            )
        return name_of(text, self.at(row))

    def checked_splits(self, named: str) -> list[str]:
        """The split of each row; none where the file has no splits.

        Args:
            named: the split that the name of the file or of the array says, "" if none.

        Raises:
            DataError: a row has none, an unknown one, or another than the name says.
        """
        if self.splits is None:
            return []
        found = {text: split_of(text) for text in set(self.splits)}
        for row, text in enumerate(self.splits):
            split = found[text]
            if not split:
                raise DataError(
                    f"{self.at(row)}: '{text.strip()}' is not a split (valid: train, val, test); "
                    "if the column says something else: --columns split="
                )
            if named not in ("", split):
                raise DataError(f"{self.at(row)}: the split is {split}, the name says {named}")
        return [found[text] or "" for text in self.splits]


class Table(NamedTuple):
    """The rows of one file, or of one split of it.

    Attributes:
        path: the file.
        embeddings: (n, D) float32, finite.
        labels: what else is known of them.
        split: what the name of the file or of the array says, "" if nothing.
        names: of the columns, one per dimension, where there is one for each.
        unread: names of columns that are not read.
    """

    path: Path
    embeddings: np.ndarray
    labels: Labels
    split: str = ""
    names: tuple[str, ...] = ()
    unread: Sequence[str] = ()


def split_named(name: str) -> str:
    """The split that a name says: `train`, `X_train`, `valid-features`; "" if none or several."""
    found = {split_of(part) for part in re.split(r"[\W_]+", name)} - {None}
    return str(found.pop()) if len(found) == 1 else ""


def without_split(name: str) -> str:
    """The rest of such a name: `X_train` is `X`."""
    parts = re.split(r"[\W_]+", name)
    return "_".join(part for part in parts if not split_of(part))
