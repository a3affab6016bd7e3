"""The datasheet of a bundle: what a release is, how it was made, and what it does not promise.

It consists of what may be given away. Left out are local paths, the images' source, and
fingerprints of the originals, by which someone who guesses them could confirm the guess.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.core import tables
from src.core.errors import DataError, InputError
from src.core.provenance import fingerprint_arrays
from src.database import EmbeddingSet

if TYPE_CHECKING:
    from src.networks.cvae import Decoder

FORMAT = 1
RELEASED = ("dataset", "backbone", "split", "class_names", "anonymizer", "settings", "seed",
            "facts", "versions")  # fmt: skip  # of a release's meta, all that goes into a bundle
SCORES = ("auc", "accuracy", "balanced_accuracy")
DISTANCE = "average_mindistance"
RESULT = ("id", "sigma", "seed", "head", *SCORES, DISTANCE)  # of a result, likewise
AUDIT = ("seed", "audit", "sizes", "figures", "notes")  # of an audit, likewise
ESTIMATES = ("value", "ceiling", "chance")  # of a figure of an audit
STATED = {"format", "release", "description", "license", "preprocessing", "guarantee", "utility",
          "audits"}  # fmt: skip  # of a datasheet, what `described` does not know
GUARANTEE = ("epsilon", "delta", "neighbours", "accountant", "noise")  # facts that are stated
UNCOVERED = "Figures are computed from real rows: a privacy guarantee does not cover them."


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """The part of a datasheet that does not follow from the release."""

    description: str
    license: str
    extraction: Mapping[str, Any]  # `meta` of the real training embeddings
    results: Sequence[Mapping[str, Any]]  # as their files have them
    audits: Sequence[Mapping[str, Any]]  # likewise


def public_name(backbone: str) -> str:
    """The name of a backbone without the folder of a local one."""
    source, colon, place = backbone.partition(":")
    return f"{source}:{Path(place).name}" if colon and source.startswith("local") else backbone


def public_rows(released: EmbeddingSet, dataset: str, backbone: str) -> EmbeddingSet:
    """The released rows with what others may know about how they were made."""
    meta = {"dataset": dataset, "backbone": backbone}
    meta |= {key: released.meta[key] for key in RELEASED if key in released.meta}
    meta["backbone"] = public_name(meta["backbone"])
    return EmbeddingSet(released.embeddings, released.labels, meta)


def compose(
    rows: EmbeddingSet,
    decoder: Decoder | None,
    anonymizer: Anonymizer,
    remarks: Remarks,
    *,
    seed: int,
) -> dict[str, Any]:
    """The content of datasheet.json.

    Args:
        rows: the released rows, as `public_rows` gives them.
        seed: of the release.

    Raises:
        DataError: a private release whose file does not say what it guarantees.
    """
    return {
        "format": FORMAT,
        "release": anonymizer.release_id(seed),
        "description": remarks.description,
        "license": remarks.license,
        **described(rows, decoder),
        "preprocessing": _preprocessing(remarks.extraction),
        "guarantee": statement(anonymizer, rows.meta.get("facts", {})),
        "utility": [{key: result[key] for key in RESULT} for result in remarks.results],
        "audits": [{key: audit[key] for key in AUDIT} for audit in remarks.audits],
    }


def _preprocessing(extraction: Mapping[str, Any]) -> dict[str, Any]:
    """How images became inputs of the backbone, as far as the real embeddings' file tells."""
    backbone = extraction.get("facts", {}).get("backbone")
    return {
        "image_size": extraction.get("image_size"),
        "precision": extraction.get("precision"),
        **(backbone if isinstance(backbone, Mapping) else {}),
    }


def described(rows: EmbeddingSet, decoder: Decoder | None) -> dict[str, Any]:
    """The part of datasheet.json that follows from the other files of a bundle."""
    num_classes = max(rows.num_classes, decoder.num_classes if decoder else 0)
    names = rows.class_names + [str(label) for label in range(len(rows.class_names), num_classes)]
    counts = np.bincount(rows.labels, minlength=num_classes).tolist()
    return {
        "fingerprints": fingerprints(rows, decoder),
        **{key: rows.meta.get(key) for key in RELEASED if key not in ("split", "class_names")},
        "rows": len(rows),
        "dimensions": rows.embeddings.shape[1],
        "classes": [
            {"label": label, "name": names[label], "rows": count}
            for label, count in enumerate(counts)
        ],
    }


def statement(anonymizer: Anonymizer, facts: Mapping[str, Any]) -> str:
    """In a sentence or two, what is guaranteed, or that nothing is.

    Raises:
        DataError: a private release whose facts lack the guarantee.
    """
    if anonymizer.private:
        return _private(facts)
    if isinstance(anonymizer, methods.KSame):
        return _merged(anonymizer.k, "row is an average")
    if isinstance(anonymizer, methods.LatentKSame | methods.LatentLinear | methods.Plan):
        merged = _merged(anonymizer.k, "row is decoded from averages")
        return f"{merged} The decoder was fitted to all training rows."
    return "None. How much the release gives away can be measured, but nothing bounds it."


def _private(facts: Mapping[str, Any]) -> str:
    missing = [name for name in GUARANTEE if name not in facts]
    if missing:
        raise DataError(f"the release's file states no guarantee: '{missing[0]}' is missing")
    epsilon = math.ceil(1e4 * facts["epsilon"]) / 1e4  # never less than was spent
    return (
        f"({epsilon:g}, {facts['delta']:g})-differential privacy of the training "
        f"rows (neighbours: {facts['neighbours']}; accountant: {facts['accountant']}; "
        f"noise from {facts['noise']}). Other releases made from the same rows add up with it."
    )


