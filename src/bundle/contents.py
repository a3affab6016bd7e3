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

import torch

from src import database
from src.bundle import datasheet, decoders
from src.core.errors import DataError, InputError, MissingFileError
from src.core.files import building, read_json, reading, write_json, write_text
from src.core.records import Subject
from src.database import EmbeddingSet, Splits
from src.networks.cvae import Decoder

ROWS, DECODER = "train.npz", "decoder.safetensors"
SHEET, SHEET_TEXT = "datasheet.json", "datasheet.md"
SUMS = "SHA256SUMS"
ALWAYS = {ROWS, SHEET, SHEET_TEXT}
MEMBERS = ["embeddings.npy", "labels.npy", "meta.npy"]  # of train.npz


class Bundle(NamedTuple):
    """What a bundle holds."""

    rows: EmbeddingSet
    decoder: Decoder | None  # with the variance of the sheet's settings
    sheet: dict[str, Any]  # datasheet.json


def write(folder: Path, bundle: Bundle) -> None:
    """Write a bundle as `folder`, whole or not at all.

    Raises:
        DataError: rows, decoder and datasheet do not belong together, so that no one could read
            the bundle.
        OutputError: `folder` exists and is not empty, or it cannot be written.
    """
    problem = datasheet.problem(bundle.sheet, bundle.rows, bundle.decoder)
    if problem:
        raise DataError(f"the release cannot be bundled: its datasheet {problem}")
    with building(folder) as temporary:
        inside = temporary / folder.name
        inside.mkdir()
        database.write(inside / ROWS, bundle.rows)
        if bundle.decoder is not None:
            decoders.write(inside / DECODER, bundle.decoder)
        write_json(inside / SHEET, bundle.sheet)
        write_text(inside / SHEET_TEXT, datasheet.render(read_json(inside / SHEET)))
        sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(inside.iterdir())]
        write_text(inside / SUMS, "".join(sums))


def read(folder: Path) -> Bundle:
    """Read and verify a bundle: its files, their sums, their formats, and that they agree.

    Raises:
        MissingFileError, DataError: something is missing, changed, damaged or superfluous.
    """
    _check_files(folder)
    decoder = decoders.read(folder / DECODER) if (folder / DECODER).exists() else None
    rows, sheet = _rows(folder / ROWS), _sheet(folder / SHEET)
    with reading(folder / SHEET, "is not a datasheet"):  # valid JSON may still be anything
        problem = datasheet.problem(sheet, rows, decoder)
        text = "" if problem else datasheet.render(sheet)
    if problem:
        raise DataError(f"{folder / SHEET} {problem}")
    if (folder / SHEET_TEXT).read_bytes() != text.encode():
        raise DataError(f"{folder / SHEET_TEXT} does not say what {SHEET} says")
    if decoder is not None:
        decoder.variance = sheet["settings"]["variance"]
    return Bundle(rows, decoder, sheet)


def decoder_for(bundle: Bundle, splits: Splits, device: torch.device) -> Decoder:
    """The bundle's decoder on the device, for a head that is tested on these splits.

    Raises:
        InputError: it has no decoder, or the test rows are by another backbone.
    """
    theirs = bundle.sheet["backbone"]
    ours = splits.test.meta.get("backbone")
    if ours and datasheet.public_name(ours) != theirs:
        raise InputError(f"the bundle's rows are by backbone '{theirs}', not '{ours}'")
    if bundle.decoder is None:
        raise InputError(f"{bundle.sheet['release']} has no decoder, only rows")
    return bundle.decoder.to(device)


def subject(bundle: Bundle) -> Subject:
    """What records say of draws of the bundle's decoder."""
    return Subject(
        id=f"bundle-{bundle.sheet['release']}",
        anonymizer=bundle.sheet["anonymizer"],
        settings=bundle.sheet["settings"],
        rows=bundle.rows.fingerprint,
    )


def _rows(path: Path) -> EmbeddingSet:
    """The released rows, where the file holds nothing else."""
    rows = database.read(path)
    with zipfile.ZipFile(path) as archive:
        members = sorted(archive.namelist())
    if members != MEMBERS:
        raise DataError(f"{path} must hold {', '.join(MEMBERS)}, not {', '.join(members)!r}")
    known = {*datasheet.RELEASED}
    if not isinstance(rows.meta.get("class_names") or [], list):
        known -= {"class_names"}
    foreign = sorted(rows.meta.keys() - known)
    if foreign:
        raise DataError(f"{path}: meta holds '{foreign[0]}', which does not belong to a bundle")
    return rows


def _sheet(path: Path) -> Any:
    """The content of datasheet.json, of finite numbers only."""
    with reading(path, "is not a readable JSON file"):
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def _check_files(folder: Path) -> None:
    """Raise where the folder does not hold exactly the files, with the content, of SHA256SUMS."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    if (folder / SUMS).is_symlink():
        raise DataError(f"{folder / SUMS} is not a plain file")
    if not (folder / SUMS).is_file():
        raise MissingFileError(f"{folder / SUMS} does not exist: {folder} is not a bundle")
    sums = _sums(folder / SUMS)
    present = {path.name for path in folder.iterdir()} - {SUMS}
    for name in sorted((ALWAYS | sums.keys()) - present):
        raise MissingFileError(f"{folder / name} does not exist, but belongs to the bundle")
    for name in sorted(present - (sums.keys() & (ALWAYS | {DECODER}))):
        raise DataError(f"{folder / name} does not belong to the bundle")
    for name, expected in sums.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise DataError(f"{path} is not a plain file")
        if _sha256(path) != expected:
            raise DataError(f"{path} was changed: its SHA-256 is not the one in {SUMS}")


def _sums(path: Path) -> dict[str, str]:
    """The checksum of each file that is listed."""
    with reading(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    sums: dict[str, str] = {}
    for line in lines:
        found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not found or found[2] in sums:
            raise DataError(f"{path} has a line that is not a checksum: '{line[:80]}'")
        sums[found[2]] = found[1]
    return sums


def _sha256(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
