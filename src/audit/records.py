"""Audits ⇄ JSON: one file per release and seed, with all that it takes to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.audit import units
from src.audit.settings import AuditSettings, OneRunSettings
from src.core import records
from src.core.provenance import versions
from src.core.records import FORMAT, Subject
from src.database import ROW, Database, Splits

if TYPE_CHECKING:
    from src.audit.one_run import OneRun
    from src.audit.tables import Report


ONE_RUN = "onerun"  # with which the name of a one-run audit ends
NUMBERS = ("epsilon_lower", "epsilon_ceiling", "guesses", "right", "delta", "canaries")


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

    def path(self, output_root: Path, what: str = "audit") -> Path:
        """`<output_root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>_<what>.json`."""
        subject = Subject(
            id=self.id, anonymizer=self.anonymizer, settings=self.settings, rows=None
        )
        folder = Database(output_root, self.dataset, self.backbone).folder
        return folder / f"{subject.stem(self.dataset, self.seed)}_{what}.json"


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
    if content and "figures" in content:
        content = _renamed(content)
    if not content or not _are_metrics(content.get("metrics")):
        return None
    return content if _fits(case.audit, content.get("audit")) else None


def write_one_run(
    output_root: Path,
    case: Case,
    options: OneRunSettings,
    found: OneRun,
    *,
    device: str,
    seconds: float,
) -> Path:
    """Write the one-run audit of how a case's release is made, and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    path = case.path(output_root, ONE_RUN)
    content = {
        "format": FORMAT,
        **_of_method(case),
        "one_run": asdict(replace(options, unit=found.unit)),
        **found.content(),
        "device": device,
        "versions": versions(),
        "seconds": round(seconds, 3),
    }
    records.write(path, content)
    return path


def read_one_run(
    output_root: Path, case: Case, options: OneRunSettings | None = None
) -> dict[str, Any] | None:
    """The one-run audit of how a case's release is made, if it exists and is of the same rows.

    Args:
        options: those that it must have been made with; None: whichever.
    """
    content = records.read(case.path(output_root, ONE_RUN), _of_method(case))
    if not content or not all(_is_number(content.get(key)) for key in NUMBERS):
        return None
    if case.audit.unit not in (None, content.get("unit")):
        return None
    asked = {k: v for k, v in asdict(options).items() if k != "unit" or v} if options else {}
    made = content.get("one_run")
    return content if isinstance(made, dict) and asked.items() <= made.items() else None


def _of_method(case: Case) -> dict[str, Any]:
    """The items of a case that a one-run audit depends on: not the released and test rows."""
    items = {name: value for name, value in asdict(case).items() if name != "audit"}
    return {**items, "inputs": {name: case.inputs.get(name) for name in ("train", "val")}}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _renamed(content: Mapping[str, Any]) -> dict[str, Any]:
    """An older audit's content under today's names; what it did not measure stays out."""
    metrics = content["figures"]
    if isinstance(metrics, dict):
        older = {"near_copies": "very_near"}
        metrics = {older.get(key, key): row for key, row in metrics.items()}
    kept = {key: part for key, part in content.items() if key != "figures"}
    return {"metrics": metrics, **kept}


def _fits(options: AuditSettings, content: Any) -> bool:
    """Whether an audit's own settings are these.

    Those that do not name a unit are by row; where no number of rows is named, all were looked at.
    """
    asked = {name: value for name, value in asdict(options).items() if value is not None}
    older = {"unit": ROW, "most_rows": options.most_rows}
    return isinstance(content, dict) and asked.items() <= {**older, **content}.items()


def _are_metrics(content: Any) -> bool:
    """Whether every metric has a value, if only `null`."""
    return isinstance(content, dict) and all(
        isinstance(row, dict) and isinstance(row.get("value"), dict) and "value" in row["value"]
        for row in content.values()
    )
