"""Runs: fit one head on one release, evaluate it at some noise levels, write the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src import anonymizers, results
from src.anonymizers import Anonymizer, Resources
from src.anonymizers.settings import CVAESettings
from src.database import Database, EmbeddingSet, Splits
from src.metrics import Scores
from src.probe import HeadSettings, Probe, evaluate, probe_decoder, probe_release


class Outcome(NamedTuple):
    """One result: where it is, its noise level (None: clean), utility and distance."""

    path: Path
    sigma: float | None
    scores: Scores
    average_mindistance: float

    def __str__(self) -> str:
        noise = "" if self.sigma is None else f"sigma {self.sigma:g}  "
        return (
            f"{self.path}  {noise}AUC {self.scores.auc:.2f}  "
            f"accuracy {self.scores.accuracy:.2f}  distance {self.average_mindistance:.4f}"
        )


def run_offline(
    database: Database,
    splits: Splits,
    released: EmbeddingSet,
    release_id: str,
    *,
    head: HeadSettings,
    seed: int,
    sigmas: Sequence[float | None],
    device: torch.device,
    output_root: Path,
) -> list[Outcome]:
    """Fit the head on released rows and write a result for each noise level."""
    made_from = {
        "release_id": release_id,
        "release": released.fingerprint,
        "anonymizer": released.meta.get("anonymizer", release_id),
        "settings": released.meta.get("settings", {}),
    }

    def fit() -> Probe:
        return probe_release(splits, released, head, seed=seed, device=device)

    return _run(database, splits, fit, made_from, head, seed, sigmas, output_root)


def run_online(
    database: Database,
    splits: Splits,
    anonymizer: Anonymizer,
    settings: CVAESettings,
    *,
    head: HeadSettings,
    seed: int,
    sigmas: Sequence[float | None],
    resources: Resources,
    output_root: Path,
) -> list[Outcome]:
    """Fit the head on fresh draws of a decoder and write a result for each noise level."""
    decoder = anonymizers.decoder(
        anonymizer, settings, splits.train, splits.val, seed=seed, resources=resources
    )
    made_from = {
        "release_id": anonymizer.release_id(settings, seed),
        "release": None,
        "anonymizer": anonymizer.name,
        "settings": asdict(settings),
    }

    def fit() -> Probe:
        return probe_decoder(
            splits, decoder, settings.variance, head, seed=seed, device=resources.device
        )

    return _run(database, splits, fit, made_from, head, seed, sigmas, output_root)


def _run(
    database: Database,
    splits: Splits,
    fit: Callable[[], Probe],
    made_from: dict[str, Any],
    head: HeadSettings,
    seed: int,
    sigmas: Sequence[float | None],
    output_root: Path,
) -> list[Outcome]:
    started = time.perf_counter()
    probe = fit()
    fitted = time.perf_counter()
    outcomes = []
    for sigma in sigmas:
        begun = time.perf_counter()
        scores = evaluate(probe, splits.test, sigma or 0.0, seed=seed)
        path = results.result_path(
            output_root, database.dataset, database.backbone, made_from["release_id"], seed, sigma
        )
        results.write(
            path,
            results.identity(splits, **made_from, head=head, seed=seed, sigma=sigma),
            probe,
            scores,
            dataset=database.dataset,
            backbone=database.backbone,
            seconds=fitted - started + time.perf_counter() - begun,
        )
        outcomes.append(Outcome(path, sigma, scores, probe.average_mindistance))
    return outcomes
