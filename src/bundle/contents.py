"""The files of a bundle: written whole or not at all, read as if an enemy had made them.

There is one form: what is read is written again, and has to be the same bytes.

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
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src import database
from src.bundle import datasheet, decoders, rendering
from src.core.errors import DataError, InputError, MissingFileError
from src.core.files import building, parse_json, reading
from src.core.records import Subject
from src.database import EmbeddingSet, Splits
from src.networks.cvae import Decoder

ROWS, DECODER = "train.npz", "decoder.safetensors"
SHEET, SHEET_TEXT = "datasheet.json", "datasheet.md"
SUMS = "SHA256SUMS"
ALWAYS = {ROWS, SHEET, SHEET_TEXT}
MOST_BYTES = {SUMS: 1 << 10, SHEET: 1 << 23, SHEET_TEXT: 1 << 25}  # of what is read whole
NOT_OURS = "is not in the one form that this program writes"
EPOCH = 315_532_800  # 1980-01-01, as in a zip: when a bundle was made is not recorded
BLOCK = 1 << 20


class Bundle(NamedTuple):
    """What a bundle holds."""

    rows: EmbeddingSet
    decoder: Decoder | None  # with the variance of the sheet's settings
    sheet: dict[str, Any]  # datasheet.json


def write(folder: Path, bundle: Bundle) -> None:
    """Write a bundle as `folder`, whole or not at all; permissions and times are always the same.

    Raises:
        DataError: rows, decoder and datasheet do not belong together, so that no one could read
            the bundle.
        OutputError: `folder` exists and is not empty, or it cannot be written.
    """
    sheet = json.loads(datasheet.canonical(bundle.sheet))
    problem = datasheet.problem(sheet, bundle.rows, bundle.decoder)
    if problem:
        raise DataError(f"the release cannot be bundled: its datasheet {problem}")
    with building(folder) as temporary:
        inside = temporary / folder.name
        inside.mkdir()
        with (inside / ROWS).open("wb") as file:
            database.dump(file, bundle.rows, compressed=False)
        if bundle.decoder is not None:
            (inside / DECODER).write_bytes(decoders.serialized(bundle.decoder))
        (inside / SHEET).write_bytes(datasheet.canonical(sheet).encode())
        (inside / SHEET_TEXT).write_bytes(rendering.render(sheet).encode())
        files = sorted(inside.iterdir())
        sums = {path.name: _sha256(path) for path in files}
        (inside / SUMS).write_bytes(_listed(sums))
        for path in (*files, inside / SUMS, inside):
            path.chmod(0o755 if path == inside else 0o644)
            os.utime(path, (EPOCH, EPOCH))


def read(folder: Path) -> Bundle:
    """Read and verify a bundle: its files, their sums, their one form, and that they agree.

    What a private release's mechanisms cost is left to `privacy.check_epsilon`.

    Raises:
        MissingFileError, DataError: something is missing, changed, damaged or superfluous.
    """
    _check_files(folder)
    decoder = decoders.read(folder / DECODER) if (folder / DECODER).exists() else None
    rows = _rows(folder / ROWS)
    with reading(folder / SHEET, "is not a datasheet"):  # valid JSON may still be anything
        content = (folder / SHEET).read_bytes()
        sheet = parse_json(content.decode())
        problem = datasheet.problem(sheet, rows, decoder)
        if problem:
            raise DataError(f"{folder / SHEET} {problem}")
        if content != datasheet.canonical(sheet).encode():
            raise DataError(f"{folder / SHEET} {NOT_OURS}")
        text = rendering.render(sheet).encode()
    with reading(folder / SHEET_TEXT):
        if (folder / SHEET_TEXT).read_bytes() != text:
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
    """The released rows, where the file is the one that this program writes for them."""
    rows = database.read(path)
    known = {*datasheet.RELEASED}
    if not isinstance(rows.meta.get("class_names") or [], list):
        known -= {"class_names"}
    foreign = sorted(rows.meta.keys() - known)
    if foreign:
        raise DataError(
            f"{path}: meta holds {foreign[0]!r:.80}, which does not belong to a bundle"
        )
    with reading(path), path.open("rb") as file, tempfile.TemporaryFile() as again:
        database.dump(again, rows, compressed=False)
        same = again.tell() == path.stat().st_size
        again.seek(0)
        while same and (block := again.read(BLOCK)):
            same = file.read(BLOCK) == block
    if not same:
        raise DataError(f"{path} {NOT_OURS}")
    return rows


def _check_files(folder: Path) -> None:
    """Raise where the folder does not hold exactly the files, with the content, of SHA256SUMS."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    if (folder / SUMS).is_symlink():
        raise DataError(f"{folder / SUMS} is not a plain file")
    if not (folder / SUMS).is_file():
        raise MissingFileError(f"{folder / SUMS} does not exist: {folder} is not a bundle")
    content = _small(folder / SUMS)
    sums = _sums(folder / SUMS, content)
    present = {path.name for path in folder.iterdir()} - {SUMS}
    for name in sorted((ALWAYS | sums.keys()) - present):
        raise MissingFileError(f"{folder / name} does not exist, but belongs to the bundle")
    for name in sorted(present - (sums.keys() & (ALWAYS | {DECODER}))):
        raise DataError(f"{folder / name} does not belong to the bundle")
    for name, expected in sums.items():
        _check_file(folder / name, expected)
    if content != _listed(sums):
        raise DataError(f"{folder / SUMS} {NOT_OURS}")


def _check_file(path: Path, expected: str) -> None:
    """Raise DataError where a file is not plain, too large, or has another checksum."""
    if path.is_symlink() or not path.is_file():
        raise DataError(f"{path} is not a plain file")
    if path.stat().st_size > MOST_BYTES.get(path.name, math.inf):
        raise DataError(f"{path} has more than {MOST_BYTES[path.name]} bytes")
    if _sha256(path) != expected:
        raise DataError(f"{path} was changed: its SHA-256 is not the one in {SUMS}")


def _small(path: Path) -> bytes:
    """The content of a file that is not larger than `MOST_BYTES` allows."""
    with reading(path), path.open("rb") as file:
        content = file.read(MOST_BYTES[path.name] + 1)
    if len(content) > MOST_BYTES[path.name]:
        raise DataError(f"{path} has more than {MOST_BYTES[path.name]} bytes")
    return content


def _listed(sums: Mapping[str, str]) -> bytes:
    """The content of SHA256SUMS."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def _sums(path: Path, content: bytes) -> dict[str, str]:
    """The checksum of each file that is listed."""
    sums: dict[str, str] = {}
    for line in content.decode(errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not found or found[2] in sums:
            raise DataError(f"{path} has a line that is not a checksum: {line!r:.80}")
        sums[found[2]] = found[1]
    return sums


def _sha256(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
