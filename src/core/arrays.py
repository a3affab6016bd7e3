"""Arrays in .npz files: read with sizes known before anything is loaded, checked, written.

A file from elsewhere may say that it holds anything. Its headers are read first, and nothing is
loaded that is not as large as they say or larger than the file's own bytes explain.
"""

from __future__ import annotations

import io
import math
import mmap
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from src.core.errors import DataError
from src.core.files import reading

HELD = {"embeddings": 4, "labels": 8, "persons": 8, "meta": 0}  # bytes per element, of checks
MOST_HELD, INFLATION = 1 << 27, 20  # bytes in memory: so many, and so many per byte of the file
CHUNK = 1 << 22  # elements that are checked at once
MAPPED = 1 << 30  # bytes from which on an array is mapped, not loaded
MAGIC = 8  # bytes of an .npy file before its header's length
MOST_META = 1 << 24  # bytes of `meta`, 4 per character
MOST_CLASSES = 1 << 20
MOST_DIRECTORY = 1 << 20  # bytes of a zip's directory, which is read whole
LONGEST_END = 22 + 0xFFFF  # bytes of a zip's end with its comment
UNIX = 3  # the system that a zip is said to come from, wherever it was written


class _Blocks(io.BufferedReader):
    """A file of which only so many bytes are read at once."""

    most = MOST_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes; numpy asks for no more than 256 KiB of an array at once."""
        if size is not None and size > self.most:
            raise ValueError(f"a part of {size} bytes is longer than {self.most}")
        return super().read(size)


class _Header(NamedTuple):
    """An entry of a zip, and what the array in it says of itself."""

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """The size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file that are among `HELD`; others are left alone.

    Raises:
        MissingFileError: the file does not exist.
        DataError: damaged, pickled, ambiguous, or larger than its bytes explain.
    """
    with (
        reading(path),
        warnings.catch_warnings(action="ignore"),  # numpy's, of old headers
        _Blocks(path.open("rb", buffering=0)) as file,
    ):
        if file.peek(2)[:2] != b"PK":
            raise DataError(f"{path} is not an .npz file (a zip of arrays)")
        with zipfile.ZipFile(file) as archive:
            _check_count(file, archive)
            headers = _headers(path, archive)
            file.most = MOST_META
            return {
                name: _mapped(path, file, h) if _is_mapped(h) else _loaded(archive, h.member)
                for name, h in headers.items()
            }


def _check_count(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Raise ValueError where the directory has other entries than the zip's end says.

    An entry whose comment is said to be longer than it is swallows those after it.
    """
    file.seek(max(0, file.seek(0, io.SEEK_END) - LONGEST_END))
    tail = file.read()
    end = tail.rindex(b"PK\x05\x06")
    said = int.from_bytes(tail[end + 10 : end + 12], "little")
    if said not in (len(archive.infolist()), 0xFFFF):  # which stands for a count elsewhere
        raise ValueError(f"its directory has {len(archive.infolist())} entries, not {said}")


def allowance(file_bytes: int) -> int:
    """The bytes of memory that a file of that size may ask for."""
    return MOST_HELD + INFLATION * file_bytes


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, _Header]:
    """The headers of the arrays that are read, by name.

    Raises:
        DataError: two of one name, or arrays that are not to be loaded.
    """
    headers: dict[str, _Header] = {}
    seen = set()
    for member in archive.infolist():
        if member.filename in seen:
            raise DataError(f"{path} holds {member.filename!r:.80} twice")
        seen.add(member.filename)
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as file:  # fails where the entry has another name there
            if name in HELD and name != member.filename:
                headers[name] = _header(path, member, file)
    needed = sum(h.member.file_size + math.prod(h.shape) * HELD[n] for n, h in headers.items())
    if needed > allowance(path.stat().st_size):
        raise DataError(
            f"{path} would take {needed:.3g} bytes of memory, more than {MOST_HELD:.3g} and "
            f"{INFLATION} per byte of the file; it is not loaded"
        )
    return headers


