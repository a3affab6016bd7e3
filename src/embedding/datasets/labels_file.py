"""Your own images as a table lists them: `<folder>/labels.csv`.

Its columns are file, label and, where they are known, split and person. Paths are relative to the
folder; other columns are not read.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from pathlib import Path

from src.core.errors import DataError, MissingFileError
from src.embedding import delimited, persons
from src.embedding.datasets.decoding import is_named_image
from src.embedding.datasets.finding import (
    SPLIT_NAMES,
    Row,
    files_below,
    looks,
    name_of,
    some,
    split_of,
)

NAME = "labels.csv"
COLUMNS = ("file", "label", "split", "person")

log = logging.getLogger(__name__)


def listed(folder: Path) -> list[Row]:
    """The images that the table lists, in its order.

    Raises:
        MissingFileError: files that it lists do not exist: the first, and how many.
        DataError: it is not such a table, lists a file twice, has empty cells, an unknown split or
            a label in two spellings; or fewer images are listed than not.
    """
    table = folder / NAME
    lines = _lines(table)
    paths = _found(table, [line["file"] for line in lines])
    _require_once(table, paths)
    labels = [name_of(line["label"], table) for line in lines]
    _require_one_spelling(table, labels)
    splits = [_split(table, line.get("split")) for line in lines]
    people = [line.get("person", "") for line in lines]
    _require_listed(folder, paths)
    seen = looks(folder, paths, all_images=True)
    return [
        Row(path, label, split, look, person)
        for path, label, split, look, person in zip(
            paths, labels, splits, seen, people, strict=True
        )
        if look
    ]


def has_persons(folder: Path) -> bool:
    """Whether the table of the folder has a column that says whose the images are."""
    columns = delimited.opened(folder / NAME).columns
    return "person" in map(_column, columns)


def _column(cell: str) -> str:
    """The name of a column; `patient_id` and the like are `person`."""
    name = persons.column_name(cell)
    return "person" if name in persons.NAMES else name


def _lines(table: Path) -> list[dict[str, str]]:
    """The cells of the columns that are used."""
    content = delimited.opened(table)
    columns = [_column(cell) for cell in content.columns]
    for name in COLUMNS[:2]:
        if name not in columns:
            raise DataError(
                f"{table} has no column '{name}' (it has: {', '.join(content.columns)}); if it "
                "does not list images, give it another name"
            )
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{table} has several columns '{twice[0]}'")
    others = [
        cell for cell, name in zip(content.columns, columns, strict=True) if name not in COLUMNS
    ]
    if others:
        log.warning("%s: columns that are not read: %s", table, ", ".join(others))
    places = {name: columns.index(name) for name in COLUMNS if name in columns}
    lines = []
    for number, cells in content.lines:
        empty = [name for name in places if name != "person" and not cells[places[name]].strip()]
        if empty:
            raise DataError(f"{table}, line {number}: nothing in column '{empty[0]}'")
        lines.append({name: cells[i] for name, i in places.items()})
    if not lines:
        raise DataError(f"{table} lists no images")
    return lines


def _found(table: Path, names: list[str]) -> list[Path]:
    """The files of these names, whether letters are composed or blanks at the ends."""
    folder = table.parent
    paths = [folder / name.strip().replace("\\", "/") for name in names]
    if not all(path.exists() for path in paths):
        alike = {_key(file): file for file in files_below(folder)}
        paths = [path if path.exists() else alike.get(_key(path), path) for path in paths]
    missing = [path for path in paths if not path.exists() and not path.is_symlink()]
    if missing:
        raise MissingFileError(f"{table} lists what does not exist: {some(missing)}")
    return paths


def _key(path: Path) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part).strip() for part in path.parts)


def _require_once(table: Path, paths: list[Path]) -> None:
    counts = Counter(path.resolve() for path in paths)
    twice = [path for path in paths if counts[path.resolve()] > 1]
    if twice:
        raise DataError(f"{table} lists {len(set(twice))} images more than once, as {twice[0]}")


def _require_one_spelling(table: Path, labels: list[str]) -> None:
    """Raise DataError for one number in two spellings (1, 1.0, 01), which would be two classes."""
    spellings: dict[float, str] = {}
    for label in labels:
        try:
            value = float(label)
        except ValueError:
            continue
        if spellings.setdefault(value, label) != label:
            raise DataError(
                f"{table} has one label in two spellings, '{spellings[value]}' and '{label}'"
            )


def _split(table: Path, text: str | None) -> str:
    split = "" if text is None else split_of(text)
    if split is None:
        raise DataError(f"{table}: unknown split '{text}' (valid: {', '.join(SPLIT_NAMES)})")
    return split


def _require_listed(folder: Path, paths: list[Path]) -> None:
    """Say which images the table leaves out; raise DataError if they are the greater part."""
    listed_ones = {path.resolve() for path in paths}
    others = [
        file
        for file in files_below(folder)
        if is_named_image(file) and file.resolve() not in listed_ones
    ]
    if len(others) > len(paths):
        raise DataError(
            f"{folder / NAME} lists {len(paths)} images, but leaves out more: {some(others)}"
        )
    if others:
        log.warning("%s does not list, so they are not read: %s", folder / NAME, some(others))
