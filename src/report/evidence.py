"""What is known of each release in one place: utility, attacks and promises over all seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.anonymizers.methods import KSame
from src.audit.measures import MEASURES
from src.database import IDENTITY, PERSON, ROW
from src.probing import results
from src.report.collect import Result
from src.report.grid import Sweep, is_number
from src.report.recommendation import Candidate, Promise
from src.report.spread import Interval

MEASUREMENTS = ("value", "control", "low", "high")  # of an audit's summary


class Strongest(NamedTuple):
    """The strongest attack that one audit found: the summary of it."""

    seed: int
    key: str  # of MEASURES
    value: float
    control: float | None  # where there is nothing to find
    interval: Interval | None
    leak: bool | None  # None: cannot tell
    said: tuple[str, ...]  # in sentences

    @property
    def label(self) -> str:
        """Its name in words."""
        return MEASURES[self.key].label if self.key in MEASURES else self.key

    @property
    def is_share(self) -> bool:
        """Whether it is a share of rows that are copies, which are proof, and not an AUC."""
        return self.key in MEASURES and MEASURES[self.key].useless == 0

    @property
    def turned(self) -> tuple[float, Interval | None]:
        """Value and interval as an AUC of 0.5 or more: an attacker turns one below round.

        Copies are proof, as telling as the real rows themselves.
        """
        if self.is_share:
            return 1.0, None
        if self.value >= 0.5:
            return self.value, self.interval
        ends = self.interval
        return 1 - self.value, Interval(1 - ends.high, 1 - ends.low) if ends else None

    @property
    def reach(self) -> float:
        """The AUC up to which it is not ruled out."""
        if self.is_share or self.interval is None:
            return self.turned[0]
        return max(self.interval.high, 1 - self.interval.low)


class OneRun(NamedTuple):
    """What one fit with randomly chosen rows proves."""

    seed: int
    lower: float  # ε is at least this, with 95 % confidence
    ceiling: float  # the most that it could have shown
    right: int  # of the guesses
    guesses: int
    delta: float
    canaries: int


@dataclass(frozen=True)
class Evidence:
    """A release in one place, with what is known of each seed that has all its results."""

    anonymizer: Anonymizer
    results: Mapping[int, Mapping[float, Result]]  # by seed and noise level
    sigma: tuple[float, ...]  # noise levels, the first of which counts
    missing: tuple[int, ...]  # seeds

    @property
    def first(self) -> dict[int, Result]:
        """By seed, the result at the first noise level."""
        return {seed: by_sigma[self.sigma[0]] for seed, by_sigma in self.results.items()}

    @property
    def releases(self) -> bool:
        """Whether rows are released."""
        return self.anonymizer.name not in methods.ONLINE

    @property
    def reference(self) -> bool:
        """Whether these are the real rows."""
        return self.anonymizer.name == IDENTITY

    def values(self, metric: str, sigma: float) -> tuple[float, ...]:
        """A metric's values over seeds; nothing unless all of them are known."""
        found = [by_sigma[sigma].values.get(metric) for by_sigma in self.results.values()]
        known = tuple(value for value in found if value is not None)
        return known if len(known) == len(found) else ()

    @property
    def audits(self) -> dict[int, Mapping[str, Any]]:
        """The audits by seed."""
        return {seed: r.audit for seed, r in self.first.items() if r.audit is not None}

    @property
    def summaries(self) -> list[Strongest]:
        """What the audits say together; older ones have no summary."""
        found = (_strongest(seed, audit) for seed, audit in self.audits.items())
        return [strongest for strongest in found if strongest]

    @property
    def worst(self) -> Strongest | None:
        """The strongest attack of all seeds: a leak before none, then the higher AUC."""
        order = {True: 2, None: 1, False: 0}
        return max(self.summaries, key=lambda s: (order[s.leak], s.turned[0]), default=None)

    @property
    def one_runs(self) -> list[OneRun]:
        """One-run audits by seed, those whose numbers are whole."""
        found = (_one_run(seed, r.one_run) for seed, r in self.first.items() if r.one_run)
        return [one for one in found if one]

    @property
    def strongest_run(self) -> OneRun | None:
        """The one-run audit that proves most."""
        return max(self.one_runs, key=lambda one: (one.lower, one.ceiling), default=None)

    @property
    def leak(self) -> bool | None:
        """True where any audit found a leak, False where all seeds' found none, else None.

        What one run proves is not part of it: see `proven`.
        """
        found = [strongest.leak for strongest in self.summaries]
        if True in found:
            return True
        whole = len(self.summaries) == len(self.results) > 0 and None not in found
        return False if whole else None

    @property
    def proven(self) -> float:
        """The ε that one-run audits prove of real rows; 0 where none."""
        return max((one.lower for one in self.one_runs if not one.canaries), default=0.0)

    @property
    def leaks(self) -> bool | None:
        """The same as `leak`, but True too where one run proves what no promise allows."""
        unpromised = self.promise is None or self.kept_from_persons
        return True if unpromised and self.proven > 0 else self.leak

    @property
    def several(self) -> bool:
        """Whether persons have several rows; where no audit counts them, whether any are known."""
        for audit in self.audits.values():
            sizes = audit.get("sizes") or {}
            rows, persons = sizes.get("members"), sizes.get("member_persons")
            if is_number(rows) and is_number(persons):
                return persons < rows
        return any(result.record.get(results.PERSONS) for result in self.first.values())

    @property
    def unit(self) -> str:
        """To whom the release's promises are made, PERSON or ROW."""
        units = {result.record.get("unit") for result in self.first.values()}
        return PERSON if units == {PERSON} else ROW

    @property
    def promise(self) -> Promise | None:
        """The guarantee of differential privacy, whoever it is made to."""
        if not self.anonymizer.private:
            return None
        settings = self.anonymizer.given
        return Promise(settings["epsilon"], settings.get("delta"), self.unit)

    @property
    def kept_from_persons(self) -> bool:
        """Whether promises are to rows where persons have several."""
        return self.several and self.unit == ROW

    @property
    def contradicted(self) -> bool:
        """Whether an audit shows that a promise is not kept."""
        notes = [note for audit in self.audits.values() for note in audit.get("notes") or ()]
        broken = any(str(note).startswith("promise BROKEN") for note in notes)
        promise = self.promise
        return broken or (
            promise is not None and any(one.lower > promise.epsilon for one in self.one_runs)
        )

    @property
    def obstacle(self) -> str:
        """Why it is not to be given away whatever it keeps or shows; "" if it may be."""
        if self.reference:
            return "these are the real rows"
        if not self.releases:
            return "no rows are released: heads are fitted on fresh draws"
        if not self.results:
            return "it has no results"
        if self.missing:
            return f"results are missing ({seeds(self.missing)})"
        return ""

    def candidate(self) -> Candidate:
        """What the rule knows of it."""
        kept = self.kept_from_persons
        groups = self.anonymizer.k if isinstance(self.anonymizer, KSame) and not kept else 0
        return Candidate(
            name=self.anonymizer.label,
            obstacle=self.obstacle,
            aucs=self.values("auc", self.sigma[0]),
            promise=None if kept else self.promise,
            contradicted=self.contradicted,
            groups=groups,
            leak=self.leak,
            proven=self.proven,
            attack=max((s.reach for s in self.summaries), default=None),
        )


