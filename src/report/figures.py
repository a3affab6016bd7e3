"""The figures of a sweep, as PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.anonymizers import methods
from src.audit.measures import MEASURES
from src.core.errors import InputError
from src.core.files import replacing
from src.database import IDENTITY, Database, EmbeddingSet
from src.probing import results
from src.report.collect import Average, Result
from src.report.grid import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LEGEND = (3.0, 2.5), 1.8  # inches: width and height, width
STYLE: dict[Any, float] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "lines.markersize": 5,
    "legend.markerscale": 1.5,
}
MARKS = "osD^vP*X<>"
MOST_POINTS = 1000  # in a panel of the projection
MOST_NAMED = 20  # classes that a legend lists
# Files that do not say when or by which version they were made: the same data, the same bytes.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def draw(
    folder: Path, sweep: Sweep, found: Sequence[Result], database_root: Path
) -> tuple[list[Path], list[str]]:
    """Draw what the sweep's report shows → the files, and notes on what had to be left out."""
    import matplotlib

    files: list[Path] = []
    notes: list[str] = []
    with matplotlib.rc_context(STYLE):
        for name in sweep.shown.figures:
            if name == "projection":
                pictures = _projections(sweep, database_root)
            else:
                pictures = iter([(name, _comparison(name, sweep, found))])
            for stem, picture in pictures:
                if isinstance(picture, str):
                    notes.append(f"no {picture}")
                else:
                    files += _save(picture, folder / stem)
    return files, notes


def _projections(sweep: Sweep, database_root: Path) -> Iterator[tuple[str, Figure | str]]:
    """A name and a figure per dataset and backbone, or what is left out and why."""
    for dataset, backbone in sweep.embedded():
        database = Database(database_root, dataset, backbone)
        stem = f"projection_{dataset}_{database.folder.name}"
        try:
            yield stem, _projection(database, sweep)
        except InputError as error:
            yield stem, f"projection of {dataset}/{backbone}: {error}"


def _comparison(name: str, sweep: Sweep, found: Sequence[Result]) -> Figure | str:
    """The figure of that name, a panel per dataset, backbone and head; or why it is left out.

    An anonymizer looks the same in all panels.
    """
    if not found:
        return f"{name}: there are no results"
    if name == "auc_sigma" and len(sweep.sigma) < 2:
        return f"{name}: one noise level makes no curve"
    metric = name.removeprefix("auc_")
    against = partial(_auc_against, results.DISTANCE if metric == "distance" else metric)
    plot: Callable[..., None] = _auc_sigma if name == "auc_sigma" else against
    places = list(sweep.judged())
    figure, axes = _panels(len(places), most_columns=4)
    for (dataset, backbone, head), ax in zip(places, axes, strict=True):
        place = (dataset, backbone, head)
        here = [r for r in found if (r.dataset, r.backbone, r.head) == place]
        for number, anonymizer in enumerate(sweep.anonymizers):
            look = {"color": f"C{number % 10}", "marker": MARKS[number % len(MARKS)]}
            ours = [result for result in here if result.anonymizer == anonymizer]
            plot(ax, sweep, ours, {**look, "label": anonymizer.label})
        names = [dataset, backbone, *([head.label] if len(sweep.heads) > 1 else [])]
        ax.set_title(", ".join(names))
    _legend(figure, axes)
    return figure


def _auc_sigma(ax: Axes, sweep: Sweep, ours: Sequence[Result], look: dict[str, Any]) -> None:
    """A line of means over noise levels, with a band of one standard deviation over seeds."""
    levels = [s for s in sorted(sweep.sigma) if any(result.sigma == s for result in ours)]
    averages = [_average(ours, "auc", sigma) for sigma in levels]
    means = np.array([average.mean for average in averages])
    deviations = np.array([average.deviation or 0.0 for average in averages])
    ax.plot(levels, means, **look)
    ax.fill_between(
        levels, means - deviations, means + deviations, color=look["color"], alpha=0.2, linewidth=0
    )
    ax.set(xlabel="σ of the noise on test features", ylabel="AUC (%)")


def _auc_against(
    metric: str, ax: Axes, sweep: Sweep, ours: Sequence[Result], look: dict[str, Any]
) -> None:
    """One mark with its standard deviations over seeds, at the first noise level of the table."""
    sigma = sweep.shown.sigma[0]
    known = [result for result in ours if result.sigma == sigma and metric in result.values]
    if not known:
        return
    x, y = (_average(known, name, sigma) for name in (metric, "auc"))
    ax.errorbar(
        [x.mean],
        [y.mean],
        xerr=[x.deviation or 0.0],
        yerr=[y.deviation or 0.0],
        linestyle="none",
        **look,
    )
    noise = f" at σ = {sigma:g}" if sigma else ""
    title = "mean distance to the nearest original"
    if metric in MEASURES:
        title = MEASURES[metric].label
    ax.set(xlabel=title, ylabel=f"AUC (%){noise}")


def _average(ours: Sequence[Result], metric: str, sigma: float) -> Average:
    return Average(tuple(result.values[metric] for result in ours if result.sigma == sigma))


def _projection(database: Database, sweep: Sweep) -> Figure:
    """Real and released rows on the two main components of the real ones, coloured by class.

    Releases that depend on the seed are those of the sweep's first.

    Raises:
        InputError: embeddings are missing or damaged, or have one dimension only.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = database.read().train
    if min(train.embeddings.shape) < 2:
        raise InputError("two components need two rows and two dimensions")
    released = {"real": train} | {
        anonymizer.label: database.read_release(anonymizer.release_id(sweep.seeds[0]), train)
        for anonymizer in sweep.anonymizers
        if anonymizer.name != IDENTITY and anonymizer.name not in methods.ONLINE
    }
    components = make_pipeline(StandardScaler(), PCA(2, svd_solver="full")).fit(train.embeddings)
    figure, axes = _panels(len(released), most_columns=3, sharex=True, sharey=True)
    for (label, data), ax in zip(released.items(), axes, strict=True):
        _scatter(ax, components.transform, data, train)
        ax.set_title(label)
    if train.num_classes <= MOST_NAMED:
        _legend(figure, axes)
    figure.suptitle(f"{database.dataset}, {database.backbone}: main components of the real rows")
    return figure


def _scatter(
    ax: Axes, project: Callable[[np.ndarray], np.ndarray], data: EmbeddingSet, train: EmbeddingSet
) -> None:
    import matplotlib

    few = train.num_classes <= 10  # as the colours of tab10, which are taken by number
    colours = matplotlib.colormaps["tab10" if few else "turbo"]
    chosen = np.linspace(0, len(data) - 1, min(MOST_POINTS, len(data))).round().astype(int)
    points, labels = project(data.embeddings[chosen]), data.labels[chosen]
    for label, name in enumerate(train.class_names):
        x, y = points[labels == label].T
        colour = colours(label if few else label / (train.num_classes - 1))
        shown = name.encode("utf-8", "replace").decode().replace("$", r"\$")  # no formula
        ax.plot(x, y, ".", alpha=0.7, markeredgewidth=0, color=colour, label=shown.lstrip("_"))


def _panels(
    count: int, *, most_columns: int, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(count, most_columns)
    lines = math.ceil(count / columns)
    size = (PANEL[0] * columns + LEGEND, PANEL[1] * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey)
    axes = list(grid.flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend beside all panels, an entry per name in any of them."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", frameon=False)


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = []
    for kind, metadata in METADATA.items():
        path = stem.parent / f"{stem.name}.{kind}"
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
        files.append(path)
    return files
