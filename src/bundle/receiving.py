"""At a partner's: a bundle's rows to train on, and the partner's own rows to test on.

Their classes are matched by name: numbers depend on which other classes a site has.
"""

from __future__ import annotations

import difflib
import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.bundle import contents, datasheet, preprocessing
from src.bundle.contents import Bundle
from src.bundle.rendering import shown
from src.core.errors import DataError
from src.database import Database, EmbeddingSet, Splits, check_fits

log = logging.getLogger(__name__)


def release_id(bundle: Bundle) -> str:
    """What records call heads on the bundle's rows; two bundles never have the same id."""
    return f"bundle-{bundle.sheet['release']}-{bundle.rows.fingerprint[:8]}"


def splits(bundle: Bundle, folder: Path, database: Database) -> Splits:
    """The bundle's rows as train; the partner's val and test with labels as the bundle has them.

    Args:
        folder: the bundle's, for messages.
        database: of which train.npz need not exist.

    Raises:
        MissingFileError, DataError: val or test is absent, damaged, or was made in another way
            than the bundle's rows; or has rows of classes that the bundle has no rows of.
    """
    train = replace(bundle.rows, meta={**bundle.rows.meta, "class_names": class_names(bundle)})
    found, renumbered = {}, False
    for split in ("val", "test"):
        path, data = database.path(split), database.read_split(split)
        _check_way(bundle, folder, path, data, database.backbone)
        found[split] = _renumbered(bundle, path, data)
        renumbered |= not np.array_equal(found[split].labels, data.labels)
        check_fits(train, found[split], folder / contents.ROWS, path)
    if np.ptp(found["test"].labels) == 0:
        raise DataError(f"{database.path('test')} has one class only; AUC needs two")
    if renumbered:
        log.info("%s: classes are matched by name; their numbers are others", database.folder)
    _tell(bundle, database.folder, found["test"])
    return Splits(train, **found)


def class_names(bundle: Bundle) -> list[str]:
    """The names of the bundle's classes, as people read them."""
    return [_plain(entry["name"]) for entry in bundle.sheet["classes"]]


def _plain(name: str) -> str:
    """A name in composed letters (NFC) without blanks at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def _check_way(
    bundle: Bundle, folder: Path, path: Path, data: EmbeddingSet, backbone: str
) -> None:
    """Raise DataError where rows were made in another way than the bundle's.

    Args:
        backbone: of rows whose file does not name theirs.
    """
    theirs, ours = bundle.sheet["backbone"], data.meta.get("backbone", backbone)
    if datasheet.public_name(ours) != theirs:
        raise DataError(f"{path}: the bundle's rows are by backbone '{theirs}', not '{ours}'")
    before, now = bundle.sheet["preprocessing"], preprocessing.of(data.meta)
    found = preprocessing.differences(before, now)
    if found:
        raise DataError(
            f"{path} was made in another way than the bundle's rows: {shown('; '.join(found))}; "
            f"python create_db.py --like {folder} embeds images as the bundle's were"
        )


def _renumbered(bundle: Bundle, path: Path, data: EmbeddingSet) -> EmbeddingSet:
    """Rows with the labels that the bundle has for their classes.

    Raises:
        DataError: classes are not named in a way that can be matched, or the bundle lacks one.
    """
    names, own = class_names(bundle), [_plain(name) for name in data.class_names]
    for where, given in ((f"the bundle {bundle.sheet['release']}", names), (path, own)):
        twice = next((name for name in given if given.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{where} has two classes named '{shown(twice)}': which is which?")
    learnt = {
        n: e["label"] for n, e in zip(names, bundle.sheet["classes"], strict=True) if e["rows"]
    }
    lacking = [own[label] for label in np.unique(data.labels) if own[label] not in learnt]
    if lacking:
        raise DataError(_why_lacking(path, data.meta, lacking, learnt))
    numbers = np.array([learnt.get(name, -1) for name in own])
    named = {**data.meta, "class_names": names}
    return replace(data, labels=numbers[data.labels], meta=named)


def _why_lacking(
    path: Path, meta: Mapping[str, object], lacking: list[str], learnt: Mapping[str, int]
) -> str:
    """The message on classes of which the bundle has no rows."""
    has = shown(", ".join(learnt))[:400]
    if not meta.get("class_names"):
        return (
            f"{path} does not name its classes, so they cannot be matched with the bundle's "
            f"({has}); class_names in its meta does"
        )
    near = difflib.get_close_matches(lacking[0], learnt, n=1)
    hint = f"; did you mean '{shown(near[0])}'?" if near else ""
    return (
        f"{path} has rows of classes that the bundle has no rows of, which no head could get "
        f"right: {shown(', '.join(lacking))[:400]} (it has: {has}){hint}"
    )


def _tell(bundle: Bundle, folder: Path, test: EmbeddingSet) -> None:
    """Warn of what is not compared, and of classes of which nothing is tested.

    Args:
        folder: of the test rows.
    """
    lacking = preprocessing.unknown(bundle.sheet["preprocessing"], preprocessing.of(test.meta))
    if lacking:
        log.warning(
            "%s and the bundle do not both say how images were embedded; not compared: %s",
            *(folder, ", ".join(lacking)),
        )
    occurring = {*np.unique(test.labels).tolist()}
    names = [
        shown(entry["name"])
        for entry in bundle.sheet["classes"]
        if entry["rows"] and entry["label"] not in occurring
    ]
    if names:
        log.warning(
            "%s has no test row of %d of the bundle's classes; of them the result says nothing: "
            "%.400s",
            *(folder, len(names), ", ".join(names)),
        )
