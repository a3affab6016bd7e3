"""What a release's fold-out holds: attacks, seeds, rows, settings, and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from src.audit.measures import MEASURES
from src.core.files import value_name
from src.database import Database
from src.report.evidence import Evidence
from src.report.grid import Sweep, is_number
from src.report.samples import Sample

STATES = {True: "✕ leak", False: "○ no leak found", None: "? cannot tell"}
UNTESTED = "– not tested"


class Attacked(NamedTuple):
    """A metric of an audit, in words."""

    label: str
    value: str  # with its interval
    ceiling: str
    chance: str
    verdict: str


class OfSeed(NamedTuple):
    """What one seed gave, in words."""

    seed: int
    auc: str
    strongest: str
    value: str
    state: str
    one_run: str


class Detail(NamedTuple):
    """All of one release."""

    seed: int | None  # whose audit the attacks are from
    said: tuple[str, ...]  # of the audit's summary
    attacks: list[Attacked]
    seeds: list[OfSeed]
    notes: list[str]
    sample: Sample | None
    unseen: str  # why there is no sample
    settings: list[tuple[str, str]]
    commands: list[str]


def detail(evidence: Evidence, database: Database, sweep: Sweep, sample: Sample | str) -> Detail:
    """The fold-out of a release.

    Args:
        sample: of its rows, or why there is none.
    """
    audits, worst = evidence.audits, evidence.worst
    shown = worst.seed if worst else next(iter(audits), None)
    audit: Mapping[str, Any] = {} if shown is None else audits[shown]
    return Detail(
        seed=shown,
        said=worst.said if worst else (),
        attacks=_attacks(audit),
        seeds=[_of_seed(evidence, seed) for seed in evidence.results],
        notes=[str(note) for note in audit.get("notes") or ()],
        sample=None if isinstance(sample, str) else sample,
        unseen=sample if isinstance(sample, str) else "",
        settings=[(name, str(value)) for name, value in asdict(evidence.anonymizer).items()],
        commands=_commands(evidence, database, sweep),
    )


def number(value: Any) -> str:
    """Three decimals, or n/a."""
    return f"{value:.3f}" if is_number(value) else "n/a"


def ranged(part: Any) -> str:
    """`0.512 [0.480, 0.545]`, of an audit's estimate as its file has it."""
    estimate = part if isinstance(part, dict) else {}
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    both = f" [{number(low)}, {number(high)}]" if is_number(low) and is_number(high) else ""
    return number(value) + both


def _attacks(audit: Mapping[str, Any]) -> list[Attacked]:
    found = []
    for key, row in (audit.get("metrics") or {}).items():
        label = MEASURES[key].label if key in MEASURES else key
        ceiling, chance = (ranged(row.get(name)).split(" [")[0] for name in ("ceiling", "chance"))
        verdict = str(row.get("verdict", ""))
        found.append(Attacked(label, ranged(row["value"]), ceiling, chance, verdict))
    return found


def _of_seed(evidence: Evidence, seed: int) -> OfSeed:
    auc = evidence.first[seed].values["auc"]
    summary = next((s for s in evidence.summaries if s.seed == seed), None)
    one = next((o for o in evidence.one_runs if o.seed == seed), None)
    ends = summary.interval if summary else None
    return OfSeed(
        seed,
        f"{auc:.2f}",
        summary.label if summary else UNTESTED,
        (number(summary.value) + (f" [{number(ends.low)}, {number(ends.high)}]" if ends else ""))
        if summary
        else "",
        STATES[summary.leak] if summary else UNTESTED,
        f"{one.lower:.2f} (of at most {one.ceiling:.2f})" if one else UNTESTED,
    )


def _commands(evidence: Evidence, database: Database, sweep: Sweep) -> list[str]:
    """How to make the first seed's release again, and to audit it; or a head on fresh draws."""
    where = ["--dataset", database.dataset, "--backbone", database.backbone]
    name, given = evidence.anonymizer.name, evidence.anonymizer.given
    end = ["--seed", str(sweep.seeds[0])]
    if not evidence.releases:
        sigma = ["--sigma", *(f"{level:g}" for level in evidence.sigma)]
        flags = _flags(given)
        script = ["python", "probing_noise_cvae.py", *where, "--anonymizer", name, *flags]
        return [shlex.join([*script, *end, *sigma])]
    flags = ["--anonymizer", name, *_flags(given)]
    made = [shlex.join(["python", "anonymize.py", *where, *flags, *end])]
    if sweep.audit:
        # there --unit says who is attacked
        flags = ["--fit_unit" if flag == "--unit" else flag for flag in flags]
        script = ["python", "-m", "src.audit", *where, *flags, *end]
        made.append(shlex.join([*script, *_flags(asdict(sweep.audit))]))
        if sweep.one_run:
            unit = _flags({"unit": sweep.one_run.unit})
            made.append(shlex.join([*script, *unit, "--one_run"]))
    return made if not evidence.reference else made[1:]


def _flags(values: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", value_name(value)]
    return words
