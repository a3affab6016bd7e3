"""CSV and TSV files as people have them: commas, semicolons or tabs, quotes, a byte order mark.

Their first line names the columns. Errors quote no cells, which may say who somebody is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from src.core.errors import DataError
from src.core.files import reading

SUFFIXES = (".csv", ".tsv")
SEMICOLON = ";"  # where it separates cells, numbers may have a decimal comma
LONGEST_CELL = 1 << 24  # characters: of a list of numbers
_COMPLAINT = "is not a readable CSV file"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how it begins: the Unicode text of spreadsheets
_FRACTION = re.compile(r"[+-]?(\d+[.,]\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")


class Line(NamedTuple):
    """The cells of a line that is not blank, and its number in the file (of its end, if long)."""

    number: int
    cells: list[str]


class Delimited(NamedTuple):
    """A file: its columns' names, without blanks at the ends, and its other lines."""

    columns: list[str]
    lines: Iterator[Line]
    delimiter: str


def opened(path: Path) -> Delimited:
    """Read the first line of a file; the others are read when they are asked for.

    Raises:
        MissingFileError: it does not exist.
        DataError: it is no such file, or its first line does not name the columns; and, while
            lines are read, one has more or fewer cells than the first.
    """
    with reading(path, _COMPLAINT):
        with path.open("rb") as start:
            encoding = "utf-16" if start.read(2) in _UTF16 else "utf-8-sig"
        with path.open(encoding=encoding) as file:
            head = next(filter(str.strip, file), "")
    unquoted = re.sub(r'"[^"]*"', "", head)
    delimiter = max(",;\t", key=unquoted.count)
    lines = _lines(path, encoding, delimiter)
    columns = [cell.strip() for cell in next(lines, Line(0, [])).cells]
    if not columns:
        raise DataError(f"{path} is empty")
    if any(_FRACTION.fullmatch(cell) for cell in columns):
        raise DataError(f"{path}: the first line has numbers; it must name the columns")
    return Delimited(columns, lines, delimiter)


def _lines(path: Path, encoding: str, delimiter: str) -> Iterator[Line]:
    """All lines that are not blank, the first too."""
    width = 0
    with (
        reading(path, _COMPLAINT),
        path.open(encoding=encoding, newline="") as file,
    ):
        csv.field_size_limit(LONGEST_CELL)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            width = width or len(cells)
            if len(cells) != width:
                where = f"{path}, line {reader.line_num}"
                raise DataError(f"{where} has {len(cells)} cells, the first line {width}")
            yield Line(reader.line_num, cells)
