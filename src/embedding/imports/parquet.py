"""Embeddings in Parquet files, through pyarrow, an optional requirement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.core import progress
from src.core.errors import DataError, MissingPackageError
from src.core.files import reading
from src.embedding.imports import columns
from src.embedding.imports.columns import EMBEDDING
from src.embedding.imports.tables import Labels, Table, split_named

SUFFIXES = (".parquet", ".pq")
REQUIREMENTS = "requirements-parquet.txt"
ROWS = 1 << 13  # that are read at once
INDEX = "__index_level_"  # how the row numbers of pandas are called


def read(path: Path, said: Mapping[str, str]) -> Table:
    """The rows of a file with a column of lists, or one column per dimension.

    Raises:
        MissingFileError: it does not exist.
        MissingPackageError: pyarrow is not installed.
        DataError: it is damaged, or values are missing, not finite or no numbers.
    """
    content = _opened(path)
    names = [str(n) for n in content.schema_arrow.names if not str(n).startswith(INDEX)]
    found = columns.find(names, said, path)
    places = columns.dimensions(names, found.rest, said.get(EMBEDDING), path)
    used = tuple(names[i] for i in places)
    others = [None if i is None else names[i] for i in found[:3]]
    texts: list[list[str]] = [[], [], []]
    numbers = _Numbers(path, used)
    rows = content.metadata.num_rows
    with progress.bar(desc=path.name, total=rows, unit=" rows") as bar, reading(path):
        for batch in content.iter_batches(ROWS, columns=[*used, *filter(None, others)]):
            numbers.add(batch)
            for cells, name in zip(texts, others, strict=True):
                cells += _texts(path, name, batch.column(name)) if name else []
            bar.update(len(batch))
    label, split, person = (
        None if name is None else cells for cells, name in zip(texts, others, strict=True)
    )
    unread = [names[i] for i in found.rest if i not in places]
    return Table(
        path,
        numbers.all(),
        Labels(path, label, split, person),
        split=split_named(path.stem),
        names=used,
        unread=unread,
    )


def _opened(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(
            f"reading {path} needs pyarrow: pip install -r {REQUIREMENTS}"
        ) from error
    with reading(path, "is not a readable Parquet file"):
        return parquet.ParquetFile(path)


class _Numbers:
    """The numbers of a file, batch by batch."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path, self.names = path, names
        self.blocks: list[np.ndarray] = []
        self.rows = 0

    def all(self) -> np.ndarray:
        """All of them, (n, D) float32."""
        if not self.blocks:
            raise DataError(f"{self.path} has no rows")
        return np.concatenate(self.blocks)

    def add(self, batch: Any) -> None:
        """Add a batch of rows.

        Raises:
            DataError: values are missing, not finite or no numbers; lists differ in length.
        """
        parts = [self._values(name, batch.column(name)) for name in self.names]
        with np.errstate(over="ignore"):
            block = np.concatenate([part.astype(np.float32) for part in parts], axis=1)
        wrong = np.argwhere(~np.isfinite(block))
        if len(wrong):
            row, column = wrong[0]
            name = self.names[column] if len(self.names) > 1 else self.names[0]
            raise DataError(
                f"{self._at(row, name)} is nan, infinite or too large; all must be finite in "
                "float32"
            )
        if self.blocks and block.shape[1] != self.blocks[0].shape[1]:
            raise self._ragged(0, block.shape[1], self.blocks[0].shape[1])
        self.blocks.append(block)
        self.rows += len(block)

    def _values(self, name: str, column: Any) -> np.ndarray:
        """A column of numbers (n, 1), or of lists of as many numbers (n, D)."""
        from pyarrow import compute, types

        column = getattr(column, "storage", column)  # of a column of tensors
        kind = column.type
        if column.null_count:
            raise DataError(f"{self._at(_first_null(column), name)} is empty")
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            lengths = np.asarray(compute.list_value_length(column))
            if len(uneven := np.flatnonzero(lengths != lengths[0])):
                raise self._ragged(uneven[0], lengths[uneven[0]], lengths[0])
            inner = column.flatten()
            if inner.null_count:
                raise DataError(f"{self._at(_first_null(inner) // lengths[0], name)} has a gap")
            values = inner.to_numpy(zero_copy_only=False).reshape(len(column), -1)
        else:
            values = column.to_numpy(zero_copy_only=False)[:, None]
        if values.dtype.kind not in "fiub" or values.shape[1] == 0:
            raise DataError(f"{self.path}: column '{name}' holds {kind}, not numbers")
        return values

    def _ragged(self, row: int, length: int, first: int) -> DataError:
        where = self._at(row, self.names[0])
        return DataError(f"{where} holds {length} numbers, in the rows before {first}")

    def _at(self, row: int, name: str) -> str:
        return f"{self.path}, row {self.rows + row}: column '{name}'"


def _first_null(column: Any) -> int:
    return int(np.argmax(np.asarray(column.is_null())))


def _texts(path: Path, name: str, column: Any) -> list[str]:
    """A column of numbers or text as texts, "" where there is nothing."""
    values = column.to_pylist()
    odd = {type(value).__name__ for value in values} - {"str", "int", "float", "bool", "NoneType"}
    if odd:
        raise DataError(f"{path}: column '{name}' holds {column.type}, not numbers or text")
    return ["" if value is None else str(value) for value in values]
