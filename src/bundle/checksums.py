"""SHA256SUMS: the checksums of a folder's files, and what is read before anything else is."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from src.core.errors import DataError
from src.core.files import reading

SUMS = "SHA256SUMS"


def listed(sums: Mapping[str, str]) -> bytes:
    """The content of SHA256SUMS, as `sha256sum --check` reads it."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def parsed(path: Path, content: bytes) -> dict[str, str]:
    """The checksum of each file that is listed.

    Raises:
        DataError: a line is not a checksum, or a name occurs twice.
    """
    sums: dict[str, str] = {}
    for line in content.decode(errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not found or found[2] in sums:
            raise DataError(f"{path} has a line that is not a checksum: {line!r:.80}")
        sums[found[2]] = found[1]
    return sums


def check_file(path: Path, expected: str, most: float = math.inf) -> None:
    """Raise DataError where a file is not plain, too large (bytes), or has another checksum."""
    if path.is_symlink() or not path.is_file():
        raise DataError(f"{path} is not a plain file")
    if path.stat().st_size > most:
        raise DataError(f"{path} has more than {most} bytes")
    if sha256(path) != expected:
        raise DataError(f"{path} was changed: its SHA-256 is not the one in {SUMS}")


def small(path: Path, most: int) -> bytes:
    """The content of a plain file that has at most so many bytes.

    Raises:
        DataError: it has more.
    """
    if path.is_symlink():
        raise DataError(f"{path} is not a plain file")
    with reading(path), path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path} has more than {most} bytes")
    return content


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
