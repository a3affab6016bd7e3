"""One page that says which release to give away: a section per dataset, backbone and head."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from src.core.errors import InputError
from src.core.files import write_text
from src.database import Database
from src.probing.settings import HeadSettings
from src.report import details, evidence, pictures, samples, sentences
from src.report.collect import Average, Result
from src.report.details import STATES, UNTESTED, Detail
from src.report.evidence import Evidence, Strongest
from src.report.gaps import gaps
from src.report.grid import Sweep
from src.report.pictures import CLEAN, LEAK, UNCLEAR, Point
from src.report.recommendation import Thresholds, choose, objections, rule
from src.report.samples import Sample
from src.report.sentences import Said, percent
from src.report.spread import interval

TEMPLATE = "page.html.j2"
MOST_BYTES = 2_900_000  # of a page; beyond, it is written without pictures of rows
MOST_POINTS, IN_ALL = 150, 9000  # released rows in a picture, and in all pictures
LOOKS = {True: LEAK, False: CLEAN, None: UNCLEAR}


class Row(NamedTuple):
    """A release in the table, in words, and its fold-out."""

    number: int
    label: str
    aucs: list[str]  # by noise level
    strongest: str
    value: str  # of the strongest attack
    state: str  # leak, clean, unclear or untested
    verdict: str
    one_run: str
    guarantee: str
    chosen: bool
    objections: list[str]
    detail: Detail


class Section(NamedTuple):
    """All of one dataset, backbone and head."""

    id: str
    dataset: str
    backbone: str
    head: str
    headline: str
    answer: list[Said]
    note: str  # what the intervals of the answer cover
    pictures: list[
        str
    ]  # svg elements: for large screens, for small ones; none where no point is known
    unplaced: list[str]  # releases that are not in the picture
    rows: list[Row]
    gaps: list[str]
    fingerprints: list[tuple[str, str]]


class Provenance(NamedTuple):
    """What the results were made with."""

    versions: list[tuple[str, str]]
    devices: str
    machine: str
    date: str  # of the newest result


def write(
    path: Path,
    sweep: Sweep,
    found: Sequence[Result],
    database_root: Path,
    thresholds: Thresholds,
) -> Path:
    """Write the page.

    Args:
        database_root: embeddings for coverage by class and projections; without them the page
            says so.

    Raises:
        OutputError: it cannot be written.
    """
    text = _rendered(sweep, found, database_root, thresholds, pictured=True)
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        text = _rendered(sweep, found, database_root, thresholds, pictured=False)
    write_text(path, text)
    return path


def _rendered(
    sweep: Sweep,
    found: Sequence[Result],
    database_root: Path,
    thresholds: Thresholds,
    *,
    pictured: bool,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    sections: list[Section] = []
    for dataset, backbone, head in sweep.judged():
        here = [r for r in found if (r.dataset, r.backbone, r.head) == (dataset, backbone, head)]
        database = Database(database_root, dataset, backbone)
        everything = evidence.gather(sweep, here)
        name = f"s{len(sections) + 1}"
        if not pictured:
            shown: list[Sample | str] = ["Left out, as the page would be too large."] * len(
                everything
            )
        elif head != sweep.heads[0]:
            shown = ["In the section of the first head."] * len(everything)
        else:
            shown = _samples(sweep, everything, database, name)
        place = _Place(sweep, database, head, name)
        sections.append(_section(place, everything, shown, thresholds))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(TEMPLATE).render(
        name=sweep.name,
        sections=sections,
        sigma=sweep.shown.sigma,
        several_heads=len(sweep.heads) > 1,
        rule=rule(thresholds),
        provenance=_provenance(found),
    )
    return text.encode("utf-8", "replace").decode()  # names of folders need not be UTF-8


class _Place(NamedTuple):
    """Where releases compete."""

    sweep: Sweep
    database: Database
    head: HeadSettings
    id: str  # of its section, unique in the page


def _section(
    place: _Place,
    everything: Sequence[Evidence],
    shown: Sequence[Sample | str],
    thresholds: Thresholds,
) -> Section:
    sweep, database = place.sweep, place.database
    choice = choose([e.candidate() for e in everything], thresholds)
    chosen = next((e for e in everything if e.candidate() == choice.chosen), None)
    if chosen:
        said = sentences.answer(chosen, everything, choice, sweep.seeds[0])
    else:
        said = sentences.nothing(everything, thresholds)
    rows = [
        _row(number, e, e is chosen, objections(e.candidate(), thresholds),
             details.detail(e, database, sweep, sample))
        for number, (e, sample) in enumerate(zip(everything, shown, strict=True), start=1)
    ]  # fmt: skip
    points = [p for row, e in zip(rows, everything, strict=True) if (p := _point(row, e))]
    real = next((e.values("auc", e.sigma[0]) for e in everything if e.reference), ())
    ceiling = Average(real).mean if real else None
    drawn = []
    for size in ("wide", "narrow") if points else ():
        picture = f"{place.id}-{size}"
        drawn.append(pictures.tradeoff(picture, points, ceiling, wide=size == "wide"))
    placed = {point.number for point in points}
    return Section(
        id=place.id,
        dataset=database.dataset,
        backbone=database.backbone,
        head=place.head.label,
        headline=chosen.anonymizer.label if chosen else "no release qualifies",
        answer=said,
        note=sentences.spread_of(chosen) if chosen else "",
        pictures=drawn,
        unplaced=[row.label for row in rows if row.number not in placed],
        rows=rows,
        gaps=gaps(sweep, everything),
        fingerprints=_fingerprints(everything),
    )


def _row(number: int, evidence: Evidence, chosen: bool, against: list[str], detail: Detail) -> Row:
    worst, one, promise = evidence.worst, evidence.strongest_run, evidence.promise
    guarantee = f"ε = {promise.epsilon:g}, to each {evidence.unit}" if promise else "–"
    leak = evidence.leaks
    return Row(
        number=number,
        label=evidence.anonymizer.label,
        aucs=[percent(evidence.values("auc", sigma)) for sigma in evidence.sigma],
        strongest=worst.label if worst else UNTESTED,
        value=_value(worst) if worst else "",
        state=LOOKS[leak] if worst or leak else "untested",
        verdict=_verdict(evidence),
        one_run=f"{one.lower:.2f} (of at most {one.ceiling:.2f})" if one else UNTESTED,
        guarantee=guarantee,
        chosen=chosen,
        objections=against,
        detail=detail,
    )


def _verdict(evidence: Evidence) -> str:
    if not evidence.summaries and not evidence.leaks:
        return UNTESTED
    return STATES[evidence.leaks] + (" (by one run)" if evidence.leaks != evidence.leak else "")


def _value(worst: Strongest) -> str:
    ends = worst.interval
    return f"{worst.value:.3f}" + (f" [{ends.low:.3f}, {ends.high:.3f}]" if ends else "")


def _point(row: Row, evidence: Evidence) -> Point | None:
    """Where a release is in the picture; None where its utility or its attack is not known."""
    worst, aucs = evidence.worst, evidence.values("auc", evidence.sigma[0])
    if worst is None or not aucs:
        return None
    return Point(
        number=row.number,
        label=row.label,
        auc=Average(aucs).mean,
        aucs=interval(aucs, 0, 100),
        attack=worst.turned[0],
        attacks=worst.turned[1],
        state=LOOKS[evidence.leaks],
        guaranteed=evidence.promise is not None,
        chosen=row.chosen,
    )


def _samples(
    sweep: Sweep, everything: Sequence[Evidence], database: Database, name: str
) -> list[Sample | str]:
    """What each release's rows look like, or why that is not shown."""
    rows = samples.read(database)
    pictures = len(everything) * len(sweep.datasets) * len(sweep.backbones)
    points = max(20, min(MOST_POINTS, IN_ALL // pictures))
    shown: list[Sample | str] = []
    for number, release in enumerate(everything, start=1):
        if isinstance(rows, str):
            shown.append(rows)
        elif release.reference or not release.releases:
            shown.append(
                "Real rows are not shown." if release.reference else "No rows are released."
            )
        else:
            picture = f"{name}-r{number}"
            try:
                shown.append(rows.sample(picture, release.anonymizer, sweep.seeds[0], points))
            except InputError as error:
                shown.append(samples.missing("released rows", error))
    return shown


def _fingerprints(everything: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Of the real embeddings, and of each release by seed."""
    found: dict[str, str] = {}
    for release in everything:
        for seed, result in release.first.items():
            inputs = result.record["inputs"]
            found |= {name: str(value) for name, value in inputs.items() if name != "release"}
            if inputs.get("release") and not release.reference:
                found[release.anonymizer.release_id(seed)] = str(inputs["release"])
    return list(found.items())


def _provenance(found: Sequence[Result]) -> Provenance:
    versions: dict[str, set[str]] = {}
    devices = set()
    for result in found:
        given = result.record.get("versions")
        for name, version in (given if isinstance(given, dict) else {}).items():
            versions.setdefault(str(name), set()).add(str(version))
        devices.add(str(result.record.get("device", "unknown")))
    newest = evidence.newest(found)
    date = "no results"
    if newest is not None:
        date = f"{datetime.datetime.fromtimestamp(newest, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    return Provenance(
        versions=[(name, ", ".join(sorted(each))) for name, each in sorted(versions.items())],
        devices=", ".join(sorted(devices)) or "none",
        machine=f"{platform.system()} {platform.machine()}",
        date=date,
    )
