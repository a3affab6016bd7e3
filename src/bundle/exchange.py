"""Repositories: a bundle in the form that dataset hubs and other programs read, and back.

- data/train-00000-of-0000N.parquet: the rows (`shards.py`)
- README.md: the datasheet under a head for hubs (`card.py`)
- croissant.json: the same for programs of others (`croissant.py`)
- datasheet.json, decoder.safetensors: as in the bundle
- bundle.SHA256SUMS: the bundle's SHA256SUMS, which it has again when it is imported
- SHA256SUMS: of the others

Whoever sends a repository may have written anything into it. So it is read in this order: which
files there are, how large they are, their checksums, then what their headers say, then the rest.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from src.bundle import card, checksums, contents, croissant, decoders, shards
from src.bundle.contents import DECODER, SHEET, SUMS, Bundle
from src.core.errors import DataError, MissingFileError
from src.core.files import building

DATA, CARD, CROISSANT, BUNDLE_SUMS = "data", "README.md", "croissant.json", "bundle.SHA256SUMS"
ALWAYS = {CARD, CROISSANT, SHEET, BUNDLE_SUMS}
NOT_READ = {".git", ".gitattributes", ".cache"}  # what git and hubs add
SHARD = re.compile(r"data/train-(\d{5})-of-(\d{5})\.parquet")
MOST_BYTES = {**contents.MOST_BYTES, BUNDLE_SUMS: 1 << 10, CARD: 1 << 26, CROISSANT: 1 << 26}
MOST_SUMS = 1 << 20
MOST_SHARD = 500_000_000


def write(folder: Path, source: Path, bundle: Bundle) -> None:
    """Write the bundle in `source` as a repository, whole or not at all; always the same bytes.

    Raises:
        MissingPackageError: pyarrow is not installed.
        DataError: the bundle has more names and facts than Parquet files can hold.
        OutputError: `folder` exists and is not empty, or it cannot be written.
    """
    with building(folder) as temporary:
        inside = temporary / folder.name
        (inside / DATA).mkdir(parents=True)
        shards.write(inside / DATA, bundle.rows, card.class_names(bundle.sheet))
        shutil.copyfile(source / SHEET, inside / SHEET)
        shutil.copyfile(source / SUMS, inside / BUNDLE_SUMS)
        if bundle.decoder is not None:
            shutil.copyfile(source / DECODER, inside / DECODER)
        found = {name: checksums.sha256(inside / name) for name in names(inside)}
        for name, text in _told(inside, bundle, found).items():
            (inside / name).write_bytes(text)
            found[name] = checksums.sha256(inside / name)
        (inside / SUMS).write_bytes(checksums.listed(found))
        contents.settle(inside)


def read(folder: Path, output: Path) -> Bundle:
    """Check a repository and write the bundle that it was made from as `output`.

    Raises:
        MissingFileError, DataError: something is missing, changed, damaged or superfluous, or
            the bundle would not be the one that was exported.
        OutputError: `output` exists and is not empty, or it cannot be written.
    """
    found = _check_files(folder)
    decoder = decoders.read(folder / DECODER) if DECODER in found else None
    paths = [folder / name for name in sorted(found) if SHARD.fullmatch(name)]
    rows, features = shards.read(paths)
    bundle = contents.agreeing(folder / SHEET, rows, decoder)
    if features != shards.features(rows.dim, card.class_names(bundle.sheet)):
        raise DataError(f"{paths[0]} does not name the classes as {SHEET} does")
    for name, text in _told(folder, bundle, found).items():
        if checksums.small(folder / name, MOST_BYTES[name]) != text:
            raise DataError(f"{folder / name} does not say what {SHEET} says")
    with building(output) as temporary:
        inside = temporary / output.name
        contents.write(inside, bundle)
        again = contents.read(inside)
        if (inside / SUMS).read_bytes() != (folder / BUNDLE_SUMS).read_bytes():
            raise DataError(f"{folder} is not the bundle whose checksums {BUNDLE_SUMS} has")
    return again


def names(folder: Path) -> list[str]:
    """The files of a repository, `/` in their names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _told(folder: Path, bundle: Bundle, found: Mapping[str, str]) -> dict[str, bytes]:
    """The files that follow from the others.

    Args:
        found: the checksums of all files that there are.
    """
    told = {CARD, CROISSANT, SUMS}
    files = [
        croissant.File(name, (folder / name).stat().st_size, digest)
        for name, digest in sorted(found.items())
        if name not in told
    ]
    described = croissant.described(bundle.sheet, files)
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    return {CARD: card.render(bundle.sheet).encode(), CROISSANT: text.encode()}


def _check_files(folder: Path) -> dict[str, str]:
    """The checksums of the files, where the folder holds exactly these and nothing odd.

    Raises:
        MissingFileError, DataError: it does not.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    if not (folder / SUMS).is_file():
        raise MissingFileError(
            f"{folder / SUMS} does not exist: {folder} is not a repository that src.bundle export "
            "wrote (of others' files create_db.py --from makes a database)"
        )
    present = _present(folder)
    content = checksums.small(folder / SUMS, MOST_SUMS)
    found = checksums.parsed(folder / SUMS, content)
    for name in sorted((ALWAYS | found.keys()) - present):
        raise MissingFileError(f"{folder / name} does not exist, but belongs to the repository")
    series = [SHARD.fullmatch(name) for name in sorted(found)]
    numbers = [(int(shard[1]), int(shard[2])) for shard in series if shard]
    if numbers != [(i, len(numbers)) for i in range(max(1, len(numbers)))]:
        raise DataError(f"{folder / DATA} does not hold one whole series of Parquet files")
    for name in sorted(present - {SUMS}):
        if name not in found or not (name in {*ALWAYS, DECODER} or SHARD.fullmatch(name)):
            raise DataError(f"{folder / name} does not belong to the repository")
    for name, digest in found.items():
        most = MOST_SHARD if SHARD.fullmatch(name) else MOST_BYTES.get(name, math.inf)
        checksums.check_file(folder / name, digest, most)
    if content != checksums.listed(found):
        raise DataError(f"{folder / SUMS} {contents.NOT_OURS}")
    return found


def _present(folder: Path) -> set[str]:
    """The names of the files, of which none is a link or in another folder than `data`.

    Raises:
        DataError: one is.
    """
    present = set()
    for path in sorted(folder.iterdir()):
        if path.name in NOT_READ:
            continue
        if path.is_symlink():
            raise DataError(
                f"{path} is a link, not a plain file (a hub's client copies with --local-dir)"
            )
        if path.name == DATA and path.is_dir():
            present |= {f"{DATA}/{entry.name}" for entry in path.iterdir()}
        elif path.is_file():
            present.add(path.name)
        else:
            raise DataError(f"{path} does not belong to the repository")
    return present
