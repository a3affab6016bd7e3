"""The datasheet of a bundle: what a release is, how it was made, and what it does not promise.

It consists of what may be given away. Left out are local paths, the images' source, and
fingerprints of the originals, by which someone who guesses them could confirm the guess.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.anonymizers import methods
from src.anonymizers.base import Method
from src.bundle import guarantees, preprocessing, rendering, sites
from src.bundle.rendering import shown
from src.core import names
from src.core.errors import DataError, InputError
from src.core.provenance import fingerprint_arrays
from src.database import ROW, EmbeddingSet

if TYPE_CHECKING:
    from src.networks.sampling import Sampler

FORMAT = 3
RELEASED = (  # of a release's meta, all that goes into a bundle
    *("dataset", "backbone", "split", "class_names", "anonymizer", "settings", "unit", "seed"),
    *("facts", "versions"),
)
SCORES = ("auc", "accuracy", "balanced_accuracy")
DISTANCE = "average_mindistance"
RESULT = (*rendering.RESULT, "head")  # of a result, likewise
AUDIT = ("seed", "audit", "sizes", "figures", "notes")  # of an audit, likewise
ESTIMATES = ("value", "ceiling", "chance")  # of a figure of an audit
TEXTS = ("release", "dataset", "backbone", "anonymizer", "guarantee", "license", "description")
SHOWN = (
    "every file is whole, and in the one form that this program writes",
    "rows, decoder and datasheet describe each other; all sentences follow from numbers",
    "the rows are sorted by label and value: their order says nothing of the originals'",
)
STATED = ("who made the bundle", "that the rows were made as it says")


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """The part of a datasheet that nothing in the bundle can show."""

    description: str
    license: str
    preprocessing: Mapping[str, Any]
    utility: Sequence[Mapping[str, Any]]  # the items `RESULT` of results
    audits: Sequence[Mapping[str, Any]]  # the items `AUDIT` of audits


def public_name(backbone: str) -> str:
    """The name of a backbone without the folder of a local one."""
    source, colon, place = backbone.partition(":")
    return f"{source}:{Path(place).name}" if colon and source.startswith("local") else backbone


def public_rows(released: EmbeddingSet, dataset: str, backbone: str) -> EmbeddingSet:
    """The released rows with what others may know about how they were made."""
    meta = {"dataset": dataset, "backbone": backbone, "unit": ROW}
    meta |= {key: released.meta[key] for key in RELEASED if key in released.meta}
    meta["backbone"] = public_name(meta["backbone"])
    return EmbeddingSet(released.embeddings, released.labels, meta)


def remarks(
    description: str,
    license: str,
    extraction: Mapping[str, Any],
    results: Iterable[Mapping[str, Any]],
    audits: Iterable[Mapping[str, Any]],
) -> Remarks:
    """The remarks on a release.

    Args:
        extraction: `meta` of the real training embeddings, which says how images became inputs.
        results, audits: as their files have them.
    """
    return Remarks(
        description=shown(description),
        license=shown(license),
        preprocessing=preprocessing.of(extraction),
        utility=[{key: result[key] for key in RESULT} for result in results],
        audits=[{key: audit[key] for key in AUDIT} for audit in audits],
    )


def compose(
    rows: EmbeddingSet,
    decoder: Sampler | None,
    method: Method,
    remarks: Remarks,
    *,
    seed: int | None,
) -> dict[str, Any]:
    """The content of datasheet.json.

    Args:
        rows: the released rows, as `public_rows` gives them.
        seed: of the release; None where the method has none.

    Raises:
        DataError: rows, facts and decoder contradict each other or the settings.
    """
    try:
        return _composed(rows, decoder, method, remarks, seed)
    except DataError as error:
        raise DataError(f"the release cannot be bundled: it {error}") from error


def _composed(
    rows: EmbeddingSet,
    decoder: Sampler | None,
    method: Method,
    remarks: Remarks,
    seed: int | None,
) -> dict[str, Any]:
    promise = guarantees.derive(method, rows, decoder)
    return {
        "format": FORMAT,
        "release": method.release_id(seed or 0),
        **described(rows, decoder),
        "guarantee": promise.guarantee,
        "shown": [*SHOWN, *promise.shown],
        "stated": [*STATED, *promise.stated],
        **asdict(remarks),
    }


def described(rows: EmbeddingSet, decoder: Sampler | None) -> dict[str, Any]:
    """The part of datasheet.json that follows from the other files of a bundle."""
    num_classes = _num_classes(rows, decoder)
    named = rows.class_names + [str(label) for label in range(len(rows.class_names), num_classes)]
    counts = np.bincount(rows.labels, minlength=num_classes).tolist()
    return {
        "fingerprints": fingerprints(rows, decoder),
        **{key: rows.meta.get(key) for key in RELEASED if key not in ("split", "class_names")},
        "rows": len(rows),
        "dimensions": rows.embeddings.shape[1],
        "classes": [
            {"label": label, "name": named[label], "rows": count}
            for label, count in enumerate(counts)
        ],
    }


def _num_classes(rows: EmbeddingSet, decoder: Sampler | None) -> int:
    return max(rows.num_classes, decoder.num_classes if decoder else 0)


def fingerprints(rows: EmbeddingSet, decoder: Sampler | None) -> dict[str, str]:
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
    scores = [content[key] for key in SCORES]
    return all(_is_number(score) and 0 <= score <= 100 for score in scores) and (
        distance is None or (_is_number(distance) and distance >= 0)
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


def method_of(sheet: Mapping[str, Any]) -> Method:
    """The method that a datasheet names, with its settings.

    Raises:
        DataError: they are not all settings of a method, in their own types.
    """
    given, seed = sheet.get("settings"), sheet.get("seed")
    if not isinstance(given, dict):
        raise DataError("has no settings")
    try:
        if sheet["anonymizer"] == sites.Merged.name:
            method: Method = sites.Merged.parse(given, of=sites.Merged.name)
        else:
            method = methods.parse(sheet["anonymizer"], given)
    except InputError as error:
        raise DataError(f"has invalid settings: {error}") from error
    if canonical(asdict(method)) != canonical(given):
        raise DataError(f"has incomplete settings: {method.name} has {asdict(method)}")
    if method.seeded != (type(seed) is int):
        raise DataError(f"has an invalid seed: {seed!r:.80}")
    return method


def problem(sheet: Any, rows: EmbeddingSet, decoder: Sampler | None) -> str | None:
    """How a datasheet disagrees with its format or with what it describes, if it does."""
    if not isinstance(sheet, dict) or sheet.get("format") != FORMAT:
        return f"is not a datasheet of format {FORMAT}"
    for key in TEXTS:
        if not isinstance(sheet.get(key), str):
            return f"has no '{key}'"
    classes = sheet.get("classes")
    if not isinstance(classes, list) or len(classes) != _num_classes(rows, decoder):
        return "describes other contents: 'classes' does not match the rows and the decoder"
    try:
        expected = _again(sheet, rows, decoder)
    except InputError as error:
        return f"{shown(error):.500}"  # what it quotes may be long
    odd = sorted(sheet.keys() ^ expected.keys())
    if odd:
        return f"has an unexpected or missing entry: {odd[0]!r:.80}"
    for key, value in expected.items():
        if canonical(sheet[key]) != canonical(value):
            return f"describes other contents: '{key}' does not match the rows and the decoder"
    return None


def _again(
    sheet: Mapping[str, Any], rows: EmbeddingSet, decoder: Sampler | None
) -> dict[str, Any]:
    """The datasheet that its own remarks, the rows and the decoder give.

    Raises:
        DataError: there is none.
    """
    names.checked(sheet["dataset"])
    names.checked_backbone(sheet["backbone"])
    method, seed = method_of(sheet), sheet["seed"]
    release = method.release_id(seed or 0)
    if release != sheet["release"]:
        raise DataError(
            f"names a release {sheet['release']!r:.80}, but its settings are those of {release!r}"
        )
    if not isinstance(sheet.get("preprocessing"), dict):
        raise DataError("has no 'preprocessing'")
    _check_quoted(sheet.get("utility"), RESULT, is_result)
    _check_quoted(sheet.get("audits"), AUDIT, is_audit)
    online = release.replace(method.name, f"{method.name}-online", 1)
    other = [result["id"] for result in sheet["utility"] if result["id"] not in (release, online)]
    if other:
        raise DataError(f"quotes a result of {other[0]!r:.80}")
    given = Remarks(
        description=shown(sheet["description"]),
        license=shown(sheet["license"]),
        preprocessing=sheet["preprocessing"],
        utility=sheet["utility"],
        audits=sheet["audits"],
    )
    return _composed(rows, decoder, method, given, seed)


def _check_quoted(
    found: Any, keys: Sequence[str], is_whole: Callable[[Mapping[str, Any]], bool]
) -> None:
    """Raise DataError where records are quoted with more or less than these items."""
    if not isinstance(found, list) or not all(
        isinstance(record, dict) and record.keys() == {*keys} and is_whole(record)
        for record in found
    ):
        raise DataError(f"quotes what has not exactly the items {', '.join(keys)}")


def canonical(content: Any) -> str:
    """The one text of a JSON value in a bundle."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
