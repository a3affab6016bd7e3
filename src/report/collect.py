"""The results of a sweep, read from their files in the order of its configuration."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from src.anonymizers.base import Anonymizer
from src.audit import records as audits
from src.audit.measures import MEASURES
from src.audit.records import Case
from src.audit.settings import AuditSettings
from src.core.errors import DataError, InputError
from src.core.files import write_text
from src.database import Database
from src.probing import results
from src.probing.results import Trial
from src.probing.settings import ADAM, HeadSettings
from src.report.grid import Sweep

NOTHING: Mapping[str, Any] = {"metrics": {}}  # what an audit says that does not exist


class Result(NamedTuple):
    """A head's result at one noise level, and the audits of its release."""

    dataset: str
    backbone: str
    anonymizer: Anonymizer
    head: HeadSettings
    seed: int
    sigma: float
    values: Mapping[str, float]  # of results.METRICS and MEASURES, those that are known
    best_epoch: int
    extreme: int  # test rows far from the release
    seconds: float
    record: Mapping[str, Any]  # all that its file says
    audit: Mapping[str, Any] | None  # all that the audit of the very release says
    one_run: Mapping[str, Any] | None  # and the one-run audit of its method
    paths: tuple[Path, ...]  # of these, those that may exist


@dataclass(frozen=True)
class Average:
    """The values of a metric over seeds, one or more."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation; None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def found(sweep: Sweep, output_root: Path, database_root: Path) -> list[Result]:
    """Every result that exists, is whole, and was made with the sweep's settings.

    Where the embeddings exist, only results made from them count.

    Raises:
        DataError: results of one dataset and backbone were made from different embeddings.
    """
    everything = []
    for dataset, backbone in sweep.embedded():
        contents = [
            (anonymizer, trial, content)
            for anonymizer, trial in _trials(sweep, dataset, backbone)
            if (content := _read(output_root, trial)) is not None
        ]
        database = Database(database_root, dataset, backbone)
        inputs = _inputs(database, [_real(content) for *_, content in contents])
        everything += [
            _result(sweep, output_root, anonymizer, trial, content)
            for anonymizer, trial, content in contents
            if _real(content) == inputs
        ]
    return everything


def doubts(sweep: Sweep, found: Iterable[Result]) -> list[str]:
    """Per head whose features are not limited, how often its fits and test rows are odd."""
    notes = []
    for head in sweep.heads:
        ours = [r for r in found if r.head == head and r.sigma == sweep.shown.sigma[0]]
        first = sum(r.best_epoch == 1 for r in ours) if head.head == ADAM else 0
        extreme = sum(r.extreme > 0 for r in ours) if head.clip is None else 0
        said = [f"{first} were best after their first epoch"] * (first > 0)
        said += [f"in {extreme} some test rows are beyond 100 standard deviations"] * (extreme > 0)
        if said:
            notes.append(
                f"Of {len(ours)} heads ({head.label}) {', '.join(said)}: see what --head logistic "
                "and --clip 10 give."
            )
    return notes


def write_csv(path: Path, sweep: Sweep, found: Sequence[Result]) -> Path:
    """Write a line per result: names, every setting, metrics (utility in percent), seconds."""
    settings = list(dict.fromkeys(name for a in sweep.anonymizers for name in asdict(a)))
    head = [f"head_{field.name}" for field in fields(HeadSettings)]
    metrics = (*results.METRICS, *(MEASURES if sweep.audit else ()))
    names = ("dataset", "backbone", "anonymizer", *settings, *head, "seed", "sigma")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *metrics, "seconds"])
    for result in found:
        given = asdict(result.anonymizer)
        writer.writerow(
            [
                *(result.dataset, result.backbone, result.anonymizer.name),
                *(given.get(name, "") for name in settings),
                *(*asdict(result.head).values(), result.seed, result.sigma),
                *(result.values.get(name, "") for name in metrics),
                result.seconds,
            ]
        )
    write_text(path, text.getvalue())
    return path


def _trials(sweep: Sweep, dataset: str, backbone: str) -> Iterator[tuple[Anonymizer, Trial]]:
    """Each trial of the sweep, without its inputs: those are in its file."""
    everything = itertools.product(sweep.seeded(), sweep.heads, sweep.sigma)
    for (anonymizer, seed), head, sigma in everything:
        subject = anonymizer.subject(seed)
        trial = Trial(
            dataset=dataset,
            backbone=backbone,
            id=subject.id,
            anonymizer=subject.anonymizer,
            settings=subject.settings,
            head=head,
            seed=seed,
            sigma=sigma,
            inputs={},
        )
        yield anonymizer, trial


def _read(output_root: Path, trial: Trial) -> dict[str, Any] | None:
    content = results.read(output_root, trial, but={"inputs", "unit"})
    return content if content and isinstance(content.get("inputs"), dict) else None


def _real(content: Mapping[str, Any]) -> dict[str, str]:
    """The fingerprints of the real embeddings that a result was made from."""
    return {name: value for name, value in content["inputs"].items() if name != "release"}


def _inputs(database: Database, seen: Sequence[dict[str, str]]) -> dict[str, str]:
    """The fingerprints of the real embeddings that results have to be made from."""
    try:
        return database.read().fingerprints
    except InputError:  # not available: the results have to agree with each other
        distinct = [real for number, real in enumerate(seen) if real not in seen[:number]]
    if len(distinct) > 1:
        raise DataError(
            f"results of {database.dataset}/{database.backbone} were made from {len(distinct)} "
            f"different sets of embeddings, and {database.folder} does not say which counts; "
            "run the sweep again"
        )
    return distinct[0] if distinct else {}


def _case(sweep: Sweep, content: Mapping[str, Any]) -> Case:
    """The audit of the very release that a result is about."""
    return Case(
        dataset=content["dataset"],
        backbone=content["backbone"],
        id=content["id"],
        anonymizer=content["anonymizer"],
        settings=content["settings"],
        seed=content["seed"],
        audit=sweep.audit or AuditSettings(),
        inputs=content["inputs"],
    )


def _result(
    sweep: Sweep,
    output_root: Path,
    anonymizer: Anonymizer,
    trial: Trial,
    content: Mapping[str, Any],
) -> Result:
    case, one_run = _case(sweep, content), sweep.one_run
    audit = audits.read(output_root, case) if sweep.audit else None
    metrics = {key: row["value"]["value"] for key, row in (audit or NOTHING)["metrics"].items()}
    own = {name: content[name] for name in results.METRICS}
    known = {name: value for name, value in (own | metrics).items() if value is not None}
    paths = (trial.path(output_root), trial.at(None).path(output_root), case.path(output_root))
    return Result(
        dataset=content["dataset"],
        backbone=content["backbone"],
        anonymizer=anonymizer,
        head=trial.head,
        seed=content["seed"],
        sigma=content["sigma"],
        values=known,
        best_epoch=content.get("best_epoch", 0),
        extreme=content.get(results.EXTREME, 0),
        seconds=content["seconds"],
        record=content,
        audit=audit,
        one_run=audits.read_one_run(output_root, case, one_run) if one_run else None,
        paths=paths,
    )
