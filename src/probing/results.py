"""Results: one JSON file per head and noise level, with all that it takes to run it again."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src.core import records
from src.core.errors import OutputError
from src.core.files import number_name
from src.core.provenance import versions
from src.core.records import FORMAT, ROW, Subject, unit_of
from src.database import Database, EmbeddingSet, Splits
from src.probing.settings import HeadSettings

if TYPE_CHECKING:
    from src.probing.head import Head
    from src.probing.metrics import Distance, Scores

UTILITY = ("auc", "accuracy", "balanced_accuracy")  # percent, higher is better
DISTANCE = "average_mindistance"
EXTREME, COPIES, PERSONS = "extreme_test_rows", "copies", "persons"
DISTANCE_ROWS = "distance_rows"
METRICS = (*UTILITY, DISTANCE)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a result depends on, except for versions and device: the first items of its file."""

    dataset: str
    backbone: str
    id: str  # of the release: ksame-5, cvae-online-s0, ...
    anonymizer: str
    settings: Mapping[str, Any]
    unit: str = ROW  # whom the promise of the release is made to
    head: HeadSettings
    seed: int
    sigma: float | None = None  # None: clean test features
    inputs: Mapping[str, str | None]  # fingerprints; of fresh draws `release` is None

    def at(self, sigma: float | None) -> Trial:
        """The same head at another noise level."""
        return replace(self, sigma=sigma)

    def path(self, output_root: Path) -> Path:
        """`<output_root>/<dataset>/<backbone>/<dataset>_<id>-s<seed>[_<head>][_sigma<s>].json`."""
        subject = Subject(
            id=self.id, anonymizer=self.anonymizer, settings=self.settings, rows=None
        )
        noise = "" if self.sigma is None else f"_sigma{number_name(self.sigma)}"
        folder = Database(output_root, self.dataset, self.backbone).folder
        return folder / f"{subject.stem(self.dataset, self.seed)}{self.head.suffix}{noise}.json"


class Caveats(NamedTuple):
    """Counts to keep in mind with a result; none says which row or which person it was."""

    extreme: int  # test rows far from the release, as `head.extreme_rows` counts them
    copies: Mapping[str, int] | None  # rows of val and test that equal a training row
    persons: Mapping[str, int] | None  # in each split; and of val and test, those in train too

    def content(self) -> dict[str, Any]:
        """The items of a result's file; persons are one where they are known."""
        known = {} if self.persons is None else {PERSONS: self.persons}
        return {EXTREME: self.extreme, COPIES: self.copies, **known}


def subject(release_id: str, released: EmbeddingSet) -> Subject:
    """What a file of released rows says of itself."""
    return Subject.stated(release_id, released.meta, released.fingerprint)


def trial(
    database: Database, splits: Splits, subject: Subject, head: HeadSettings, seed: int
) -> Trial:
    """The trial of a head on clean test features."""
    return Trial(
        dataset=database.dataset,
        backbone=database.backbone,
        id=subject.id,
        anonymizer=subject.anonymizer,
        settings=subject.settings,
        unit=subject.unit,
        head=head,
        seed=seed,
        inputs={**splits.fingerprints, "release": subject.rows},
    )


def write(
    output_root: Path,
    trial: Trial,
    head: Head,
    scores: Scores,
    distance: Distance | None,
    found: Caveats,
) -> str:
    """Write one result and return the line that tells of it.

    Args:
        found: what to keep in mind with it.

    Raises:
        OutputError: the file cannot be written, or holds the result of another release.
    """
    path = trial.path(output_root)
    other = (records.read(path, {}) or {}).get("id", trial.id)
    if other != trial.id:
        raise OutputError(f"{path} is the result of release '{other}', not of '{trial.id}'")
    content = {
        "format": FORMAT,
        **asdict(trial),
        **{name: round(value, 6) for name, value in scores._asdict().items()},
        DISTANCE: distance and round(distance.mean, 6),
        **({DISTANCE_ROWS: distance.rows} if distance and distance.rows else {}),
        **found.content(),
        "epochs": head.fit.epochs,
        "best_epoch": head.fit.best_epoch,
        "strength": head.strength,
        "device": head.mean.device.type,
        "versions": versions(),
        "seconds": round(head.fit.seconds, 3),
    }
    records.write(path, content)
    noise = "" if trial.sigma is None else f"sigma {trial.sigma:g}  "
    far = f"{distance.mean:.4f}" if distance else "unknown"
    return f"{path}  {noise}AUC {scores.auc:.2f}  accuracy {scores.accuracy:.2f}  distance {far}"


def read(output_root: Path, trial: Trial, but: Collection[str] = ()) -> dict[str, Any] | None:
    """The result of this trial if it exists, is whole, and was made from the same inputs.

    Clean test features are those without noise, so probing.py's result is one at sigma 0 too.

    Args:
        but: items of the trial that do not count.
    """
    for at in (trial, trial.at(None)) if trial.sigma == 0 else (trial,):
        expected = {name: value for name, value in asdict(at).items() if name not in but}
        unit = expected.pop("unit", None)
        content = whole(records.read(at.path(output_root), expected))
        if content is not None and unit in (None, unit_of(content)):
            return {**content, "sigma": trial.sigma}
    return None


def whole(content: dict[str, Any] | None) -> dict[str, Any] | None:
    """The content of a result if all its numbers are there; only a distance may be unknown."""
    if content is None:
        return None
    numbers = [content.get(name) for name in (*UTILITY, "seconds", DISTANCE)]
    if numbers[-1] is None and DISTANCE in content:
        numbers.pop()
    fine = all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    return content if fine else None
