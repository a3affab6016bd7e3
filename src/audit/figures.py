"""An audit as one picture: all attacks with their intervals, and the ROC curves of some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.audit.measures import ATTACKS, MEASURES
from src.audit.statistics import tpr_bound
from src.audit.tables import Comparison, Report
from src.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save(path: Path, report: Report, title: str) -> None:
    """Every AUC with interval, chance and ceiling; beside them ROC curves, both axes logarithmic.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    aucs = {key: row for key, row in report.metrics.items() if _is_auc(key, row)}
    figure = Figure(figsize=(10, 2.2 + 0.19 * max(12, len(aucs))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_attacks(left, aucs)
    non_members = report.sizes.get("non_member_persons", report.sizes["non_members"])
    _draw_curves(right, report, 1 / non_members / 2)
    figure.suptitle("\n".join((title, report.summary.said[0])), fontsize="medium")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _is_auc(key: str, row: Comparison) -> bool:
    return key.endswith("_auc") and row.value.low is not None


def _draw_attacks(axes: Axes, aucs: dict[str, Comparison]) -> None:
    """One line per attack: its interval, and where the two controls are."""
    places = np.arange(len(aucs))
    values = np.array([row.value.value for row in aucs.values()], dtype=float)
    lows = np.array([row.value.low for row in aucs.values()], dtype=float)
    highs = np.array([row.value.high for row in aucs.values()], dtype=float)
    axes.axvline(0.5, color="0.7", linestyle=":")
    spans = np.abs(np.stack((values - lows, highs - values)))
    axes.errorbar(values, places, xerr=spans, fmt="o", markersize=4, label="release, 95 %")
    for name, marker in (("chance", "|"), ("ceiling", "x")):
        found = [getattr(row, name).value for row in aucs.values()]
        known = np.array([np.nan if value is None else value for value in found])
        axes.plot(known, places, marker, color="0.3", label=name)
    axes.set_yticks(places, [MEASURES[key].label.removesuffix(": AUC") for key in aucs])
    axes.tick_params(axis="y", labelsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="AUC", xlim=(min(0.4, float(lows.min(initial=1))) - 0.02, 1.02))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, fontsize="small")


def _draw_curves(axes: Axes, report: Report, left: float) -> None:
    """One line for guessing, one for the bound of a guarantee, one per attack.

    Args:
        left: where the axes begin: half the smallest rate above 0 that H resolves.
    """
    rates = np.geomspace(left, 1, 200)
    axes.plot(rates, rates, color="0.6", linestyle=":", label="guessing")
    if report.guarantee:
        epsilon, delta = report.guarantee
        bound = tpr_bound(rates, epsilon, delta)
        axes.plot(rates, bound, color="0.3", linestyle="--", label=f"bound of ε = {epsilon:.3g}")
    for attack, curve in report.curves.items():
        auc = report.metrics[f"{attack}_auc"].value.value
        # a step's corner at rate 0 is drawn at the left edge, where a logarithm would lose it
        label = f"{ATTACKS[attack]} (AUC {auc:.3f})"
        axes.step(np.maximum(curve.fpr, left), curve.tpr, where="post", label=label)
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(left, 1.05))
    axes.set(xlabel="share of non-members accused (FPR)", ylabel="share of members found (TPR)")
    axes.legend(loc="lower right", fontsize="small")
