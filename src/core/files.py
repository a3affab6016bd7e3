"""Files that are written whole or not at all, and read with errors in one line."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from src.core.errors import DataError, InputError, MissingFileError, OutputError


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
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _created(target: Path) -> Path:
    """A new, empty file beside `target`, with the permissions of ordinary files."""
    name = f".{target.stem[:80]}.{secrets.token_hex(4)}.part{target.suffix}"
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
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


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
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        raise DataError(f"{path} {complaint}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
        return json.loads(path.read_text(encoding="utf-8"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: it is absent, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"cannot read config file {path}: {reason}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: date 2024-13-45
        raise InputError(f"{path} is not YAML: {_line(error)}") from error
    if not isinstance(content or {}, dict):
        raise InputError(f"{path} must hold 'name: value' lines, not a {type(content).__name__}")
    return content or {}
