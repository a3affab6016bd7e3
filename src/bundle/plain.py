"""Plain Parquet files, read without pyarrow: what a hostile footer says can end its process.

Only what `shards.write` writes is understood: two columns, nothing compressed, encoded by a
dictionary or missing. So every value lies in the file as it is, and there are as many as that.
https://parquet.apache.org/docs/file-format/, https://github.com/apache/parquet-format
(parquet.thrift has the numbers of fields), Thrift's compact protocol.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.core.errors import DataError
from src.core.files import reading

MAGIC = b"PAR1"
MOST_FOOTER = 1 << 22  # bytes of a file's metadata, which is read whole
MOST_ITEMS, DEEPEST = 1 << 17, 12  # of metadata
LONGEST_HEADER = 1 << 12  # bytes, of a page
FLOAT, INT64, PLAIN, DATA_PAGE = 4, 2, 0, 0
SCHEMA = (  # of each element: name, type, children and repetition (0 required, 1 optional, 2 list)
    ("schema", None, 2, 0),
    ("embedding", None, 1, 0),
    ("list", None, 1, 2),
    ("element", FLOAT, None, 0),
    ("label", INT64, None, 1),
)


class Table(NamedTuple):
    """What a file holds."""

    rows: np.ndarray  # (n, D) float32
    labels: np.ndarray  # (n,) int64
    metadata: dict[bytes, bytes]  # key-value pairs of the schema
    footer: bytes


class _Column(NamedTuple):
    """How a column's values are stored."""

    kind: int
    dtype: str
    levels: int  # blocks of levels before the values of a page


COLUMNS = (_Column(FLOAT, "<f4", 2), _Column(INT64, "<i8", 1))


def footer_bytes(path: Path) -> int:
    """The length of a file's metadata, which its last eight bytes say.

    Raises:
        ValueError: it is not a Parquet file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > size - 12:
        raise ValueError("it is not a Parquet file")
    return length


def read(path: Path) -> Table:
    """The rows and labels in a file, whose sizes are checked before they are loaded.

    Raises:
        DataError: not a file of that kind, or damaged.
    """
    with reading(path, "is not a plain Parquet file"):
        length = footer_bytes(path)
        if length > MOST_FOOTER:
            raise DataError(f"{path} has {length} bytes of metadata, more than {MOST_FOOTER}")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data, len(data) - 8 - length)
            except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
                raise ValueError("its metadata is damaged") from error


def _read(data: mmap.mmap, end: int) -> Table:
    """What a file holds whose metadata begins at `end`.

    Raises:
        ValueError, ArithmeticError, AttributeError, LookupError, TypeError: it is damaged.
    """
    footer = data[end:-8]
    about = _Thrift(footer).struct()
    _check_schema(about[2])
    groups, counts = about[4], [group[3] for group in about[4]]
    n, dim = sum(counts), _chunk(groups[0], 0)[5] // counts[0]
    if min(counts) < 1 or n != about[3] or not 0 < n * (4 * dim + 8) <= end:
        raise ValueError(f"its metadata says {n} rows of {dim}, which it cannot hold")
    rows, labels, first = np.empty(n * dim, np.float32), np.empty(n, np.int64), 0
    for group, count in zip(groups, counts, strict=True):
        last = first + count
        _fill(rows[first * dim : last * dim], data, _chunk(group, 0), COLUMNS[0], end)
        _fill(labels[first:last], data, _chunk(group, 1), COLUMNS[1], end)
        first = last
    metadata = {pair[1]: pair.get(2, b"") for pair in about.get(5, [])}
    return Table(rows.reshape(n, dim), labels, metadata, footer)


def _check_schema(elements: list[dict[int, Any]]) -> None:
    """Raise ValueError where the columns are not `embedding` and `label`."""
    found = [(e[4].decode(), e.get(1), e.get(5), e.get(3, 0)) for e in elements]
    if tuple(found) != SCHEMA:
        raise ValueError("it has other columns than embedding (list of float32) and label")


def _chunk(group: Mapping[int, Any], index: int) -> dict[int, Any]:
    """What a row group says of one of its two columns.

    Raises:
        ValueError: the column is compressed, encoded by a dictionary, or in another file.
    """
    if len(group[1]) != len(COLUMNS):
        raise ValueError("it has other columns than embedding (list of float32) and label")
    column = group[1][index]
    about: dict[int, Any] = column[3]
    plain = about[4] == 0 and about[6] == about[7] and 11 not in about and 1 not in column
    if not plain or about[1] != COLUMNS[index].kind:
        raise ValueError("it is compressed or encoded, which this program never does")
    return about


def _fill(
    out: np.ndarray, data: mmap.mmap, about: Mapping[int, Any], column: _Column, end: int
) -> None:
    """Read a column's pages into `out`, which they fill exactly.

    Raises:
        ValueError: they do not, or lie outside of the file's data, which ends at `end`.
    """
    at, last, filled = about[9], about[9] + about[7], 0
    if about[5] != len(out) or not 4 <= at <= last <= end:
        raise ValueError("its metadata contradicts itself")
    while filled < len(out):
        thrift = _Thrift(data[at : min(last, at + LONGEST_HEADER)])
        page = thrift.struct()
        start, stop = at + thrift.at, at + thrift.at + page[3]
        if page[1] != DATA_PAGE or page[5][2] != PLAIN or page[2] != page[3] or stop > last:
            raise ValueError("it has a page that is compressed or encoded")
        for _ in range(column.levels):
            start += 4 + int.from_bytes(data[start : start + 4], "little")
        values = np.frombuffer(data[start:stop], column.dtype)
        if not 0 < len(values) == page[5][1] <= len(out) - filled:
            raise ValueError("it has a page of missing or superfluous values")
        out[filled : filled + len(values)] = values
        at, filled = stop, filled + len(values)
    if at != last:
        raise ValueError("it has more pages than values")


class _Thrift:
    """Thrift's compact protocol, into numbers, bytes, lists, and structs as dicts by field."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.items = data, 0, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The struct that begins here.

        Raises:
            ValueError, IndexError: it is damaged, or has too many items.
        """
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self.items += 1
        if depth > DEEPEST or self.items > MOST_ITEMS:
            raise ValueError("its metadata has too many items")
        if kind in (1, 2, 3):  # of lists: bools and bytes
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > MOST_ITEMS:
                raise ValueError("its metadata has too many items")
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"its metadata has an item of kind {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError("its metadata ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("its metadata has a number of more than 64 bits")
