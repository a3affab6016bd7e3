"""Embeddings that exist already: CSV, TSV, .npy with labels, .npz and Parquet → the three splits.

Each file is read as a `Table` (or several, one per split); here they become one set of rows,
whose splits are those that a column or the names of files say, or are made as for images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.core.errors import DataError, InputError
from src.database import EmbeddingSet
from src.embedding import delimited, persons
from src.embedding.assembling import Part, assemble
from src.embedding.copies import Embedded
from src.embedding.datasets.splitting import divided, require_needed
from src.embedding.imports import arrays, columns, parquet, text
from src.embedding.imports.tables import Table

SUFFIXES = (*delimited.SUFFIXES, ".npy", ".npz", *parquet.SUFFIXES)
OF_LABELS = (".npy", *delimited.SUFFIXES, ".txt")

log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """What is asked for besides the files.

    Attributes:
        columns: `label=dx` and the like.
        by_person: whether splits are made again, by person, whatever the files say.
        drop_copies: whether rows that are also in val or test are left out of train.
    """

    columns: Sequence[str] = ()
    by_person: bool = False
    drop_copies: bool = False


def load(
    paths: Sequence[Path], settings: Settings, *, dataset: str, backbone: str
) -> dict[str, EmbeddingSet]:
    """The three splits of the rows in these files.

    Raises:
        MissingFileError: a file does not exist.
        DataError, InputError: a file is damaged or not understood, or they do not fit each other.
    """
    tables = list(_tables(paths, columns.parse(settings.columns)))
    _require_one_space(tables)
    for table in tables:
        if not len(table.embeddings):
            raise DataError(f"{table.path} has no rows")
        if table.unread:
            unread = columns.some(table.unread)
            log.warning("%s: columns that are not read: %s", table.path, unread)
    where = ", ".join(map(str, paths))
    whose, said = _persons(tables, where), _said(tables, ignored=settings.by_person)
    if settings.by_person:
        whose = persons.required(whose, where)
    require_needed(said, where)
    class_names, labels = _classes(tables, said)
    parts, made = divided(said, labels, whose, where, class_names)
    rows = [table.embeddings for table in tables]
    embeddings = np.concatenate(rows) if len(rows) > 1 else rows[0]
    facts = {"source": "imported", "files": [path.name for path in paths], **made}
    meta = {
        "dataset": dataset,
        "backbone": backbone,
        "class_names": class_names,
        "facts": {"dataset": facts, "backbone": {"source": "imported"}},
    }
    content = {
        split: Part(Embedded(embeddings[p]), labels[p], None if whose is None else whose[p])
        for split, p in parts.items()
    }
    return assemble(content, meta, drop_copies=settings.drop_copies, noun="rows")


def _tables(paths: Sequence[Path], said: Mapping[str, str]) -> Iterator[Table]:
    """Read the files; an .npy file of embeddings comes before the file of its labels."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("--from names a file twice")
    if said and all(path.suffix.lower() in (".npy", ".txt") for path in paths):
        raise InputError("--columns has no effect: no file has columns")
    left = iter(paths)
    for path in left:
        kind = path.suffix.lower()
        if kind in delimited.SUFFIXES:
            yield text.read(path, said)
        elif kind in parquet.SUFFIXES:
            yield parquet.read(path, said)
        elif kind == ".npz":
            yield from arrays.read_archive(path, said)
        elif kind == ".npy":
            yield _with_labels(path, next(left, None), said)
        else:
            raise InputError(
                f"--from {path}: a file must end in one of {', '.join(SUFFIXES)}, or be the "
                "labels (.txt too) that follow an .npy file"
            )


def _with_labels(path: Path, labels: Path | None, said: Mapping[str, str]) -> Table:
    """The rows of an .npy file, with what the next file says of them."""
    array = arrays.read(path)
    if array.ndim != 2:
        raise DataError(
            f"{path} is shaped {array.shape}; embeddings, shaped (n, D), come first and then the "
            "file of their labels"
        )
    if labels is None or labels.suffix.lower() not in OF_LABELS:
        raise InputError(
            f"--from {path} must be followed by the file of its labels ({', '.join(OF_LABELS)})"
        )
    if labels.suffix.lower() == ".npy":
        found = arrays.read_labels(labels, arrays.read(labels))
    else:
        found = text.read_labels(labels, said)
    if found.rows != len(array):
        raise DataError(f"{path} has {len(array)} rows, {labels} has {found.rows} labels")
    return arrays.table(path, array, found)


def _require_one_space(tables: Sequence[Table]) -> None:
    """Raise DataError where files have other dimensions than the first, or other names of them."""
    first = tables[0]
    for table in tables[1:]:
        ours, theirs = first.embeddings.shape[1], table.embeddings.shape[1]
        if ours != theirs:
            raise DataError(f"{table.path} has {theirs} dimensions, {first.path} has {ours}")
        columns_of_both = len(first.names) > 1 and len(table.names) > 1
        for name, other in zip(first.names, table.names, strict=False):
            if columns_of_both and name != other:
                raise DataError(
                    f"{table.path} has the column '{other}' where {first.path} has '{name}'; the "
                    "dimensions must be the same, in one order"
                )


def _persons(tables: Sequence[Table], where: str) -> np.ndarray | None:
    """Whose each row is, (n,) int64, None where no file says it."""
    known = [table for table in tables if table.labels.persons is not None]
    if not known:
        return None
    for table in tables:
        if table.labels.persons is None:
            raise DataError(
                f"{known[0].path} says whose its rows are, {table.path} does not; all must, or "
                "none (--columns person=)"
            )
    return persons.codes([i for t in tables for i in t.labels.persons or ()], where)


def _said(tables: Sequence[Table], *, ignored: bool) -> np.ndarray:
    """The split of each row, (n,) of text; "" for all where nothing says it, or it is ignored."""
    if ignored:
        return np.full(sum(len(table.embeddings) for table in tables), "")
    found = [t.labels.checked_splits(t.split) or [t.split] * len(t.embeddings) for t in tables]
    unsaid = [t.path for t, splits in zip(tables, found, strict=True) if "" in splits]
    if unsaid and len(unsaid) < len(tables):
        raise DataError(
            f"{unsaid[0]} says nothing of splits, but other files do; name it after its split "
            "(train, val or test), or add a column"
        )
    return np.array([split for splits in found for split in splits])


def _classes(tables: Sequence[Table], said: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of train's classes, numbers by size and others by letter, and all labels (n,).

    Raises:
        DataError: a row has no class, or one that train does not have.
    """
    found = [table.labels.classes() for table in tables]
    names = [name for part in found for name in part]
    known = {name for name, split in zip(names, said, strict=True) if split in ("", "train")}
    whole = all(columns.is_whole(name) for name in known)
    class_names = sorted(known, key=int) if whole else sorted(known)
    if whole and len(set(map(int, known))) < len(known):
        raise DataError("labels are numbers in several spellings (1 and 01); write each one way")
    if len(known) < 2:
        raise DataError(f"train has one class only, '{class_names[0]}'; two are needed")
    numbers = {name: number for number, name in enumerate(class_names)}
    for table, part in zip(tables, found, strict=True):
        for row, name in enumerate(part):
            if name not in numbers:
                raise DataError(
                    f"{table.labels.at(row)}: class '{name}' has no rows in train (it has: "
                    f"{columns.some(class_names)})"
                )
    return class_names, np.array([numbers[name] for name in names], np.int64)
