"""Your own images, in folders or listed in a table; splits that are not said are made here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from src.core import progress
from src.core.errors import DataError, InputError
from src.embedding import persons
from src.embedding.datasets import folders, labels_file
from src.embedding.datasets.base import ImageFiles, ImageSet, ImageSplits
from src.embedding.datasets.decoding import patient, range_of
from src.embedding.datasets.finding import Row
from src.embedding.datasets.grey import Window
from src.embedding.datasets.splitting import divided
from src.embedding.persons import UNASKED, Choice

log = logging.getLogger(__name__)


def load(
    folder: Path,
    window: tuple[float, float] | None = None,
    choice: Choice = UNASKED,
    labels_of_persons: Path | None = None,
) -> ImageSplits:
    """The splits of a folder; classes are those of train, sorted by name.

    Args:
        folder: with `labels.csv`, with a folder per split, or with a folder per class.
        window: the grey values that become black and white, of images of more than 8 bits.
        choice: where persons come from, and whether splits are made by them.
        labels_of_persons: where persons are listed if nothing else is chosen.

    Raises:
        MissingFileError, DataError: as `folders.listed` and `labels_file.listed`; too few images
            for a split that is made here; or some images of nobody.
        InputError: a window that no image needs, or splits by person where none are known.
    """
    table = (folder / labels_file.NAME).exists()
    rows = labels_file.listed(folder) if table else folders.listed(folder)
    whose = _persons(folder, rows, choice, labels_of_persons)
    if choice.by_person:
        whose = persons.required(whose, folder)
        rows = [row._replace(split="") for row in rows]
    class_names = sorted({row.label for row in rows if row.split in ("", "train")})
    _require_known(folder, rows, class_names)
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = np.array([numbers[row.label] for row in rows], np.int64)
    parts, facts = divided(
        np.array([row.split for row in rows]), labels, whose, folder, class_names
    )
    shown, more = _window([rows[i] for i in parts["train"]], rows, window)
    splits = {
        split: ImageSet(
            ImageFiles([rows[i].path for i in part], shown),
            labels[part],
            persons=None if whose is None else whose[part],
        )
        for split, part in parts.items()
    }
    source = {"source": str(folder), **({"labels": labels_file.NAME} if table else {})}
    facts = {**source, **facts, **more}
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _persons(
    folder: Path, rows: list[Row], choice: Choice, labels_of_persons: Path | None
) -> np.ndarray | None:
    """Whose each image is, (n,) int64, None where that is not known."""
    source, paths = choice.source, [row.path for row in rows]
    if source == persons.NONE:
        return None
    table = (folder / labels_file.NAME).exists()
    if table and labels_file.has_persons(folder):
        if source is not None:
            raise InputError(
                f"--persons {source} has no effect: {folder / labels_file.NAME} says whose the "
                "images are"
            )
        return persons.codes([row.person for row in rows], folder / labels_file.NAME)
    if source is None:
        if labels_of_persons is None:
            return None
        return persons.listed(labels_of_persons, paths, whole=False)
    if source == persons.FOLDER:
        if table:
            raise InputError(f"--persons {source}: {folder} has no folders for classes")
        depth = 2 if rows[0].split else 1  # <split>/<class>/, <class>/
        below = [path.relative_to(folder).parts[depth:-1] for path in paths]
        return persons.of_folders([parts[0] if parts else "" for parts in below], folder)
    if source == persons.DICOM:
        bar = progress.bar(paths, desc="reading patients", unit=" files")
        return persons.codes([patient(path) for path in bar], f"--persons {source}")
    return persons.listed(Path(source), paths)


def _require_known(folder: Path, rows: list[Row], class_names: list[str]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{folder}: train has {len(class_names)} classes; two are needed")
    for row in rows:
        if row.label not in class_names:
            raise DataError(
                f"{row.path} is of class '{row.label}', which train does not have "
                f"(it has: {', '.join(class_names)})"
            )


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
