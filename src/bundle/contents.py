"""The files of a bundle: written whole or not at all, read as if an enemy had made them.

There is one form: what is read is written again, and has to be the same bytes.

- train.npz: the released rows
- decoder.safetensors: the decoder, for releases that have one
- datasheet.json: what the release is, for programs (`datasheet.py`)
- datasheet.md: the same, for people
- SHA256SUMS: of the others, as `sha256sum --check` reads it
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src import database
from src.bundle import checksums, datasheet, decoders, rendering
from src.bundle.checksums import SUMS as SUMS
from src.core.errors import DataError, InputError, MissingFileError
from src.core.files import building, parse_json, reading
from src.core.records import Subject
from src.database import EmbeddingSet, Splits
from src.networks.cvae import Decoder
from src.networks.sampling import Sampler

ROWS, DECODER = "train.npz", "decoder.safetensors"
SHEET, SHEET_TEXT = "datasheet.json", "datasheet.md"
ALWAYS = {ROWS, SHEET, SHEET_TEXT}
MOST_BYTES = {SUMS: 1 << 10, SHEET: 1 << 23, SHEET_TEXT: 1 << 25}  # of what is read whole
NOT_OURS = "is not in the one form that this program writes"
EPOCH = 315_532_800  # 1980-01-01, as in a zip: when a bundle was made is not recorded
BLOCK = 1 << 20


class Bundle(NamedTuple):
    """What a bundle holds."""

    rows: EmbeddingSet
    decoder: Sampler | None  # with the variance of the sheet's settings
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
        content = checksums.listed({path.name: checksums.sha256(path) for path in files})
        (inside / SUMS).write_bytes(content)
        settle(inside)


def settle(folder: Path) -> None:
    """Give a folder and all that is in it the permissions and times that always are the same."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))


def read(folder: Path) -> Bundle:
    """Read and verify a bundle: its files, their sums, their one form, and that they agree.

    What a private release's mechanisms cost is left to `privacy.check_epsilon`.

    Raises:
        MissingFileError, DataError: something is missing, changed, damaged or superfluous.
    """
    _check_files(folder)
    decoder = decoders.read(folder / DECODER) if (folder / DECODER).exists() else None
    bundle = agreeing(folder / SHEET, _rows(folder / ROWS), decoder)
    with reading(folder / SHEET_TEXT):
        if (folder / SHEET_TEXT).read_bytes() != rendering.render(bundle.sheet).encode():
            raise DataError(f"{folder / SHEET_TEXT} does not say what {SHEET} says")
    return bundle


def agreeing(path: Path, rows: EmbeddingSet, decoder: Sampler | None) -> Bundle:
    """The bundle of these rows, this decoder and the datasheet in `path`, if it is theirs.

    Raises:
        DataError: it is not, or not in its one form.
    """
    with reading(path, "is not a datasheet"):  # valid JSON may still be anything
        content = path.read_bytes()
        sheet = parse_json(content.decode())
        problem = datasheet.problem(sheet, rows, decoder)
        if problem:
            raise DataError(f"{path} {problem}")
        if content != datasheet.canonical(sheet).encode():
            raise DataError(f"{path} {NOT_OURS}")
        rendering.render(sheet)
    if isinstance(decoder, Decoder):
        decoder.variance = sheet["settings"]["variance"]
    return Bundle(rows, decoder, sheet)


def decoder_for(bundle: Bundle, splits: Splits, device: torch.device) -> Sampler:
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
    if rows.persons is not None:
        raise DataError(f"{path} says whose its rows are, which does not belong to a bundle")
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
    if not (folder / SUMS).is_file():
        raise MissingFileError(f"{folder / SUMS} does not exist: {folder} is not a bundle")
    content = checksums.small(folder / SUMS, MOST_BYTES[SUMS])
    expected = checksums.parsed(folder / SUMS, content)
    present = {path.name for path in folder.iterdir()} - {SUMS}
    for name in sorted((ALWAYS | expected.keys()) - present):
        raise MissingFileError(f"{folder / name} does not exist, but belongs to the bundle")
    for name in sorted(present - (expected.keys() & (ALWAYS | {DECODER}))):
        raise DataError(f"{folder / name} does not belong to the bundle")
    for name, digest in expected.items():
        checksums.check_file(folder / name, digest, MOST_BYTES.get(name, math.inf))
    if content != checksums.listed(expected):
        raise DataError(f"{folder / SUMS} {NOT_OURS}")
