"""The files of a bundle: written whole or not at all, read with every check there is.

- train.npz: the released rows
- decoder.safetensors: the decoder, for releases that have one
- datasheet.json: what the release is, for programs (`datasheet.py`)
- datasheet.md: the same, for people
- SHA256SUMS: of the others, as `sha256sum --check` reads it
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src import database
from src.bundle import datasheet, decoders
from src.database import EmbeddingSet
from src.errors import DataError, MissingFileError
from src.files import building
from src.models.cvae import Decoder

ROWS, DECODER = "train.npz", "decoder.safetensors"
SHEET, SHEET_TEXT = "datasheet.json", "datasheet.md"
SUMS = "SHA256SUMS"
ALWAYS = {ROWS, SHEET, SHEET_TEXT}
MEMBERS = ["embeddings.npy", "labels.npy", "meta.npy"]  # of train.npz


class Bundle(NamedTuple):
    """What a bundle holds."""

    rows: EmbeddingSet
    decoder: Decoder | None
    sheet: dict[str, Any]  # datasheet.json


def write(folder: Path, bundle: Bundle) -> None:
    """Write a bundle as `folder`, whole or not at all.

    Raises:
        OutputError: `folder` exists and is not empty, or it cannot be written.
    """
    with building(folder) as temporary:
        inside = temporary / folder.name
        inside.mkdir()
        database.write(inside / ROWS, bundle.rows)
        if bundle.decoder is not None:
            decoders.write(inside / DECODER, bundle.decoder)
        text = json.dumps(bundle.sheet, indent=1, allow_nan=False)
        (inside / SHEET).write_text(text + "\n", encoding="utf-8")
        (inside / SHEET_TEXT).write_bytes(datasheet.render(json.loads(text)).encode())
        sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(inside.iterdir())]
        (inside / SUMS).write_text("".join(sums), encoding="ascii")


def read(folder: Path) -> Bundle:
    """Read and verify a bundle: its files, their sums, their formats, and that they agree.

    Raises:
        MissingFileError, DataError: something is missing, changed, damaged or too much.
    """
    _check_files(folder)
    decoder = decoders.read(folder / DECODER) if (folder / DECODER).exists() else None
    try:
        rows, sheet = _rows(folder / ROWS), _sheet(folder / SHEET)
        problem = datasheet.problem(sheet, rows, decoder)
        if problem:
            raise DataError(f"{folder / SHEET} {problem}")
        _check_text(folder, sheet)
    except RecursionError as error:
        raise DataError(f"{folder} is damaged: it holds JSON that is nested too deeply") from error
    return Bundle(rows, decoder, sheet)


def _rows(path: Path) -> EmbeddingSet:
    """The released rows, where the file holds nothing else."""
    rows = database.read(path)
    with zipfile.ZipFile(path) as archive:
        members = sorted(archive.namelist())
    if members != MEMBERS:
        raise DataError(f"{path} must hold {', '.join(MEMBERS)}, not {', '.join(members)!r}")
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))  # `database.read` passes over what it cannot use
    known = rows.meta.keys() & {*datasheet.RELEASED}
    if not isinstance(meta.get("class_names") or [], list):
        known -= {"class_names"}
    foreign = sorted(meta.keys() - known)
    if foreign:
        raise DataError(f"{path}: meta holds '{foreign[0]}', which does not belong to a bundle")
    return rows


def _sheet(path: Path) -> Any:
    """The content of datasheet.json, of finite numbers only."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def _check_text(folder: Path, sheet: dict[str, Any]) -> None:
    """Raise where datasheet.md does not say what datasheet.json says."""
    try:
        text = datasheet.render(sheet).encode()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{folder / SHEET} is no datasheet: {error!r}") from error
    if (folder / SHEET_TEXT).read_bytes() != text:
        raise DataError(f"{folder / SHEET_TEXT} does not say what {SHEET} says")


def _check_files(folder: Path) -> None:
    """Raise where the folder does not hold exactly the files, with the content, of SHA256SUMS."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    if (folder / SUMS).is_symlink():
        raise DataError(f"{folder / SUMS} is not a plain file")
    if not (folder / SUMS).is_file():
        raise MissingFileError(f"{folder / SUMS} does not exist: {folder} is no bundle")
    sums: dict[str, str] = {}
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not found or found[2] in sums:
            raise DataError(f"{folder / SUMS} has a line that is no checksum: '{line[:80]}'")
        sums[found[2]] = found[1]
    there = {path.name for path in folder.iterdir()} - {SUMS}
    for name in sorted((ALWAYS | sums.keys()) - there):
        raise MissingFileError(f"{folder / name} does not exist, but belongs to the bundle")
    for name in sorted(there - (sums.keys() & (ALWAYS | {DECODER}))):
        raise DataError(f"{folder / name} does not belong to the bundle")
    for name, expected in sums.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise DataError(f"{path} is not a plain file")
        if _sha256(path) != expected:
            raise DataError(f"{path} was changed: its SHA-256 is not that in {SUMS}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
