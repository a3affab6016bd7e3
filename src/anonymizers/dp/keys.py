"""The secret key that the noise of private releases is drawn with.

A seed is known or guessed, and noise that can be drawn again hides nothing. Nothing that is
computed from the key is written to a file, except for the noise in a release and a checksum in
the ledger, from which it cannot be found.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from src.anonymizers.dp.persons import numbered
from src.core import seeding
from src.core.errors import DataError, OutputError
from src.core.provenance import digest_arrays
from src.database import EmbeddingSet

NAME, OLD_NAME = "privacy.key", "dpcvae.key"  # the old one is read where it is the only one
DIGITS = 64  # hexadecimal: 256 bits


def secret(folder: Path | None) -> str:
    """Random digits that the noise depends on, made at the first fit and kept in `folder`.

    "" without a folder: the noise is then as public as the seed.

    Raises:
        OutputError: the key cannot be written or read.
        DataError: the file is not a key, or others can read it.
    """
    if folder is None:
        return ""
    path, old = folder / NAME, folder / OLD_NAME
    try:
        if old.exists() and not path.exists():
            return _read(old)
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise OutputError(f"cannot make or read {path}: {error.strerror or error}") from error


def existing(folder: Path | None) -> str:
    """The digits that are kept in `folder`; "" where none are yet.

    Raises:
        OutputError: the key cannot be read.
        DataError: the file is not a key, or others can read it.
    """
    made = folder is not None and any((folder / name).exists() for name in (NAME, OLD_NAME))
    return secret(folder) if made else ""


def _read(path: Path) -> str:
    """The digits in `path`.

    Raises:
        DataError: it holds anything else, or others than its owner can read or write it.
    """
    remedy = "delete it and the next fit makes a new key, and with it another release"
    if not path.is_file():
        raise DataError(f"{path} is not a file with a key; move it away")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise DataError(
            f"others can read or write the secret key {path} (mode "
            f"{path.stat().st_mode & 0o777:04o}): run chmod 600 if nobody has, otherwise {remedy}"
        )
    with path.open("rb") as file:
        content = file.read(2 * DIGITS).strip()
    if not re.fullmatch(rb"[0-9a-f]{%d}" % DIGITS, content):
        raise DataError(
            f"{path} is not a secret key of {DIGITS} hexadecimal digits (0-9, a-f): restore it, "
            f"or {remedy}"
        )
    return content.decode("ascii")


def _make(path: Path) -> None:
    """Write new digits to `path`, unless another process is first: then its key is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".privacy.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(DIGITS // 2))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(temporary, path)  # appears whole, and never replaces
    finally:
        Path(temporary).unlink()


def generator(
    key: str, origin: Mapping[str, Any], *, seed: int, device: torch.device
) -> torch.Generator:
    """The source of all noise and samples of a fit: a pseudo-random function of all that is given.

    Noise used twice could be subtracted, so fits that differ in anything share none.

    Args:
        origin: all that a release depends on besides the seed, as JSON values.
    """
    text = json.dumps(origin, sort_keys=True, allow_nan=False)
    return seeding.secret_generator(key, seed, f"private/{text}", device)


def identity(rows: EmbeddingSet) -> dict[str, Any]:
    """What a fit depends on in its rows, for `generator`; it must not leave this process.

    Persons count where some have several rows: otherwise the release is that of rows.
    """
    found: dict[str, Any] = {
        "rows": digest_arrays(rows.embeddings, rows.labels),
        "classes": len(rows.class_names),  # not by the largest label: it is private
    }
    if rows.persons is not None:
        whose = numbered(rows.persons)
        if whose.max() + 1 < len(whose):
            found["persons"] = digest_arrays(whose)
    return found


def source(key: str, device: torch.device) -> str:
    """What must be known to draw the noise again."""
    if not key:
        return "the seed alone: keep it secret"
    return "seed and a secret key" + ("" if device.type == "cpu" else ", 64 bits of it")
