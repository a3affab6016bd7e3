"""The ROC curves of an audit as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.audit.measures import ATTACKS
from src.audit.statistics import tpr_bound
from src.audit.tables import Report
from src.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save(path: Path, report: Report, title: str) -> None:
    """The ROC curves of the membership attacks, both axes logarithmic.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    non_members = report.sizes.get("non_member_persons", report.sizes["non_members"])
    left = 1 / non_members / 2  # half the smallest rate above 0 that H resolves
    _draw(axes, report, left)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(left, 1),
        ylim=(left, 1.05),
        xlabel="share of non-members accused (FPR)",
        ylabel="share of members found (TPR)",
        title=title,
    )
    axes.legend(loc="lower right", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw(axes: Axes, report: Report, left: float) -> None:
    """One line for guessing, one for the bound of a guarantee, one per attack."""
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
