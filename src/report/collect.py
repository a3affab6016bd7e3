"""The results of a sweep, read from their files in the order of its configuration."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from src import results
from src.audit import results as audits
from src.audit.measures import MEASURES
from src.database import Database
from src.errors import DataError, InputError
from src.files import write_text
from src.sweep.config import Sweep, Variant


class Row(NamedTuple):
    """One result: a run at one noise level."""

    dataset: str
    backbone: str
    variant: Variant
    seed: int
    sigma: float
    values: Mapping[str, float]  # of results.METRICS, and of MEASURES where there is an audit
    seconds: float


def rows(sweep: Sweep, output_root: Path, database_root: Path) -> list[Row]:
    """Every result that is there, whole, and made with the sweep's settings.

    Where the embeddings are there, only results made from them count.

    Raises:
        DataError: results of one data set and backbone were made from different embeddings.
    """
    found = []
    for dataset, backbone in sweep.tables():
        contents = _read(sweep, output_root, dataset, backbone)
        audited = _audited(sweep, output_root, dataset, backbone)
        found_here = [*contents.values(), *audited.values()]
        inputs = _inputs(Database(database_root, dataset, backbone), found_here)
        found += [
            Row(
                dataset,
                backbone,
                *key,
                {name: content[name] for name in results.METRICS}
                | _figures(audited.get(key[:2]), inputs, content["inputs"]["release"]),
                content["seconds"],
            )
            for key, content in contents.items()
            if _real(content) == inputs
        ]
    return found


def _read(
    sweep: Sweep, output_root: Path, dataset: str, backbone: str
) -> dict[tuple[Variant, int, float], dict[str, Any]]:
    contents = {}
    for variant in sweep.variants:
        for seed in sweep.seeds:
            for sigma in sweep.sigma:
                release_id = variant.release_id(seed)
                expected = {
                    "id": release_id,
                    "anonymizer": variant.anonymizer.name,
                    "settings": variant.values,
                    "head": asdict(sweep.head),
                    "seed": seed,
                    "sigma": sigma,
                }
                path = results.result_path(output_root, dataset, backbone, release_id, seed, sigma)
                content = results.read(path, expected)
                if content is not None:
                    contents[variant, seed, sigma] = content
    return contents


def _audited(
    sweep: Sweep, output_root: Path, dataset: str, backbone: str
) -> dict[tuple[Variant, int], dict[str, Any]]:
    """The audits that are there, whole, and made with the sweep's settings."""
    contents = {}
    for variant, seed in itertools.product(sweep.variants if sweep.audit else (), sweep.seeds):
        release_id = variant.release_id(seed)
        expected = {
            "id": release_id,
            "anonymizer": variant.anonymizer.name,
            "settings": variant.values,
            "seed": seed,
            "audit": asdict(sweep.audit) if sweep.audit else None,
        }
        path = audits.audit_path(output_root, dataset, backbone, release_id, seed)
        content = audits.read(path, expected)
        if content is not None:
            contents[variant, seed] = content
    return contents


def _figures(
    audit: Mapping[str, Any] | None, inputs: Mapping[str, str], release: str | None
) -> dict[str, float]:
    """The figures of an audit of this release of these embeddings, without those that are n/a."""
    if audit is None or audit["inputs"] != {**inputs, "release": release}:
        return {}
    values = {key: row["value"]["value"] for key, row in audit["figures"].items()}
    return {key: value for key, value in values.items() if value is not None}


def _inputs(database: Database, contents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Fingerprints of the real embeddings that results must have been made from."""
    try:
        return database.splits().fingerprints
    except InputError:  # not there: the results have to agree with each other
        distinct = {tuple(sorted(_real(content).items())) for content in contents}
    if len(distinct) > 1:
        raise DataError(
            f"results of {database.dataset}/{database.backbone} were made from {len(distinct)} "
            f"different sets of embeddings, and {database.folder} does not say which counts; "
            "run the sweep again"
        )
    return dict(next(iter(distinct), ()))


def _real(content: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in content["inputs"].items() if name != "release"}


def write_csv(path: Path, sweep: Sweep, rows: Sequence[Row]) -> Path:
    """Write a line for each row: names, every setting, metrics (in percent), seconds."""
    settings = list(dict.fromkeys(name for v in sweep.variants for name in v.values))
    head = {f"head_{name}": value for name, value in asdict(sweep.head).items()}
    names = ("dataset", "backbone", "anonymizer", *settings, *head, "seed", "sigma")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = (*results.METRICS, *(MEASURES if sweep.audit else ()))
    writer.writerow([*names, *metrics, "seconds"])
    for row in rows:
        values = [row.variant.values.get(name, "") for name in settings]
        figures = [row.values.get(name, "") for name in metrics]
        writer.writerow(
            [
                *(row.dataset, row.backbone, row.variant.anonymizer.name, *values),
                *(*head.values(), row.seed, row.sigma, *figures, row.seconds),
            ]
        )
    write_text(path, text.getvalue())
    return path
