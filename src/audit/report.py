"""An audit as a table, as JSON and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from src.audit.measures import ATTACKS, MEASURES
from src.audit.statistics import Estimate, Roc, tpr_bound
from src.errors import InputError
from src.files import replacing

CAUTION = (
    "Of twenty useless attacks one leaves its 95 % interval by accident; others may do better."
)


class Row(NamedTuple):
    """A figure, beside what the training rows and disjoint real rows give."""

    value: Estimate
    ceiling: Estimate
    chance: Estimate
    verdict: str


class Guarantee(NamedTuple):
    """A differential privacy promise of the release."""

    epsilon: float
    delta: float


class Report(NamedTuple):
    """An audit."""

    rows: dict[str, Row]  # by the keys of MEASURES
    curves: dict[str, Roc]  # by the keys of ATTACKS
    sizes: dict[str, int]  # of the sets of rows
    notes: list[str]  # what was left out, and promises that were checked
    guarantee: Guarantee | None

    def content(self) -> dict[str, Any]:
        """What its JSON file says of the figures."""
        return {
            "sizes": self.sizes,
            "figures": {
                key: {
                    name: _rounded(part) if isinstance(part, Estimate) else part
                    for name, part in row._asdict().items()
                }
                for key, row in self.rows.items()
            },
            "notes": self.notes,
        }

    def table(self) -> str:
        """A line a figure: value with interval, ceiling, chance, verdict; then the notes."""
        lines = [("", "value [95 % interval]", "ceiling", "chance", "verdict")]
        for key, row in self.rows.items():
            controls = (number(row.ceiling.value), number(row.chance.value))
            lines.append((MEASURES[key].label, interval(row.value), *controls, row.verdict))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sizes = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in self.sizes.items())
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([sizes, *text, *self.notes, CAUTION])


def number(value: float | None) -> str:
    """Three decimals, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """`0.512 [0.480, 0.545]`."""
    if estimate.low is None:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _rounded(estimate: Estimate) -> dict[str, float | None]:
    return {k: None if v is None else round(v, 6) for k, v in estimate._asdict().items()}


def require_figure_format(path: Path) -> None:
    """Raise InputError, before any work, where a figure cannot be saved under that name."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise InputError(
            f"--figure {path}: the name must end in one of {', '.join(sorted(known))}"
        )


def save_figure(path: Path, report: Report, title: str) -> None:
    """The ROC curves of the membership attacks, both axes logarithmic.

    Raises:
        OutputError: the file cannot be written.
    """
    import numpy as np
    from matplotlib.figure import Figure

    lowest = 1 / report.sizes["non_members"]  # the smallest rate above 0 that there is
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    rates = np.geomspace(lowest / 2, 1, 200)
    axes.plot(rates, rates, color="0.6", linestyle=":", label="guessing")
    if report.guarantee:
        epsilon, delta = report.guarantee
        bound = tpr_bound(rates, epsilon, delta)
        axes.plot(rates, bound, color="0.3", linestyle="--", label=f"bound of ε = {epsilon:.3g}")
    for attack, curve in report.curves.items():
        auc = report.rows[f"{attack}_auc"].value.value
        # a step's corner at rate 0 is drawn at the left edge, where a logarithm would lose it
        label = f"{ATTACKS[attack]} (AUC {auc:.3f})"
        axes.step(np.maximum(curve.fpr, lowest / 2), curve.tpr, where="post", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(lowest / 2, 1),
        ylim=(lowest / 2, 1.05),
        xlabel="share of non-members accused (FPR)",
        ylabel="share of members found (TPR)",
        title=title,
    )
    axes.legend(loc="lower right", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
