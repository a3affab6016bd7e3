"""The figures of a sweep, as PNG and PDF."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import results
from src.audit.measures import MEASURES
from src.database import IDENTITY, Database, EmbeddingSet
from src.errors import InputError
from src.files import replacing
from src.report.collect import Row
from src.sweep.config import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL, _LEGEND = (3.0, 2.5), 1.8  # inches: width and height, width
_STYLE: dict[Any, float] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "lines.markersize": 5,
    "legend.markerscale": 1.5,
}
_MARKS = "osD^vP*X<>"
_POINTS = 1000  # most points of a projection's panel
_MOST_NAMED = 20  # classes that a legend lists
# Files that do not say when or by which version they were made: the same data, the same bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def draw(
    folder: Path, sweep: Sweep, rows: Sequence[Row], database_root: Path
) -> tuple[list[Path], list[str]]:
    """Draw what the sweep's report shows → the files, and notes on what had to be left out."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return _draw(folder, sweep, rows, database_root)


def _draw(
    folder: Path, sweep: Sweep, rows: Sequence[Row], database_root: Path
) -> tuple[list[Path], list[str]]:
    files: list[Path] = []
    notes: list[str] = []
    for name in sweep.contents.figures:
        if name == "projection":
            for dataset, backbone in sweep.tables():
                database = Database(database_root, dataset, backbone)
                try:
                    figure = _projection(database, sweep)
                except InputError as error:
                    notes.append(f"no projection of {dataset}/{backbone}: {error}")
                    continue
                files += _save(figure, folder / f"projection_{dataset}_{database.folder.name}")
        elif not rows or (name == "auc_sigma" and len(sweep.sigma) < 2):
            reason = "one noise level makes no curve" if rows else "there are no results"
            notes.append(f"no {name}: {reason}")
        else:
            metric = name.removeprefix("auc_")
            against = results.DISTANCE if metric == "distance" else metric
            panel = _auc_sigma if name == "auc_sigma" else partial(_auc_against, against)
            files += _save(_grid(sweep, rows, panel), folder / name)
    return files, notes


def _grid(sweep: Sweep, rows: Sequence[Row], panel: Callable[..., None]) -> Figure:
    """A panel for each data set and backbone, the same look for a variant in all of them."""
    tables = list(sweep.tables())
    figure, axes = _panels(len(tables), most_columns=4)
    for (dataset, backbone), ax in zip(tables, axes, strict=True):
        ours = [row for row in rows if (row.dataset, row.backbone) == (dataset, backbone)]
        for number, variant in enumerate(sweep.variants):
            look = {"color": f"C{number % 10}", "marker": _MARKS[number % len(_MARKS)]}
            panel(ax, sweep, [row for row in ours if row.variant == variant], variant.label, look)
        ax.set_title(f"{dataset}, {backbone}")
    _legend(figure, axes)
    return figure


def _auc_sigma(
    ax: Axes, sweep: Sweep, rows: Sequence[Row], label: str, look: dict[str, Any]
) -> None:
    """A line of means over noise levels, with a band of one standard deviation over seeds."""
    levels = [s for s in sorted(sweep.sigma) if any(row.sigma == s for row in rows)]
    values = [_mean_and_deviation(rows, "auc", s) for s in levels]
    means, deviations = np.array(values).reshape(-1, 2).T
    ax.plot(levels, means, label=label, **look)
    ax.fill_between(
        levels, means - deviations, means + deviations, color=look["color"], alpha=0.2, linewidth=0
    )
    ax.set(xlabel="σ of the noise on test features", ylabel="AUC (%)")


def _auc_against(
    metric: str, ax: Axes, sweep: Sweep, rows: Sequence[Row], label: str, look: dict[str, Any]
) -> None:
    """One mark with its standard deviations over seeds, at the smallest noise level."""
    sigma = min(sweep.sigma)
    rows = [row for row in rows if row.sigma == sigma and metric in row.values]
    if not rows:
        return
    against, against_sd = _mean_and_deviation(rows, metric, sigma)
    auc, auc_sd = _mean_and_deviation(rows, "auc", sigma)
    ax.errorbar(
        [against], [auc], xerr=[against_sd], yerr=[auc_sd], label=label, linestyle="none", **look
    )
    noise = f" at σ = {sigma:g}" if sigma else ""
    title = (
        MEASURES[metric].label if metric in MEASURES else "mean distance to the nearest original"
    )
    ax.set(xlabel=title, ylabel=f"AUC (%){noise}")


def _mean_and_deviation(rows: Sequence[Row], metric: str, sigma: float) -> tuple[float, float]:
    values = [row.values[metric] for row in rows if row.sigma == sigma]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _projection(database: Database, sweep: Sweep) -> Figure:
    """Real and released rows on the two main components of the real ones, coloured by class.

    Releases that depend on the seed are those of the sweep's first.

    Raises:
        InputError: embeddings are missing or damaged, or have one dimension only.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = database.splits().train
    if min(train.embeddings.shape) < 2:
        raise InputError("two components need two rows and two dimensions")
    released = {"real": train} | {
        variant.label: database.release(variant.release_id(sweep.seeds[0]), train)
        for variant in sweep.variants
        if variant.anonymizer.name != IDENTITY and not variant.anonymizer.online
    }
    components = make_pipeline(StandardScaler(), PCA(2, svd_solver="full")).fit(train.embeddings)
    figure, axes = _panels(len(released), most_columns=3, sharex=True, sharey=True)
    for (label, data), ax in zip(released.items(), axes, strict=True):
        _scatter(ax, components.transform, data, train)
        ax.set_title(label)
    if train.num_classes <= _MOST_NAMED:
        _legend(figure, axes)
    figure.suptitle(f"{database.dataset}, {database.backbone}: main components of the real rows")
    return figure


def _scatter(
    ax: Axes, project: Callable[[np.ndarray], np.ndarray], data: EmbeddingSet, train: EmbeddingSet
) -> None:
    import matplotlib

    colours = matplotlib.colormaps["tab10" if train.num_classes <= 10 else "turbo"]
    spread = max(train.num_classes - 1, 10 if train.num_classes <= 10 else 1)
    chosen = np.linspace(0, len(data) - 1, min(_POINTS, len(data))).round().astype(int)
    points, labels = project(data.embeddings[chosen]), data.labels[chosen]
    for label, name in enumerate(train.class_names):
        x, y = points[labels == label].T
        colour = colours(label / spread if train.num_classes > 10 else label)
        shown = name.encode("utf-8", "replace").decode().replace("$", r"\$")  # no formula
        ax.plot(x, y, ".", alpha=0.7, markeredgewidth=0, color=colour, label=shown.lstrip("_"))


def _panels(count: int, *, most_columns: int, **options: Any) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(count, most_columns)
    lines = math.ceil(count / columns)
    size = (_PANEL[0] * columns + _LEGEND, _PANEL[1] * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False, **options).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend beside all panels, an entry for each name in any of them."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", frameon=False)


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = []
    for kind, metadata in _METADATA.items():
        path = stem.parent / f"{stem.name}.{kind}"
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
        files.append(path)
    return files
