"""Records: JSON files that say what they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.core.errors import DataError, MissingFileError
from src.core.files import read_json

FORMAT = 1  # of records and of an .npz file's meta; raised where older readers would be misled


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a record is about: a release, or fresh draws of a decoder."""

    id: str  # ksame-5, cvae-online-s0, ...
    anonymizer: str  # its name; the id where the rows were made elsewhere
    settings: Mapping[str, Any]  # of the anonymizer
    rows: str | None  # fingerprint of the released rows; None for fresh draws

    def stem(self, dataset: str, seed: int) -> str:
        """`<dataset>_<id>-s<seed>`, with which the names of its records begin.

        An id that an anonymizer made and that ends in the seed does not repeat it. Other ids
        always get the seed, so that `mine` and `mine-s0` have different names.
        """
        suffix = f"-s{seed}"
        has_seed = self.id.startswith((f"{self.anonymizer}-", "bundle-"))
        return f"{dataset}_{self.id}{'' if has_seed and self.id.endswith(suffix) else suffix}"


def read(path: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record in `path` if it can be read and has all items of `expected`, else None."""
    try:
        content = read_json(path)
    except (MissingFileError, DataError):
        return None
    if not isinstance(content, dict) or content.get("format", FORMAT) != FORMAT:
        return None
    return content if expected.items() <= content.items() else None