def _header(path: Path, member: zipfile.ZipInfo, file: IO[bytes]) -> _Header:
    """What an array says of itself, if it is as large as that.

    Raises:
        DataError: pickled, or a `meta` that is not text.
        ValueError: not as numpy writes such arrays.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # whose header is short; no array of numbers needs another
        raise ValueError(f"{member.filename} has .npy format {version}, not (1, 0)")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise DataError(
            f"{path} holds pickled objects, which are never loaded; store plain arrays"
        )
    if member.filename == "meta.npy" and (dtype.kind != "U" or member.file_size > MOST_META):
        raise DataError(
            f"{path}: meta is not JSON in one text of at most {MOST_META // 4} characters, but "
            f"{dtype} shaped {shape}"
        )
    header = _Header(member, shape, dtype)
    if min(shape, default=0) < 0 or file.tell() + header.nbytes != member.file_size:
        raise ValueError(f"{member.filename} has not the size of {dtype} shaped {shape}")
    return header


def _loaded(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _is_mapped(header: _Header) -> bool:
    """Whether an array is as it is in memory, and too large to be held without need."""
    stored = header.member.compress_type == zipfile.ZIP_STORED
    return stored and header.nbytes >= MAPPED


def _mapped(path: Path, file: IO[bytes], header: _Header) -> np.ndarray:
    """The array as a private map of the file, whose pages the system may drop and read again.

    Raises:
        ValueError: it is not what was written.
    """
    member = header.member
    file.seek(member.header_offset + 26)  # the lengths of its name and of what follows that
    begin = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    length = member.file_size - header.nbytes
    file.seek(begin)
    start = file.read(length)
    fortran = np.lib.format.read_array_header_1_0(io.BytesIO(start[MAGIC:]))[1]
    order: Literal["F", "C"] = "F" if fortran else "C"
    array = np.memmap(path, header.dtype, "c", begin + length, header.shape, order)
    flat, checksum = array.reshape(-1, order="A").view(np.uint8), zlib.crc32(start)
    for part in range(0, len(flat), CHUNK):
        checksum = zlib.crc32(flat[part : part + CHUNK].data, checksum)
    if member.compress_size != member.file_size or checksum != member.CRC:
        raise ValueError(f"{member.filename} is damaged")
    return array


def drop_pages(array: np.ndarray) -> None:
    """Give back the memory of an array that is a map of a file; it is read again when needed."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def write_arrays(file: IO[bytes], arrays: Mapping[str, np.ndarray], *, compressed: bool) -> int:
    """Write arrays that are among `HELD` as .npz; neither time nor user nor system is recorded.

    Returns:
        The bytes of memory that reading them takes.
    """
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980, the first year of a zip
            entry.compress_type, entry.file_size = kind, array.nbytes
            entry.create_system, entry.external_attr = UNIX, 0o644 << 16
            with archive.open(entry, "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
        added = sum(array.size * HELD[name] for name, array in arrays.items())
        return added + sum(entry.file_size for entry in archive.infolist())


def checked_embeddings(path: Path, array: np.ndarray) -> np.ndarray:
    """Embeddings read from `path` as (n, D) float32.

    Raises:
        DataError: they are not finite real numbers of that shape.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: embeddings must be real numbers shaped (n, D), "
            f"not {array.dtype} shaped {array.shape}"
        )
    if array.shape[1] == 0:
        raise DataError(f"{path}: embeddings have no dimensions (shape {array.shape})")
    with np.errstate(over="ignore"):
        embeddings = np.ascontiguousarray(array, dtype=np.float32)
    step = max(1, CHUNK // array.shape[1])
    for start in range(0, len(array), step):
        finite = np.isfinite(embeddings[start : start + step])
        if not finite.all():
            row, column = np.unravel_index(finite.argmin(), finite.shape)
            raise DataError(
                f"{path}: embeddings[{start + row}, {column}] is {array[start + row, column]}; "
                "all must be finite in float32"
            )
    return embeddings


def checked_persons(path: Path, array: np.ndarray, rows: int) -> np.ndarray:
    """Persons read from `path`, shaped (n,) or (n, 1), as (n,) int64.

    Raises:
        DataError: they are not one whole number, 0 or above, per row.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise DataError(
            f"{path}: persons must be whole numbers shaped ({rows},), "
            f"not {array.dtype} shaped {array.shape}"
        )
    persons = array.astype(np.int64)
    if len(persons) and persons.min() < 0:
        raise DataError(f"{path}: person {array[persons.argmin()]} is below 0 or too large")
    return persons


def checked_labels(path: Path, array: np.ndarray) -> np.ndarray:
    """Labels read from `path`, shaped (n,) or (n, 1), as (n,) int64.

    Raises:
        DataError: they are not one whole number per row, from 0 to `MOST_CLASSES` - 1.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{path}: labels are shaped {array.shape}; one label per row is needed, shaped (n,) "
            "(multi-label sets are not supported)"
        )
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: labels must be whole numbers, not {array.dtype}")
    if len(array) and not np.isfinite(array).all():
        raise DataError(f"{path}: labels contain NaN or infinity")
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    fractional = labels != array
    if fractional.any():
        raise DataError(f"{path}: label {array[fractional.argmax()]} is not a whole number")
    if len(labels) and labels.min() < 0:
        raise DataError(f"{path}: label {labels.min()} is negative; labels are 0..C-1")
    if len(labels) and labels.max() >= MOST_CLASSES:
        raise DataError(
            f"{path}: label {labels.max()} is too large; labels are 0..C-1, with C up to "
            f"{MOST_CLASSES}"
        )
    return labels
