"""The secret key that private noise is drawn with.

A seed is known or guessed, and noise that can be drawn again hides nothing.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from src.anonymizers.settings import PrivateSettings
from src.core import seeding
from src.core.errors import OutputError
from src.core.provenance import fingerprint
from src.database import EmbeddingSet


def secret(folder: Path | None) -> str:
    """Random digits that the noise depends on, made at the first fit and kept in `folder`.

    "" without a folder: the noise is then as public as the seed.

    Raises:
        OutputError: the key cannot be written or read.
    """
    if folder is None:
        return ""
    path = folder / "dpcvae.key"
    try:
        if not path.exists():
            _make(path)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise OutputError(f"cannot make or read {path}: {error.strerror or error}") from error


def _make(path: Path) -> None:
    """Write new digits to `path`, unless another process is first: then its key is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".dpcvae.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(temporary, path)  # appears whole, and never replaces
    finally:
        Path(temporary).unlink()


def generator(
    key: str, train: EmbeddingSet, settings: PrivateSettings, seed: int, device: torch.device
) -> torch.Generator:
    """The source of all noise and samples of a fit.

    Noise used twice could be subtracted: fits of different rows or settings share none.
    """
    stream = f"dpcvae/{fingerprint([key, train.fingerprint, asdict(settings.for_fit())])}"
    if key:
        return seeding.secret_generator(key, seed, stream, device)
    return seeding.generator(seed, stream, device)


def source(key: str, device: torch.device) -> str:
    """What must be known to draw the noise again."""
    if not key:
        return "the seed alone: keep it secret"
    return "seed and a secret key" + ("" if device.type == "cpu" else ", 64 bits of it")
