"""Audits ⇄ JSON: one file per release and seed, with all that it takes to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from src.audit import units
from src.audit.settings import AuditSettings
from src.audit.tables import Report
from src.core import records
from src.core.provenance import versions
from src.core.records import FORMAT, Subject
from src.database import ROW, Database, Splits


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an audit depends on, except for versions and device: the first items of its file."""

    dataset: str
    backbone: str
    id: str  # of the release: ksame-5, cvae-s0, ...
    anonymizer: str
    settings: Mapping[str, Any]
    seed: int
    audit: AuditSettings  # its unit None: that of the file, whichever it is
    inputs: Mapping[str, str | None]  # fingerprints of the splits and of the release

    def path(self, output_root: Path) -> Path:
        """`<output_root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>_audit.json`."""
        subject = Subject(
            id=self.id, anonymizer=self.anonymizer, settings=self.settings, rows=None
        )
        folder = Database(output_root, self.dataset, self.backbone).folder
        return folder / f"{subject.stem(self.dataset, self.seed)}_audit.json"


def case(
    database: Database, splits: Splits, subject: Subject, options: AuditSettings, seed: int
) -> Case:
    """The audit of a release of these splits.

    Raises:
        InputError: persons are asked for and not known.
    """
    return Case(
        dataset=database.dataset,
        backbone=database.backbone,
        id=subject.id,
        anonymizer=subject.anonymizer,
        settings=subject.settings,
        seed=seed,
        audit=replace(options, unit=units.chosen(splits, options.unit)),
        inputs={**splits.fingerprints, "release": subject.rows},
    )


def write(output_root: Path, case: Case, report: Report, *, device: str, seconds: float) -> Path:
    """Write one audit and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    path = case.path(output_root)
    content = {
        "format": FORMAT,
        **asdict(case),
        **report.content(),
        "device": device,
        "versions": versions(),
        "seconds": round(seconds, 3),
    }
    records.write(path, content)
    return path


def read(output_root: Path, case: Case) -> dict[str, Any] | None:
    """The audit of this case if it exists, is whole, and was made from the same inputs."""
    expected = {name: value for name, value in asdict(case).items() if name != "audit"}
    content = records.read(case.path(output_root), expected)
    if not content or not _are_metrics(content.get("figures")):
        return None
    return content if _fits(case.audit, content.get("audit")) else None


def _fits(options: AuditSettings, content: Any) -> bool:
    """Whether an audit's own settings are these; those that do not name a unit are by row."""
    asked = {name: value for name, value in asdict(options).items() if value is not None}
    return isinstance(content, dict) and asked.items() <= {"unit": ROW, **content}.items()


def _are_metrics(content: Any) -> bool:
    """Whether every metric has a value, if only `null`."""
    return isinstance(content, dict) and all(
        isinstance(row, dict) and isinstance(row.get("value"), dict) and "value" in row["value"]
        for row in content.values()
    )