def gather(sweep: Sweep, found: Iterable[Result]) -> list[Evidence]:
    """The evidence of each anonymizer, from the results of one place; in the sweep's order."""
    by_anonymizer: dict[Anonymizer, dict[int, dict[float, Result]]] = {}
    for result in found:
        by_seed = by_anonymizer.setdefault(result.anonymizer, {})
        by_seed.setdefault(result.seed, {})[result.sigma] = result
    shown = sweep.shown.sigma
    gathered = []
    for anonymizer in sweep.anonymizers:
        known = by_anonymizer.get(anonymizer, {})
        whole = {s: known[s] for s in sweep.seeds if set(shown) <= known.get(s, {}).keys()}
        missing = tuple(seed for seed in sweep.seeds if seed not in whole)
        gathered.append(Evidence(anonymizer, whole, shown, missing))
    return gathered


def seeds(numbers: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 2`."""
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def newest(found: Iterable[Result]) -> float | None:
    """When the newest of their files was written, in seconds since 1970; None where none is."""
    times = [_time(path) for result in found for path in result.paths]
    return max((time for time in times if time), default=None)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _strongest(seed: int, audit: Mapping[str, Any]) -> Strongest | None:
    summary = audit.get("summary")
    if not isinstance(summary, dict) or not isinstance(summary.get("strongest"), str):
        return None
    leak = summary.get("leak")
    value, control, low, high = (_number(summary.get(name)) for name in MEASUREMENTS)
    if value is None or not isinstance(leak, bool | None):
        return None
    both = None if low is None or high is None else Interval(low, high)
    said = tuple(map(str, summary.get("said") or ()))
    return Strongest(seed, summary["strongest"], value, control, both, leak, said)


def _one_run(seed: int, content: Mapping[str, Any]) -> OneRun | None:
    names = ("epsilon_lower", "epsilon_ceiling", "right", "guesses", "delta", "canaries")
    values = [_number(content.get(name)) for name in names]
    if None in values:
        return None
    lower, ceiling, right, guesses, delta, canaries = (float(v or 0) for v in values)
    return OneRun(seed, lower, ceiling, int(right), int(guesses), delta, int(canaries))


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) and math.isfinite(value) else None
