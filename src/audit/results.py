"""Audits ⇄ JSON: one file for each release and seed, with all that running it again needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import results
from src.anonymizers import Anonymizer
from src.anonymizers.settings import Settings
from src.database import EmbeddingSet, Splits
from src.errors import InputError
from src.files import write_json
from src.provenance import fingerprint, versions

if TYPE_CHECKING:
    from src.audit.report import Report

MADE_FROM = ("id", "anonymizer", "settings", "seed", "audit", "inputs")


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How thorough an audit is.

    Raises:
        InputError: one shadow alone, a negative number, or no bootstrap.
    """

    shadows: int = 16  # releases made anew for the shadow attack; 0 leaves it out
    bootstrap: int = 1000  # repetitions

    def __post_init__(self) -> None:
        if self.shadows < 0 or self.shadows == 1:
            raise InputError(f"--shadows {self.shadows}: 0 or at least 2 are needed")
        if self.bootstrap < 1:
            raise InputError(f"--bootstrap {self.bootstrap} is below 1")


def audit_path(root: Path, dataset: str, backbone: str, release_id: str, seed: int) -> Path:
    """`<root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>_audit.json`."""
    result = results.result_path(root, dataset, backbone, release_id, seed)
    return result.with_name(f"{result.stem}_audit.json")


def identity(
    splits: Splits,
    released: EmbeddingSet,
    anonymizer: Anonymizer,
    settings: Settings,
    *,
    seed: int,
    audit: AuditSettings,
) -> dict[str, Any]:
    """Everything that determines an audit but for versions and device, and its fingerprint."""
    made_from = {
        "id": anonymizer.release_id(settings, seed),
        "anonymizer": anonymizer.name,
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "audit": dataclasses.asdict(audit),
        "inputs": {**splits.fingerprints, "release": released.fingerprint},
    }
    return {**made_from, "fingerprint": fingerprint(made_from)}


def write(
    path: Path,
    made_from: Mapping[str, Any],
    report: Report,
    *,
    dataset: str,
    backbone: str,
    device: str,
    seconds: float,
) -> None:
    """Write one audit; `made_from` is its `identity`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_json(
        path,
        {
            "dataset": dataset,
            "backbone": backbone,
            **made_from,
            **report.content(),
            "device": device,
            "versions": versions(),
            "seconds": round(seconds, 3),
        },
    )


def read(path: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """An audit if it is there, whole, and agrees with `expected`, else None.

    Args:
        expected: some or all items of the `identity` that it must have.
    """
    content = results.read_genuine(path, expected, MADE_FROM)
    return content if content and isinstance(content.get("figures"), dict) else None
