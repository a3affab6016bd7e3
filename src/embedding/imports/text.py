"""Embeddings in CSV and TSV files, one row per line, read in blocks; and lists of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from src.core import progress
from src.core.errors import DataError
from src.core.files import reading
from src.embedding import delimited
from src.embedding.delimited import SEMICOLON, Line
from src.embedding.imports import columns
from src.embedding.imports.columns import EMBEDDING, Found
from src.embedding.imports.tables import Labels, Table, split_named

BLOCK = 1 << 20  # cells that become numbers at once


def read(path: Path, said: Mapping[str, str]) -> Table:
    """The rows of a table with a column per dimension, or one that holds lists of numbers.

    Where semicolons separate, numbers may have a decimal comma.

    Raises:
        MissingFileError, DataError: as `delimited.opened` and `columns.find`; or a cell is not a
            finite number.
    """
    content = delimited.opened(path)
    found = columns.find(content.columns, said, path)
    places = columns.dimensions(content.columns, found.rest, said.get(EMBEDDING), path)
    names = [content.columns[i] for i in places]
    numbers = _Numbers(path, places, names, content.delimiter == SEMICOLON)
    blocks, others = [], _Others(found)
    with progress.bar(desc=path.name, unit=" rows") as bar:
        while block := list(islice(content.lines, max(1, BLOCK // len(names)))):
            blocks.append(numbers.of(block))
            others.add(block)
            bar.update(len(block))
    if not blocks:
        raise DataError(f"{path} has no rows below the names of its columns")
    unread = [content.columns[i] for i in found.rest if i not in places]
    return Table(
        path,
        np.concatenate(blocks),
        others.labels(path),
        split=split_named(path.stem),
        names=tuple(names),
        unread=unread,
    )


def read_labels(path: Path, said: Mapping[str, str]) -> Labels:
    """Labels for the rows of another file, in their order: a table, or a text of one per line."""
    if path.suffix.lower() not in delimited.SUFFIXES:
        with reading(path, "is not a text of labels"):
            labels = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
        return Labels(path, labels, lines=range(1, len(labels) + 1))
    content = delimited.opened(path)
    found = columns.find(content.columns, said, path)
    others = _Others(found)
    others.add(list(content.lines))
    return others.labels(path)


class _Others:
    """What is read of each line besides numbers."""

    def __init__(self, found: Found) -> None:
        self.places = (found.label, found.split, found.person)
        self.cells: list[list[str]] = [[] for _ in self.places]
        self.numbers: list[int] = []

    def add(self, block: list[Line]) -> None:
        self.numbers += [line.number for line in block]
        for cells, place in zip(self.cells, self.places, strict=True):
            if place is not None:
                cells += [line.cells[place] for line in block]

    def labels(self, path: Path) -> Labels:
        label, split, person = (
            None if place is None else cells
            for cells, place in zip(self.cells, self.places, strict=True)
        )
        return Labels(path, label, split, person, lines=self.numbers)


class _Numbers:
    """The numbers in some columns of a file."""

    def __init__(self, path: Path, places: list[int], names: list[str], comma: bool) -> None:
        self.path, self.places, self.names, self.comma = path, places, names, comma
        self.marks: set[str] = set()  # decimal points and commas that have been seen
        self.width = 0  # of lists

    def of(self, block: list[Line]) -> np.ndarray:
        """Lines as (n, D) float32.

        Raises:
            DataError: a cell is not a finite number, lists have different lengths, or decimal
                points and commas occur in one file.
        """
        rows = [[line.cells[i] for i in self.places] for line in block]
        if len(self.places) == 1 and any(self._is_list(row[0]) for row in rows):
            rows = [re.sub(r"[\[\](),;]", " ", row[0]).split() for row in rows]
            self._require_one_length(block, rows)
        elif self.comma:
            self._require_one_mark(block, rows)
            rows = [[cell.replace(",", ".") for cell in row] for row in rows]
        try:
            values = np.array(rows, np.float64)
            with np.errstate(over="ignore"):
                found = values.astype(np.float32)
        except ValueError:
            found = np.full((1, 1), np.nan, np.float32)
        if not np.isfinite(found).all() or any("_" in "".join(row) for row in rows):
            raise self._wrong(block, rows)
        return found

    def _is_list(self, cell: str) -> bool:
        return re.search(r"[\s\[(]" if self.comma else r"[\s\[(,;]", cell.strip()) is not None

    def _require_one_length(self, block: list[Line], rows: list[list[str]]) -> None:
        self.width = self.width or len(rows[0])
        for line, row in zip(block, rows, strict=True):
            if len(row) != self.width or not row:
                raise DataError(
                    f"{self.path}, line {line.number}: column '{self.names[0]}' holds {len(row)} "
                    f"numbers, in the first row {self.width}"
                )

    def _require_one_mark(self, block: list[Line], rows: list[list[str]]) -> None:
        for line, row in zip(block, rows, strict=True):
            text = " ".join(row)
            self.marks |= {mark for mark in ",." if mark in text}
            if len(self.marks) > 1:
                raise DataError(
                    f"{self.path}, line {line.number}: numbers have decimal points and commas; "
                    "write all with the same"
                )

    def _wrong(self, block: list[Line], rows: list[list[str]]) -> DataError:
        """What is wrong with the first cell that is not a finite number."""
        for line, row in zip(block, rows, strict=True):
            for i, cell in enumerate(row):
                where = (
                    f"{self.path}, line {line.number}: column '{self.names[i % len(self.names)]}'"
                )
                try:
                    value = np.array("x" if "_" in cell else cell).astype(np.float64)
                except ValueError:
                    return DataError(
                        f"{where} {'is not a number' if cell.strip() else 'is empty'}"
                    )
                if not abs(value) <= np.finfo(np.float32).max:
                    return DataError(f"{where} is {cell.strip()}; all must be finite in float32")
        raise AssertionError
