"""`meta`, the JSON text in an .npz file that says what its rows are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from src.core.arrays import MOST_META
from src.core.errors import DataError
from src.core.files import parse_json
from src.core.records import FORMAT

GUARANTEE = {"epsilon", "delta"}  # of facts, both or neither
TYPES = {  # of what is used of `meta`; other types under these names are not ours
    "anonymizer": str,
    "backbone": str,
    "class_names": list,
    "facts": dict,
    "settings": dict,
    "source": dict,
}


def to_array(meta: dict[str, Any]) -> np.ndarray:
    """The text that a file holds, with the format it is in.

    Raises:
        DataError: it is too long to be read again.
    """
    text = json.dumps({**meta, "format": FORMAT}, sort_keys=True, allow_nan=False)
    array = np.array(text)
    if array.nbytes > MOST_META:
        raise DataError(f"meta has {len(text)} characters, more than {MOST_META // 4 - 64}")
    return array


def from_array(path: Path, array: np.ndarray | None) -> dict[str, Any]:
    """The `meta` read from `path`, without its format; empty where there is none.

    Raises:
        DataError: it is not a JSON object, or of a format that this version cannot read.
    """
    if array is None:
        return {}
    try:
        meta = parse_json(str(array[()]))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: meta is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path}: meta must be a JSON object, not {type(meta).__name__}")
    version = meta.pop("format", FORMAT)
    if version != FORMAT:
        raise DataError(
            f"{path} has format {version!r}, which this version cannot read (it reads {FORMAT})"
        )
    return meta


def drop_foreign(meta: dict[str, Any]) -> None:
    """Remove the items of a foreign file that would be mistaken for ours."""
    for key, kind in TYPES.items():
        if not isinstance(meta.get(key, kind()), kind):
            del meta[key]
    facts = meta.get("facts", {})
    if facts.keys() & GUARANTEE and not all(_is_number(facts.get(key)) for key in GUARANTEE):
        del meta["facts"]  # half a guarantee is none


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(value))  # type: ignore[call-overload]
