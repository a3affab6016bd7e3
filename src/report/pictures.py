"""The pictures of the page: utility against attacks, and released rows in a projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from src.report import svg
from src.report.spread import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the audits say, and how a point of it looks: in shape, not only in colour.
LEAK, CLEAN, UNCLEAR = "leak", "clean", "unclear"
LOOKS: dict[str, dict[str, Any]] = {
    LEAK: {"marker": "X", "markersize": 8, "color": svg.WARNING, "markeredgewidth": 0},
    CLEAN: {"marker": "o", "markersize": 7, "color": svg.ACCENT, "markeredgewidth": 0},
    UNCLEAR: {"marker": "s", "markersize": 7, "color": svg.QUIET, "fillstyle": "none"},
}
LONGEST = 34  # characters of a label
GAP = 15  # pixels between labels, one below the other
REAL, RELEASED = 150, 200  # points of a projection


class Point(NamedTuple):
    """A release in the picture of utility against attacks."""

    number: int  # in the table
    label: str
    auc: float  # percent
    aucs: Interval | None
    attack: float  # AUC
    attacks: Interval | None
    state: str  # LEAK, CLEAN, UNCLEAR
    guaranteed: bool
    chosen: bool


def tradeoff(name: str, points: Sequence[Point], ceiling: float | None, *, wide: bool) -> str:
    """Utility against the strongest attack, a labelled point per release.

    Args:
        name: of the picture, unique in the page.
        points: at least one.
        ceiling: AUC that real rows give, percent; None where that is not known.
        wide: for large screens, with names; small ones have the numbers of the table.
    """
    import matplotlib
    from matplotlib.figure import Figure

    margin = 270 if wide else 40  # for labels
    width, height = (860 if wide else 360), max(400 if wide else 330, GAP * len(points) + 110)
    with matplotlib.rc_context(svg.STYLE):
        figure = Figure(figsize=(width / svg.PIXELS, height / svg.PIXELS), dpi=svg.PIXELS)
        left, bottom, top = 84, 52, 30
        box = (
            left / width, bottom / height,
            (width - left - margin) / width, (height - bottom - top) / height,
        )  # fmt: skip
        ax = figure.add_axes(box)
        _limits(ax, points, ceiling)
        _controls(ax, ceiling)
        for point in points:
            _mark(ax, point)
        _label(ax, points, wide=wide)
        ax.set_xlabel("AUC of the strongest attack")
        ax.set_ylabel("utility: AUC in percent")
        return svg.inline(
            figure, name, "Utility against the strongest attack", _said(points, ceiling)
        )


def _limits(ax: Axes, points: Sequence[Point], ceiling: float | None) -> None:
    xs = [0.5, 1.0, *(p.attack for p in points), *(e for p in points for e in p.attacks or ())]
    ys = [p.auc for p in points] + [e for p in points for e in p.aucs or ()]
    ys += [] if ceiling is None else [ceiling]
    pad = max(0.5, 0.08 * (max(ys) - min(ys)))
    ax.set_xlim(min(xs) - 0.03, 1.03)
    ax.set_ylim(min(ys) - pad, max(ys) + pad)
    ax.set_yticks([tick for tick in ax.get_yticks() if min(ys) - pad <= tick <= 100])


def _controls(ax: Axes, ceiling: float | None) -> None:
    """Lines at guessing, at real rows given away, and at the utility of real rows."""
    line: dict[str, Any] = {
        "color": svg.QUIET,
        "linewidth": 1,
        "linestyle": (0, (4, 3)),
        "clip_on": False,
    }
    for x, text, side in ((0.5, "guessing", "left"), (1.0, "real rows", "right")):
        ax.axvline(x, **line)
        ax.text(x, 1.02, text, transform=ax.get_xaxis_transform(), ha=side, color=svg.QUIET)
    if ceiling is not None:
        ax.axhline(ceiling, **line)


def _mark(ax: Axes, point: Point) -> None:
    """A point with both intervals; of a guarantee in a diamond, the chosen one in a ring."""
    look = LOOKS[point.state]
    bar: dict[str, Any] = {"color": look["color"], "linewidth": 1.2, "clip_on": False}
    if point.attacks:
        ax.plot(point.attacks, [point.auc] * 2, **bar)
    if point.aucs:
        ax.plot([point.attack] * 2, point.aucs, **bar)
    place = ([point.attack], [point.auc])
    ax.plot(*place, linestyle="none", clip_on=False, **look)
    around: dict[str, Any] = {
        "linestyle": "none",
        "fillstyle": "none",
        "color": svg.TEXT,
        "clip_on": False,
    }
    if point.guaranteed:
        ax.plot(*place, marker="D", markersize=12, **around)
    if point.chosen:
        ax.plot(*place, marker="o", markersize=20, markeredgewidth=2, **around)


def _label(ax: Axes, points: Sequence[Point], *, wide: bool) -> None:
    """Labels in the margin, one below the other, each with a line to its point."""
    box = ax.get_window_extent()
    ordered = sorted(points, key=lambda p: (p.auc, -p.attack, -p.number))
    heights = [float(ax.transData.transform((p.attack, p.auc))[1]) for p in ordered]
    for point, height in zip(ordered, spaced(heights, GAP, box.y0, box.y1), strict=True):
        short = point.label[: LONGEST - 1] + "…" if len(point.label) > LONGEST else point.label
        text = f"{point.number}  {short}" if wide else f"{point.number}"
        ax.annotate(
            text,
            (point.attack, point.auc),
            (box.x1 + (24 if wide else 12), height),
            textcoords="figure pixels",
            va="center",
            parse_math=False,
            fontweight="bold" if point.chosen else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": svg.QUIET, "linewidth": 0.6, "shrinkA": 2},
        )


def spaced(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near the given ones (ascending) with at least `gap` between neighbours.

    Between `low` and `high` where they fit there, else from `low` upwards.
    """
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap if placed else low))
    limit = max(high, low + gap * (len(heights) - 1))
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - gap
    return placed


