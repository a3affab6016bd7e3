"""Records: JSON files that say what they depend on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from src.core import names
from src.core.errors import DataError, MissingFileError
from src.core.files import read_json, write_json
from src.core.provenance import fingerprint

PERSON, ROW = UNITS = ("person", "row")  # whom a promise is made to, what is attacked
FORMAT = 1  # of records and of an .npz file's meta; raised where older readers would be misled
SUM = "sum"  # of a record: a fingerprint of what it says, by which a changed digit is noticed
TIMED = {SUM, "seconds"}  # items that are no part of it: the same results have the same sum

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a record is about: a release, or fresh draws of a decoder."""

    id: str  # ksame-5, cvae-online-s0, ...
    anonymizer: str  # its name; the id where the rows were made elsewhere
    settings: Mapping[str, Any]  # of the anonymizer
    rows: str | None  # fingerprint of the released rows; None for fresh draws
    unit: str = ROW  # whom the release's promise is made to

    def __post_init__(self) -> None:
        names.checked(self.id)  # it may be a bundle's, which others have written

    @classmethod
    def stated(cls, id: str, meta: Mapping[str, Any], rows: str) -> Self:
        """What a file of released rows says of itself."""
        return cls(
            id=id,
            anonymizer=meta.get("anonymizer", id),
            settings=meta.get("settings", {}),
            rows=rows,
            unit=unit_of(meta),
        )

    def stem(self, dataset: str, seed: int) -> str:
        """`<dataset>_<id>-s<seed>`, with which the names of its records begin.

        An id that an anonymizer made and that ends in the seed does not repeat it. Other ids
        always get the seed, so that `mine` and `mine-s0` have different names.
        """
        suffix = f"-s{seed}"
        has_seed = self.id.startswith((f"{self.anonymizer}-", "bundle-"))
        return f"{dataset}_{self.id}{'' if has_seed and self.id.endswith(suffix) else suffix}"


def unit_of(meta: Mapping[str, Any]) -> str:
    """Whom a release's promise is made to; of files that do not say it, the row."""
    return PERSON if meta.get("unit") == PERSON else ROW


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record with the fingerprint of what it says.

    Raises:
        OutputError: the file cannot be written.
    """
    write_json(path, {**content, SUM: _sum(content)})


def _sum(content: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(content))  # keys are texts, tuples are lists
    return fingerprint({key: value for key, value in as_read.items() if key not in TIMED})


def read(path: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record in `path` if it is as it was written and has all items of `expected`, else None.

    Files without a fingerprint, of older versions or from elsewhere, are taken as they are.
    """
    try:
        content = read_json(path)
    except (MissingFileError, DataError):
        return None
    if not isinstance(content, dict) or content.get("format", FORMAT) != FORMAT:
        return None
    if SUM in content and content[SUM] != _sum(content):
        log.warning("%s was changed since it was written: it does not count", path)
        return None
    return content if expected.items() <= content.items() else None
