"""Your own images, in folders or listed in a table; splits that are not said are made here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from src.core.errors import DataError, InputError
from src.database import SPLITS
from src.embedding.datasets import folders, labels_file
from src.embedding.datasets.base import ImageFiles, ImageSet, ImageSplits
from src.embedding.datasets.decoding import range_of
from src.embedding.datasets.finding import Row
from src.embedding.datasets.grey import Window
from src.embedding.datasets.splitting import SPLIT_SEED, TEST_FRACTION, VAL_FRACTION, hold_out

log = logging.getLogger(__name__)


def load(folder: Path, window: tuple[float, float] | None = None) -> ImageSplits:
    """The splits of a folder; classes are those of train, sorted by name.

    Args:
        folder: with `labels.csv`, with a folder per split, or with a folder per class.
        window: the grey values that become black and white, of images of more than 8 bits.

    Raises:
        MissingFileError, DataError: as `folders.listed` and `labels_file.listed`; or too few
            images for a split that is made here.
        InputError: a window that no image needs.
    """
    table = (folder / labels_file.NAME).exists()
    rows = labels_file.listed(folder) if table else folders.listed(folder)
    class_names = sorted({row.label for row in rows if row.split in ("", "train")})
    _require_known(folder, rows, class_names)
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = np.array([numbers[row.label] for row in rows], np.int64)
    parts, facts = _divided(folder, rows, labels)
    shown, more = _window([rows[i] for i in parts["train"]], rows, window)
    splits = {
        split: ImageSet(ImageFiles([rows[i].path for i in part], shown), labels[part])
        for split, part in parts.items()
    }
    source = {"source": str(folder), **({"labels": labels_file.NAME} if table else {})}
    facts = {**source, **facts, **more}
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _require_known(folder: Path, rows: list[Row], class_names: list[str]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{folder}: train has {len(class_names)} classes; two are needed")
    for row in rows:
        if row.label not in class_names:
            raise DataError(
                f"{row.path} is of class '{row.label}', which train does not have "
                f"(it has: {', '.join(class_names)})"
            )


def _divided(
    folder: Path, rows: list[Row], labels: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The row numbers of each split, and which of them are made here."""
    said = np.array([row.split for row in rows])
    parts = {split: np.flatnonzero(said == split) for split in SPLITS if split in said}
    made: dict[str, Any] = {}
    try:
        if "" in said:
            parts["train"], parts["test"] = hold_out(labels, TEST_FRACTION)
            made |= {"test": "held out"}
        if "val" not in parts:
            kept, held_out = hold_out(labels[parts["train"]], VAL_FRACTION)
            parts["val"], parts["train"] = parts["train"][held_out], parts["train"][kept]
            made |= {"val": "held out", "split_seed": SPLIT_SEED}
    except DataError as error:
        missing = f"{folder} has no splits" if "" in said else f"{folder / 'val'} is missing"
        raise DataError(f"{missing}, and {error}") from error
    if "test" not in parts:
        raise DataError(f"{folder} has no images of the split test")
    return {split: parts[split] for split in SPLITS}, made


def _window(
    train: list[Row], rows: list[Row], given: tuple[float, float] | None
) -> tuple[Window | None, dict[str, Any]]:
    """The window of the deep images, and what is recorded of it; None where none needs one."""
    deep = [row for row in rows if row.look.deep]
    if given:
        if not deep:
            raise InputError(
                f"--window {given[0]:g} {given[1]:g} has no effect: no image has grey values of "
                "more than 8 bits"
            )
        return Window(*given, given=True), {"window": list(given), "window_from": "given"}
    own = [row.path for row in deep if not row.look.windowed]
    window = range_of(
        [row.path for row in train if row.look.deep and not row.look.windowed] or own
    )
    if window is None:
        return None, {}
    log.info(
        "%d of %d images have more than 8 bits; %g becomes black, %g white (percentiles of "
        "train); --window LOW HIGH sets others",
        *(len(own), len(rows), window.low, window.high),
    )
    return window, {"window": [window.low, window.high], "window_from": "percentiles of train"}
