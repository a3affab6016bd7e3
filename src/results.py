"""Results: one JSON file for each head and noise level, with all that running it again needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.database import Splits, data_folder
from src.errors import DataError, MissingFileError
from src.files import number_name, read_json, write_json
from src.head import HeadSettings
from src.provenance import fingerprint, versions

if TYPE_CHECKING:
    from src.metrics import Scores
    from src.probe import Probe

UTILITY = ("auc", "accuracy", "balanced_accuracy")  # percent, the higher the better
DISTANCE = "average_mindistance"
METRICS = (*UTILITY, DISTANCE)
MADE_FROM = ("id", "anonymizer", "settings", "head", "seed", "sigma", "inputs")


def result_path(
    root: Path, dataset: str, backbone: str, release_id: str, seed: int, sigma: float | None = None
) -> Path:
    """`<root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>[_sigma<sigma>].json`.

    An id that already ends in the seed does not repeat it.
    """
    suffix = f"-s{seed}"
    name = release_id if release_id.endswith(suffix) else release_id + suffix
    noise = "" if sigma is None else f"_sigma{number_name(sigma)}"
    return data_folder(root, dataset, backbone) / f"{dataset}_{name}{noise}.json"


def identity(
    splits: Splits,
    *,
    release_id: str,
    release: str | None,
    anonymizer: str,
    settings: Mapping[str, Any],
    head: HeadSettings,
    seed: int,
    sigma: float | None,
) -> dict[str, Any]:
    """Everything that determines a result but for versions and device, and its fingerprint.

    Args:
        release: fingerprint of the released rows; None for a head trained on a decoder.
        anonymizer, settings: what made the release.
        sigma: of the noise on test features; None for clean ones.
    """
    made_from = {
        "id": release_id,
        "anonymizer": anonymizer,
        "settings": dict(settings),
        "head": dataclasses.asdict(head),
        "seed": seed,
        "sigma": sigma,
        "inputs": {**splits.fingerprints, "release": release},
    }
    return {**made_from, "fingerprint": fingerprint(made_from)}


def write(
    path: Path,
    made_from: Mapping[str, Any],
    probe: Probe,
    scores: Scores,
    *,
    dataset: str,
    backbone: str,
    seconds: float,
) -> None:
    """Write one result; `made_from` is its `identity`.

    Raises:
        OutputError: the file cannot be written.
    """
    distance = probe.average_mindistance
    write_json(
        path,
        {
            "dataset": dataset,
            "backbone": backbone,
            **made_from,
            **{name: round(value, 6) for name, value in scores._asdict().items()},
            DISTANCE: None if distance is None else round(distance, 6),
            "epochs": probe.fit.epochs,
            "best_epoch": probe.fit.best_epoch,
            "device": probe.mean.device.type,
            "versions": versions(),
            "seconds": round(seconds, 3),
        },
    )


def read(path: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """A result if it is there, whole, and agrees with `expected`, else None.

    Args:
        expected: some or all items of the `identity` that the result must have.
    """
    content = read_genuine(path, expected, MADE_FROM)
    values = [(content or {}).get(name) for name in (*METRICS, "seconds")]
    whole = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    return content if whole else None


def read_genuine(
    path: Path, expected: Mapping[str, Any], made_from: Sequence[str]
) -> dict[str, Any] | None:
    """A JSON object that has the items `expected`, else None.

    Its fingerprint must be that of its items `made_from`: what it says it was made from.
    """
    try:
        content = read_json(path)
    except (MissingFileError, DataError):
        return None
    if not isinstance(content, dict) or any(content.get(k) != v for k, v in expected.items()):
        return None
    genuine = fingerprint({key: content.get(key) for key in made_from})
    return content if content.get("fingerprint") == genuine else None
