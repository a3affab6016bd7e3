"""A picture of one latent walk: how far it and the straight line stay from the real rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src.core.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from src.database import EmbeddingSet

# No dates and no versions: the same paths give the same file.
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Example(NamedTuple):
    """The decoded points of one path, (T, D) float32 each, ends included."""

    straight: np.ndarray
    walked: np.ndarray
    class_name: str


def draw(file: Path, example: Example, train: EmbeddingSet) -> None:
    """Draw the distance to the nearest real row along both paths, and the rows if they are images.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    strips = [_strip(rows, train) for rows in example[:2]]
    images = [strip for strip in strips if strip is not None]
    figure = Figure(figsize=(6.4, 3.4 + 0.7 * len(images)), layout="constrained")
    ratios = [5.0] + [1.0] * len(images)
    top, *below = figure.subplots(1 + len(images), 1, height_ratios=ratios, squeeze=False)[:, 0]
    _distances(top, example, train)
    for axes, image, name in zip(below, images, ("straight", "walked"), strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        axes.set(xticks=[], yticks=[], ylabel=name)
    with replacing(file) as temporary:
        kind = file.suffix.lower()
        figure.savefig(temporary, format=kind[1:], dpi=200, metadata=METADATA[kind])


def _distances(axes: Axes, example: Example, train: EmbeddingSet) -> None:
    import torch

    from src.core.distances import nearest

    real = torch.from_numpy(train.embeddings)
    for rows, name in ((example.straight, "straight line"), (example.walked, "walked path")):
        along = nearest(torch.from_numpy(rows), real).distances[:, 0]
        axes.plot(range(1, len(rows) + 1), along.numpy(), marker="o", label=name)
    if len(real) > 1:
        between = float(nearest(real, real, 2).distances[:, 1].median())
        axes.axhline(between, color="grey", linestyle="--", label="between real rows, median")
    axes.set(xlabel="point of the path", ylabel="distance to the nearest real row")
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_title(f"One path of class {example.class_name}", fontsize="medium")
    axes.legend(fontsize="small")


def _strip(rows: np.ndarray, train: EmbeddingSet) -> np.ndarray | None:
    """Rows (T, D) of square images side by side, (side, T · side); None if they are not images."""
    side = math.isqrt(rows.shape[1])
    if train.meta.get("backbone") != "pixels" or side * side != rows.shape[1]:
        return None
    strip: np.ndarray = rows.reshape(len(rows), side, side).transpose(1, 0, 2).reshape(side, -1)
    return strip
