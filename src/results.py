"""Results: one JSON file for each head and noise level, with all that running it again needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.database import Splits, data_folder
from src.files import write_json
from src.metrics import Scores
from src.probe import HeadSettings, Probe
from src.provenance import fingerprint, versions


def result_path(
    root: Path, dataset: str, backbone: str, release_id: str, seed: int, sigma: float | None = None
) -> Path:
    """`<root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>[_sigma<sigma>].json`.

    An id that already ends in the seed does not repeat it.
    """
    suffix = f"-s{seed}"
    name = release_id if release_id.endswith(suffix) else release_id + suffix
    noise = "" if sigma is None else f"_sigma{sigma:g}"
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
    write_json(
        path,
        {
            "dataset": dataset,
            "backbone": backbone,
            **made_from,
            **{name: round(value, 6) for name, value in scores._asdict().items()},
            "average_mindistance": round(probe.average_mindistance, 6),
            "epochs": probe.fit.epochs,
            "best_epoch": probe.fit.best_epoch,
            "device": probe.mean.device.type,
            "versions": versions(),
            "seconds": round(seconds, 3),
        },
    )
