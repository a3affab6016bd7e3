"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from src.errors import DataError, InputError, MissingFileError, OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` in one step.

    On any error, Ctrl-C included, the temporary file is removed and `path` is left as it was.
    Whatever kills the process, `path` is absent, old and whole, or new and whole.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, full disk, ...).
    """
    temporary = None
    try:
        if path.exists() and not path.is_file():  # a device would be replaced by a file
            raise OutputError(f"cannot write {path}: it is no ordinary file")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content reaches the disk before the name does
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private, ours are ordinary
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_writable(folder: Path) -> None:
    """Raise OutputError before work is done whose result could not be stored in `folder`."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"cannot write to {folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}: no permission in {existing}")


def number_name(value: float) -> str:
    """A number as names of files have it: short, but another one for each number."""
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
        MissingFileError: there is no such file.
        DataError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} does not exist") from error
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}") from error


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
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content or {}, dict):
        raise InputError(f"{path} must hold 'name: value' lines, not a {type(content).__name__}")
    return content or {}
