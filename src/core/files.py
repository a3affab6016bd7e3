"""Files that are written whole or not at all, and read with errors in one line."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src.core.errors import (
    DataError,
    InputError,
    MissingFileError,
    OutputError,
    printable,
    reason,
)

LONGEST = 500  # characters of what a library says of a file, which may quote the file
DEEPEST = 64  # lists and objects in one another, of JSON


def shell_path(text: str) -> Path:
    """A path as a shell would read it: `~`, `~user`, `$NAME` and `${NAME}` are replaced.

    Raises:
        InputError: it is empty, or a variable or user in it is unknown and no such file exists.
    """
    if not text:
        raise InputError("a path cannot be empty")
    path = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - in the shell's order
    left = [name for name in re.findall(r"\$(?:\w+|\{[^}]*\})", text) if name in path]
    left += re.findall(r"^~[^/]*", path)
    if left and not os.path.lexists(path):
        what = "is not set" if left[0].startswith("$") else "is no user's home"
        raise InputError(f"{left[0]} {what} in the path '{text}'")
    return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` in one step.

    On any error, Ctrl-C included, the temporary file is removed and `path` is left as it was.
    Whatever kills the process, `path` is absent, old and whole, or new and whole. Of a symbolic
    link the target is replaced.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, full disk, ...).
    """
    temporary = None
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if target.exists() and not target.is_file():  # a file would replace a device
            raise OutputError(f"cannot write {path}: it is not an ordinary file")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _created(target)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content reaches the disk before the name does
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {reason(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _created(target: Path) -> Path:
    """A new, empty file beside `target`, with the permissions of ordinary files."""
    stem = os.fsencode(target.stem)[:80].decode(errors="ignore")
    name = f".{stem}.{secrets.token_hex(4)}.part{target.suffix}"
    path = target.with_name(name)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success its entry `folder.name` becomes `folder` in one step.

    On any error, Ctrl-C included, all of it is removed.

    Raises:
        OutputError: `folder` exists and is not empty, or it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.part.", dir=folder.parent
        ) as name:
            yield Path(name)
            (Path(name) / folder.name).replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {reason(error)}") from error


def require_writable(*folders: Path) -> None:
    """Raise OutputError, before work is done, where a result could not be stored."""
    for folder in folders:
        existing = folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"cannot write to {folder}: {existing} is not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write to {folder}: no permission in {existing}")


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise OutputError, before work is done, where the disk has no room.

    Args:
        needed: bytes.
        what: is to be written in the folder.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise OutputError(f"{folder} needs {needed:,} bytes for {what}; {free:,} are free")


def require_replaceable(path: Path, beginnings: Mapping[str, bytes]) -> None:
    """Raise OutputError, before work is done, where a file must not be written.

    Args:
        beginnings: suffix (lower case) → how the files that are written under it begin. What is
            there and begins otherwise is somebody's, and stays.
    """
    suffix = path.suffix.lower()
    if suffix not in beginnings:
        raise OutputError(f"{path}: its name must end in one of {', '.join(beginnings)}")
    try:
        require_writable(path.parent)
        if not path.exists():
            return
        if not path.is_file():
            raise OutputError(f"cannot write {path}: it is not an ordinary file")
        if not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {path}: it is write-protected")
        with path.open("rb") as file:
            content = file.read(len(beginnings[suffix]))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {reason(error)}") from error
    if content not in (b"", beginnings[suffix]):
        raise OutputError(
            f"{path} exists and holds something else than what would be written; it is left as "
            "it is: remove it, or give another name"
        )


def require_new(folder: Path) -> None:
    """Raise OutputError, before work is done, where a new folder cannot be made."""
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise OutputError(f"cannot write {folder}: it exists and is not a folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(f"cannot write {folder}: it exists and is not empty")
        require_writable(folder.parent)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {reason(error)}") from error


@contextmanager
def reading(path: Path, complaint: str = "is truncated or damaged") -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into one line.

    The block holds the reader alone: damaged bytes can make it raise anything.

    Raises:
        MissingFileError: the file does not exist.
        DataError: it cannot be opened, does not fit into memory, or its content is not valid.
    """
    try:
        yield
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} does not exist") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.strerror:
            raise DataError(f"cannot read {path}: {reason(error)}") from error
        raise DataError(f"{path} {complaint}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:LONGEST]) or type(error).__name__


def value_name(value: float | str) -> str:
    """A setting's value as names of files have it."""
    return value if isinstance(value, str) else number_name(value)


def number_name(value: float) -> str:
    """A number as names of files have it: short, but different for different numbers."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MissingFileError: the file does not exist.
        DataError: it is not JSON.
    """
    with reading(path, "is not a readable JSON file"):
        return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """The value of a JSON text; what no program of ours could write again is refused.

    Raises:
        ValueError, RecursionError: not JSON, NaN or infinity, a whole number beyond int64, or
            nested deeper than `DEEPEST`.
    """
    value = json.loads(text, parse_float=_finite, parse_constant=_finite, parse_int=_int64)
    level = [value]
    for _ in range(DEEPEST):
        inner = [v for v in level if isinstance(v, list | dict)]
        level = [v for part in inner for v in (part.values() if type(part) is dict else part)]
    if level:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is not finite")
    return value


def _int64(text: str) -> int:
    value = int(text) if len(text) <= 20 else 1 << 63
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{text:.40} is not a whole number of 64 bits")
    return value
