"""The outcome of an audit, as a table of plain text and as JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from src.audit.copies import Copied
from src.audit.measures import MEASURES
from src.audit.statistics import Estimate, Roc, interval, number
from src.audit.summary import Summary

CAUTION = (
    "One in twenty useless attacks leaves its own 95 % interval by chance; the summary allows for "
    "that. Better attacks may exist."
)


class Comparison(NamedTuple):
    """A metric of a release, beside what the two controls give."""

    value: Estimate
    ceiling: Estimate  # of the training rows, released as they are
    chance: Estimate  # of disjoint real rows
    verdict: str


class Guarantee(NamedTuple):
    """A promise of (ε, δ)-differential privacy."""

    epsilon: float
    delta: float


class Report(NamedTuple):
    """The outcome of an audit."""

    unit: str  # who is attacked, PERSON or ROW
    summary: Summary
    metrics: dict[str, Comparison]  # by the keys of MEASURES
    curves: dict[str, Roc]  # by the keys of ATTACKS
    sizes: dict[str, int]  # of the sets of rows, and of their persons
    notes: list[str]  # what was left out, and then the promises
    promises: int  # how many of the notes say whether a promise is kept
    guarantee: Guarantee | None
    proof: Copied

    def content(self) -> dict[str, Any]:
        """What the audit's JSON file says of the outcome."""
        return {
            "unit": self.unit,
            "summary": {
                k: v if k != "said" else list(v) for k, v in self.summary._asdict().items()
            },
            "sizes": self.sizes,
            "metrics": {
                key: {
                    name: _rounded(part) if isinstance(part, Estimate) else part
                    for name, part in compared._asdict().items()
                }
                for key, compared in self.metrics.items()
            },
            "notes": self.notes,
        }

    def _summary(self) -> dict[str, Any]:
        """The numbers of the summary, rounded; what they say; and its sentences."""
        return {
            key: round(part, 6) if isinstance(part, float) else part
            for key, part in self.summary._asdict().items()
        }

    def table(self) -> str:
        """The summary and what was promised, one line per metric, and the notes."""
        lines = [("", "value [95 % interval]", "ceiling", "chance", "verdict")]
        for key, compared in self.metrics.items():
            controls = (number(compared.ceiling.value), number(compared.chance.value))
            label, value = MEASURES[key].label, interval(compared.value)
            lines.append((label, value, *controls, compared.verdict))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        sizes = ", ".join(f"{n:,} {_spelled(name)}" for name, n in self.sizes.items())
        place = len(self.notes) - self.promises
        notes, promised = self.notes[:place], self.notes[place:]
        return "\n".join([*self.summary.said, *promised, "", sizes, *text, *notes, CAUTION])


def _spelled(name: str) -> str:
    return name.replace("non_", "non-").replace("_", " ")


def _rounded(estimate: Estimate) -> dict[str, float | None]:
    return {k: None if v is None else round(v, 6) for k, v in estimate._asdict().items()}
