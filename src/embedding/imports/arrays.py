"""Embeddings in .npy and .npz files; nothing pickled is ever loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.core import meta
from src.core.arrays import checked_embeddings
from src.core.errors import DataError
from src.core.files import reading
from src.embedding.imports import columns
from src.embedding.imports.columns import EMBEDDING, LABEL, PERSON, SPLIT
from src.embedding.imports.tables import Labels, Table, split_named, without_split
from src.embedding.persons import column_name

CLASS_NAMES = ("class_names", "label_names", "target_names", "classes")  # where labels are numbers
META = "meta"  # of files that create_db.py wrote; it names the classes too


def read(path: Path) -> np.ndarray:
    """The array of an .npy file, of which no more is loaded than is used.

    Raises:
        MissingFileError: it does not exist.
        DataError: it is not such a file, or pickled.
    """
    with reading(path):
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise DataError(f"{path} is not an .npy file")
        return _loaded(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def _loaded(path: Path, load: Callable[[], Any]) -> np.ndarray:
    try:
        return np.asarray(load())
    except ValueError as error:
        if not any(word in str(error) for word in ("pickle", "Python objects")):
            raise
        raise DataError(
            f"{path} holds pickled objects, which are never loaded; store plain arrays"
        ) from error


def table(path: Path, array: np.ndarray, labels: Labels) -> Table:
    """An array of embeddings, and what another file says of its rows."""
    return Table(path, checked_embeddings(path, array), labels, split_named(path.stem))


def read_labels(path: Path, array: np.ndarray) -> Labels:
    """An array of labels, one per row."""
    return Labels(path, _texts(path, "labels", array))


def read_archive(path: Path, said: Mapping[str, str]) -> list[Table]:
    """The rows of an .npz file, whatever its arrays are called: one table per split.

    Raises:
        MissingFileError: it does not exist.
        DataError: it is not such a file, pickled, or its arrays do not fit each other.
    """
    with reading(path):
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is not an .npz file (a zip of arrays)")
        with np.load(path, allow_pickle=False) as content:
            archive = _Archive(path, content)
            first, *others = [archive.table(split, said) for split in archive.splits(said)]
            return [first._replace(unread=archive.unread), *others]


class _Archive:
    """An open .npz file."""

    def __init__(self, path: Path, content: Any) -> None:
        self.path, self.content = path, content
        self.used: set[str] = set()
        labels = [key for key in content.files if column_name(key) in columns.USUAL[LABEL]]
        apart = {META, *CLASS_NAMES[: 4 if len(labels) > 1 else 3]}
        self.keys = [key for key in content.files if key not in apart]
        self.class_names = self._class_names([k for k in content.files if k in apart])

    def array(self, key: str) -> np.ndarray:
        """An array, whatever is in it but objects."""
        self.used.add(key)
        return _loaded(self.path, lambda: self.content[key])

    @property
    def unread(self) -> list[str]:
        """The names of arrays that have not been asked for."""
        return [key for key in self.keys if key not in self.used]

    def splits(self, said: Mapping[str, str]) -> list[str]:
        """The splits that keys name, "" for keys that name none."""
        found = sorted({self._split(key, said) for key in self.keys} - {""})
        known = {*columns.USUAL[EMBEDDING], *columns.USUAL[LABEL], *said.values()}
        rest = [column_name(key) for key in self.keys if not self._split(key, said)]
        return found if found and not known & {*rest} else ["", *found]

    def table(self, split: str, said: Mapping[str, str]) -> Table:
        """The rows of the arrays whose keys name this split."""
        keys = [key for key in self.keys if self._split(key, said) == split]
        names = [(without_split(key) or EMBEDDING) if split else key for key in keys]
        found = columns.find(names, said, self.path)
        whole = columns.dimensions(names, found.rest, said.get(EMBEDDING), self.path)
        if len(whole) > 1:
            several = ", ".join(keys[i] for i in whole)
            raise DataError(f"{self.path}: the embedding must be one array, not {several}")
        embeddings = checked_embeddings(self.path, self.array(keys[whole[0]]))
        texts = {
            role: None if place is None else self._texts(keys[place], len(embeddings))
            for role, place in zip((LABEL, SPLIT, PERSON), found[:3], strict=True)
        }
        if self.class_names and (labels := texts[LABEL]) is not None:
            texts[LABEL] = [self._name(text) for text in labels]
        return Table(
            self.path,
            embeddings,
            Labels(self.path, texts[LABEL], texts[SPLIT], texts[PERSON]),
            split=split or split_named(self.path.stem),
        )

    def _split(self, key: str, said: Mapping[str, str]) -> str:
        return "" if key in said.values() else split_named(key)

    def _texts(self, key: str, rows: int) -> list[str]:
        texts = _texts(self.path, key, self.array(key))
        if len(texts) != rows:
            raise DataError(
                f"{self.path} has {rows} embeddings but {len(texts)} values in '{key}'"
            )
        return texts

    def _class_names(self, keys: list[str]) -> list[str]:
        """The names of the classes 0..C-1, empty where nothing says them."""
        for key in keys:
            if key != META:
                return _texts(self.path, key, self.array(key))
        found = meta.from_array(self.path, self.array(META)) if META in keys else {}
        return [str(name) for name in found.get("class_names") or []]

    def _name(self, label: str) -> str:
        """The name of a label that is a number; other labels are names themselves."""
        if not columns.is_whole(label.removesuffix(".0")):
            return label
        number = int(label.removesuffix(".0"))
        if not 0 <= number < len(self.class_names):
            raise DataError(
                f"{self.path} names {len(self.class_names)} classes, so label {number} is none of "
                "them"
            )
        return self.class_names[number]


def _texts(path: Path, key: str, array: np.ndarray) -> list[str]:
    """An array of one value per row, shaped (n,) or (n, 1), as texts; numbers as Python's are.

    Raises:
        DataError: it has another shape, or holds neither numbers nor text.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "fiubUS":
        raise DataError(
            f"{path}: '{key}' must be numbers or text shaped (n,), not {array.dtype} shaped "
            f"{array.shape}"
        )
    if array.dtype.kind == "S":
        with reading(path, f"has text in '{key}' that is not UTF-8"):
            array = np.char.decode(array, "utf-8")
    return [str(value) for value in array.tolist()]
