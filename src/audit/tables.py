"""The outcome of an audit, as a table of plain text and as JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from src.audit.measures import MEASURES
from src.audit.statistics import Estimate, Roc

CAUTION = (
    "One in twenty useless attacks leaves its 95 % interval by chance; better attacks may exist."
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
    metrics: dict[str, Comparison]  # by the keys of MEASURES
    curves: dict[str, Roc]  # by the keys of ATTACKS
    sizes: dict[str, int]  # of the sets of rows, and of their persons
    notes: list[str]  # what was left out, and promises that were checked
    guarantee: Guarantee | None

    def content(self) -> dict[str, Any]:
        """What the audit's JSON file says of the outcome."""
        return {
            "unit": self.unit,
            "sizes": self.sizes,
            "figures": {
                key: {
                    name: _rounded(part) if isinstance(part, Estimate) else part
                    for name, part in compared._asdict().items()
                }
                for key, compared in self.metrics.items()
            },
            "notes": self.notes,
        }

    def table(self) -> str:
        """One line per metric: value with interval, ceiling, chance, verdict; then the notes."""
        lines = [("", "value [95 % interval]", "ceiling", "chance", "verdict")]
        for key, compared in self.metrics.items():
            controls = (number(compared.ceiling.value), number(compared.chance.value))
            label, value = MEASURES[key].label, interval(compared.value)
            lines.append((label, value, *controls, compared.verdict))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        sizes = ", ".join(f"{n:,} {_spelled(name)}" for name, n in self.sizes.items())
        return "\n".join([sizes, *text, *self.notes, CAUTION])


def number(value: float | None) -> str:
    """Three decimals, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """`0.512 [0.480, 0.545]`."""
    if estimate.low is None:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _spelled(name: str) -> str:
    return name.replace("non_", "non-").replace("_", " ")


def _rounded(estimate: Estimate) -> dict[str, float | None]:
    return {k: None if v is None else round(v, 6) for k, v in estimate._asdict().items()}
