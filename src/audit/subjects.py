"""What can be audited: a release of ours, any file beside train.npz, what a partner would get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src import database
from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.core import classes, meta, names
from src.core.errors import DataError, InputError
from src.core.files import read_json
from src.core.records import Subject
from src.database import Database, EmbeddingSet, Splits

BUNDLE_ROWS, BUNDLE_SHEET = "train.npz", "datasheet.json"  # of a bundle's files, those read here


class Audited(NamedTuple):
    """A release, what records say of it, and how it was made."""

    released: EmbeddingSet
    subject: Subject
    anonymizer: Anonymizer | None  # None where the file does not say it


def of_file(database: Database, release_id: str, train: EmbeddingSet) -> Audited:
    """The file `train_<id>.npz`, made by whatever tool.

    Raises:
        MissingFileError, DataError: as `Database.read_release`.
    """
    released = database.read_release(release_id, train)
    return _audited(released, release_id)


def of_bundle(folder: Path, database: Database, train: EmbeddingSet) -> Audited:
    """A bundle's rows, as whoever gets it reads them; `src.bundle verify` checks the rest.

    Raises:
        MissingFileError, DataError: a file is missing or damaged, or the rows are of other
            features or classes than the training rows.
    """
    path = folder / BUNDLE_SHEET
    sheet = read_json(path)
    name = sheet.get("release") if isinstance(sheet, dict) else None
    if not isinstance(name, str):
        raise DataError(f"{path} does not name the release; it is not a bundle's datasheet")
    released = _matched(folder / BUNDLE_ROWS, database, train)
    return _audited(released, f"bundle-{names.checked(name)}")


def with_held_out(splits: Splits, path: Path, database: Database) -> Splits:
    """The splits with a file's rows as non-members, in the place of the test split.

    Raises:
        MissingFileError, DataError: the file is missing or damaged, its rows are of other
            features or classes, or it holds training or validation rows.
    """
    held = _matched(path, database, splits.train)
    from src.audit import attacks

    for name, real in (("training", splits.train), ("validation", splits.val)):
        copied = len(held) - len(attacks.unlike(held, real))
        if copied:
            raise DataError(
                f"{path}: {copied} of its {len(held)} rows are {name} rows; non-members must be "
                "rows that nothing has seen"
            )
    return replace(splits, test=held)


def _audited(released: EmbeddingSet, release_id: str) -> Audited:
    stated = released.meta
    try:
        anonymizer = methods.parse(stated["anonymizer"], stated.get("settings", {}))
    except (KeyError, InputError):  # another tool's, or a method of another version
        anonymizer = None
    subject = Subject.stated(release_id, stated, released.fingerprint)
    return Audited(released, subject, anonymizer)


def _matched(path: Path, database_: Database, train: EmbeddingSet) -> EmbeddingSet:
    """Rows from elsewhere, their labels in the numbering of the training rows."""
    found = database.read(path)
    meta.drop_foreign(found.meta)
    if found.dim != train.dim:
        raise DataError(
            f"{path} has {found.dim} dimensions but {database_.path('train')} has {train.dim}"
        )
    theirs = found.meta.get("backbone", database_.backbone)
    if _public(theirs) != _public(database_.backbone):
        raise DataError(
            f"{path} holds embeddings by backbone '{theirs}', not '{database_.backbone}'"
        )
    labels = found.labels
    if found.meta.get("class_names") and train.meta.get("class_names"):
        labels = classes.renumbered(path, labels, found.class_names, train.class_names)
    unknown = np.setdiff1d(labels, train.labels)
    if len(unknown):
        raise DataError(
            f"{path}: label {unknown[0]} has no training row (labels of training rows: "
            f"{', '.join(map(str, np.unique(train.labels)))})"
        )
    return replace(found, labels=labels)


def _public(backbone: str) -> str:
    """A backbone's name without the folder of a local one, which bundles do not state."""
    source, colon, place = backbone.partition(":")
    return f"{source}:{Path(place).name}" if colon and source.startswith("local") else backbone