def _said(points: Sequence[Point], ceiling: float | None) -> str:
    """The picture in words."""
    states = {LEAK: "leak found", CLEAN: "no leak found", UNCLEAR: "not judged"}
    parts = [
        f"{p.number}, {p.label}: utility {p.auc:.2f}, attack {p.attack:.3f}, {states[p.state]}"
        + (", with a guarantee" if p.guaranteed else "")
        + (", recommended" if p.chosen else "")
        for p in points
    ]
    real = "" if ceiling is None else f" A horizontal line at {ceiling:.2f}: real rows."
    return (
        "From left to right the AUC of the strongest attack, upwards the AUC of a head. Vertical "
        f"lines at 0.5, guessing, and at 1, real rows given away.{real} {'; '.join(parts)}."
    )


class Ellipse(NamedTuple):
    """Where most real rows of a class are."""

    centre: np.ndarray  # (2,)
    axes: np.ndarray  # (2, 2), the half axes as rows


def projection(
    name: str,
    label: str,
    ellipses: Sequence[Ellipse],
    rows: np.ndarray,
    *,
    ringed: int,
    own: int | None,
) -> str:
    """Released rows on the two main components of the real ones.

    No real row is shown, only an ellipse per class.

    Args:
        rows: (m, 2).
        ringed: the row that stands out.
        own: the ellipse of its class; None where that is not among them.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(svg.STYLE):
        figure = Figure(figsize=(360 / svg.PIXELS, 300 / svg.PIXELS), dpi=svg.PIXELS)
        ax = figure.add_axes((0.02, 0.02, 0.96, 0.96))
        ax.set_axis_off()
        angles = np.linspace(0, 2 * np.pi, 41)
        for number, ellipse in enumerate(ellipses):
            around = np.column_stack([np.cos(angles), np.sin(angles)]) @ ellipse.axes
            line: dict[str, Any] = {"color": svg.QUIET, "linewidth": 1, "clip_on": False}
            if number == own:
                line |= {"color": svg.TEXT, "linewidth": 2}
            ax.plot(*(ellipse.centre + around).T, **line)
        ax.plot(*rows.T, ".", color=svg.ACCENT, markersize=5, markeredgewidth=0, clip_on=False)
        ring: dict[str, Any] = {
            "marker": "o",
            "markersize": 12,
            "fillstyle": "none",
            "linestyle": "none",
        }
        ax.plot(*rows[[ringed]].T, color=svg.TEXT, markeredgewidth=2, clip_on=False, **ring)
        title = f"{label}: released rows and the classes of real rows"
        description = (
            f"{len(rows)} released rows as points and {len(ellipses)} classes of real rows as "
            "ellipses, on the two main components of the real rows. One released row is ringed, "
            "and the ellipse of its class is thick."
        )
        return svg.inline(figure, name, title, description)
