"""The datasheet of a bundle: what a release is, how it was made, and what it does not promise.

It is made of what may be given away. Left out are local paths, where the images came from, and
fingerprints of the originals, by which whoever has a guess of them could confirm it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import anonymizers
from src.anonymizers import Anonymizer
from src.anonymizers.settings import GroupSettings, LatentKSameSettings, Settings
from src.database import EmbeddingSet
from src.errors import InputError
from src.provenance import fingerprint_arrays

if TYPE_CHECKING:
    from src.models.cvae import Decoder

FORMAT = 1
RELEASED = ("dataset", "backbone", "split", "class_names", "anonymizer", "settings", "seed",
            "facts", "versions")  # fmt: skip  # of a release's meta, all that goes into a bundle
FIGURES = ("id", "sigma", "seed", "head", "auc", "accuracy", "balanced_accuracy",
           "average_mindistance")  # fmt: skip  # of a result, likewise
AUDIT = ("seed", "audit", "sizes", "figures", "notes")  # of an audit, likewise
STATED = {"format", "release", "description", "license", "preprocessing", "guarantee", "utility",
          "audits"}  # fmt: skip  # of a datasheet, what `described` does not know
UNCOVERED = "Figures are computed from real rows: a privacy guarantee does not cover them."


def public_name(backbone: str) -> str:
    """The name of a backbone without the folder of a local one."""
    source, colon, place = backbone.partition(":")
    return f"{source}:{Path(place).name}" if colon and source.startswith("local") else backbone


def public_rows(released: EmbeddingSet, dataset: str, backbone: str) -> EmbeddingSet:
    """The released rows with what may be known of how they were made."""
    meta = {"dataset": dataset, "backbone": backbone}
    meta |= {key: released.meta[key] for key in RELEASED if key in released.meta}
    meta["backbone"] = public_name(meta["backbone"])
    return EmbeddingSet(released.embeddings, released.labels, meta)


def compose(
    rows: EmbeddingSet,
    decoder: Decoder | None,
    *,
    release_id: str,
    anonymizer: Anonymizer,
    settings: Settings,
    extraction: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    audits: Sequence[Mapping[str, Any]],
    description: str,
    license: str,
) -> dict[str, Any]:
    """The content of datasheet.json.

    Args:
        rows: the released rows, as `public_rows` gives them.
        extraction: `meta` of the real training embeddings.
        results, audits: figures of the release, as their files have them.
    """
    return {
        "format": FORMAT,
        "release": release_id,
        "description": description,
        "license": license,
        **described(rows, decoder),
        "preprocessing": {
            "image_size": extraction.get("image_size"),
            "precision": extraction.get("precision"),
            **extraction.get("facts", {}).get("backbone", {}),
        },
        "guarantee": statement(anonymizer, settings, rows.meta.get("facts", {})),
        "utility": [{key: result[key] for key in FIGURES} for result in results],
        "audits": [{key: audit[key] for key in AUDIT if key in audit} for audit in audits],
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


def statement(anonymizer: Anonymizer, settings: Settings, facts: Mapping[str, Any]) -> str:
    """In a sentence or two, what is guaranteed, or that nothing is."""
    if anonymizer.private:
        epsilon = math.ceil(1e4 * facts["epsilon"]) / 1e4  # never less than was spent
        return (
            f"({epsilon:g}, {facts['delta']:g})-differential privacy of the training "
            f"rows (neighbours: {facts['neighbours']}; accountant: {facts['accountant']}; "
            f"noise from {facts['noise']}). Other releases made from the same rows add up with it."
        )
    if isinstance(settings, GroupSettings):
        latent = isinstance(settings, LatentKSameSettings)
        return (
            f"No differential privacy. Groups of {settings.k} real rows are merged: a released "
            + ("row is decoded from averages" if latent else "row is an average")
            + f" of {settings.k} rows, which may all be of one person; who knows the others of a "
            "group learns about the last one."
            + (" The decoder was fitted to all training rows." if latent else "")
        )
    return "None. How much the release gives away can be measured, but nothing bounds it."


def fingerprints(rows: EmbeddingSet, decoder: Decoder | None) -> dict[str, str]:
    """Of the contents of a bundle."""
    found = {"rows": rows.fingerprint}
    if decoder is not None:
        tensors = decoder.state_dict()
        found["decoder"] = fingerprint_arrays(*(tensors[k].cpu().numpy() for k in sorted(tensors)))
    return found


def problem(sheet: Any, rows: EmbeddingSet, decoder: Decoder | None) -> str | None:
    """How a datasheet disagrees with its format or with what it describes, if it does."""
    if not isinstance(sheet, dict) or sheet.get("format") != FORMAT:
        return f"is no datasheet of format {FORMAT}"
    for key in ("release", "dataset", "backbone", "anonymizer", "guarantee", "license"):
        if not isinstance(sheet.get(key), str):
            return f"has no '{key}'"
    facts = described(rows, decoder)
    odd = sorted(sheet.keys() ^ (STATED | facts.keys()))
    if odd:
        return f"has '{odd[0]}' too much or too little"
    for key, value in facts.items():
        if sheet.get(key) != value:
            return f"describes other contents: '{key}' is not that of the rows and the decoder"
    if decoder is not None and decoder.minimum.shape != rows.embeddings.shape[1:]:
        return "goes with a decoder of other dimensions than the rows"
    if decoder is not None and decoder.num_classes < rows.num_classes:
        return "goes with a decoder of fewer classes than the rows"
    return _unfit_settings(sheet, decoder)


def _unfit_settings(sheet: Mapping[str, Any], decoder: Decoder | None) -> str | None:
    """How the settings are not those of the release or of its decoder, if so."""
    given, seed = sheet["settings"], sheet["seed"]
    if not isinstance(given, dict):
        return "has no settings"
    try:
        anonymizer = anonymizers.get(sheet["anonymizer"], online=False)
        settings = anonymizer.parse(given)
    except InputError as error:
        return f"has settings that are none: {error}"
    if anonymizer.seeded != (type(seed) is int):
        return f"has a seed that is none: {seed!r}"
    if anonymizer.release_id(settings, seed) != sheet["release"]:
        return f"names a release {sheet['release']!r} that its settings do not"
    if decoder is not None and type(given.get("variance")) is not float:
        return "has a decoder, but no 'variance' to draw from it with"
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
        parts += [_table(sheet["utility"], [key for key in FIGURES if key != "head"])]
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
    lines = [columns, ["---"] * len(columns), *([_text(r[c]) for c in columns] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