def _merged(k: int, how: str) -> str:
    return (
        f"No differential privacy. Groups of {k} real rows are merged: a released {how} of {k} "
        "rows, which may all be of one person; who knows the others of a group learns about the "
        "last one."
    )


def fingerprints(rows: EmbeddingSet, decoder: Decoder | None) -> dict[str, str]:
    """Of the contents of a bundle."""
    found = {"rows": rows.fingerprint}
    if decoder is not None:
        tensors = decoder.state_dict()
        found["decoder"] = fingerprint_arrays(*(tensors[k].cpu().numpy() for k in sorted(tensors)))
    return found


def is_result(content: Mapping[str, Any]) -> bool:
    """Whether a record is a result with all its numbers; only the distance may be unknown."""
    if not content.keys() >= {*RESULT} or not _is_finite([content[key] for key in RESULT]):
        return False
    distance = content[DISTANCE]
    return all(map(_is_number, [content[key] for key in SCORES])) and (
        distance is None or _is_number(distance)
    )


def is_audit(content: Mapping[str, Any]) -> bool:
    """Whether a record is an audit with all its figures, of which some may be unknown."""
    if not content.keys() >= {*AUDIT} or not _is_finite([content[key] for key in AUDIT]):
        return False
    figures = content["figures"]
    return isinstance(figures, dict) and all(
        isinstance(row, dict) and all(_is_estimate(row.get(name)) for name in ESTIMATES)
        for row in figures.values()
    )


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and all(n is None or _is_number(n) for n in value.values())


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_finite(value: Any) -> bool:
    """Whether a JSON value holds neither NaN nor infinity, which a datasheet cannot hold."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def problem(sheet: Any, rows: EmbeddingSet, decoder: Decoder | None) -> str | None:
    """How a datasheet disagrees with its format or with what it describes, if it does."""
    if not isinstance(sheet, dict) or sheet.get("format") != FORMAT:
        return f"is not a datasheet of format {FORMAT}"
    for key in ("release", "dataset", "backbone", "anonymizer", "guarantee", "license"):
        if not isinstance(sheet.get(key), str):
            return f"has no '{key}'"
    facts = described(rows, decoder)
    odd = sorted(sheet.keys() ^ (STATED | facts.keys()))
    if odd:
        return f"has an unexpected or missing entry: '{odd[0]}'"
    for key, value in facts.items():
        if sheet.get(key) != value:
            return f"describes other contents: '{key}' does not match the rows and the decoder"
    if decoder is not None and decoder.minimum.shape != rows.embeddings.shape[1:]:
        return "goes with a decoder of other dimensions than the rows"
    if decoder is not None and decoder.num_classes < rows.num_classes:
        return "goes with a decoder of fewer classes than the rows"
    return _unfit_settings(sheet, decoder)


def _unfit_settings(sheet: Mapping[str, Any], decoder: Decoder | None) -> str | None:
    """How the settings disagree with the release or its decoder, if they do."""
    given, seed = sheet["settings"], sheet["seed"]
    if not isinstance(given, dict):
        return "has no settings"
    try:
        anonymizer = methods.parse(sheet["anonymizer"], given)
    except InputError as error:
        return f"has invalid settings: {error}"
    if anonymizer.seeded != (type(seed) is int):
        return f"has an invalid seed: {seed!r}"
    expected = anonymizer.release_id(seed)
    if expected != sheet["release"]:
        return f"names a release {sheet['release']!r}, but its settings are those of {expected!r}"
    if decoder is not None and type(given.get("variance")) is not float:
        return "has a decoder, but no 'variance' to draw from it"
    return None


def render(sheet: Mapping[str, Any]) -> str:
    """The datasheet for people, in Markdown."""
    parts = [
        f"# {sheet['release']} of {sheet['dataset']}",
        sheet["description"],
        f"**Guarantee.** {sheet['guarantee']}",
        f"**Licence.** {sheet['license']}",
        "## Data",
        f"{sheet['rows']} anonymized embeddings of {sheet['dimensions']} dimensions "
        f"(`train.npz`: `embeddings`, `labels`) by the backbone `{sheet['backbone']}`.",
        _table(sheet["classes"], ("label", "name", "rows")),
        "## How it was made",
        _items(
            {
                "preprocessing": sheet["preprocessing"],
                "anonymizer": sheet["anonymizer"],
                "settings": sheet["settings"],
                "seed": sheet["seed"],
                "facts": sheet["facts"],
                "versions": sheet["versions"],
                "fingerprints": sheet["fingerprints"],
            }
        ),
    ]
    if sheet["utility"]:
        parts += ["## Utility (linear head, real test rows)", UNCOVERED]
        parts += [_table(sheet["utility"], [key for key in RESULT if key != "head"])]
    for audit in sheet["audits"]:
        parts += ["## Privacy audit", UNCOVERED, _items(audit)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _items(content: Mapping[str, Any], depth: int = 0) -> str:
    """Nested lists of names and values."""
    lines = []
    for key, value in content.items():
        nested = isinstance(value, Mapping) and bool(value)
        lines.append(f"{'  ' * depth}- {key}:" + ("" if nested else f" {_text(value)}"))
        if nested:
            lines.append(_items(value, depth + 1))
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    return tables.markdown(columns, [[_text(row[column]) for column in columns] for row in rows])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value).replace("\n", " ")
