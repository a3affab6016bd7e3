"""Your own images: `<folder>/{train,val,test}/<class>/*`; without `val`, 10 % of train."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from src.core.errors import DataError, MissingFileError
from src.database import SPLITS
from src.embedding.datasets.base import SPLIT_SEED, ImageFiles, ImageSet, ImageSplits

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

log = logging.getLogger(__name__)


def load(folder: Path) -> ImageSplits:
    """The splits of a folder: classes are those of `train` sorted by name, images likewise.

    Raises:
        MissingFileError: `train` or `test` is missing.
        DataError: a class without images, a class unknown to `train`, too few images for a `val`.
    """
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise MissingFileError(
                f"{folder / split} is not a folder; images are expected in "
                f"{folder}/{{train,val,test}}/<class>/ (val is optional)"
            )
    class_names = [entry.name for entry in _entries(folder / "train") if entry.is_dir()]
    splits = {
        split: _image_set(folder / split, class_names)
        for split in SPLITS
        if (folder / split).is_dir()
    }
    facts: dict[str, str | int] = {"source": str(folder)}
    if "val" not in splits:
        facts |= {"val": "held out", "split_seed": SPLIT_SEED}
        try:
            splits["train"], splits["val"] = splits["train"].hold_out()
        except DataError as error:
            raise DataError(f"{folder / 'val'} is missing, and {error}") from error
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _image_set(folder: Path, class_names: list[str]) -> ImageSet:
    paths: list[Path] = []
    labels: list[int] = []
    ignored: list[Path] = []
    for entry in _entries(folder):
        if not entry.is_dir():
            ignored.append(entry)
            continue
        if entry.name not in class_names:
            raise DataError(
                f"{entry} is a class that train does not have (it has: {', '.join(class_names)})"
            )
        content = _entries(entry)
        images = [file for file in content if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not images:
            raise DataError(f"{entry} has no images ({', '.join(SUFFIXES)})")
        ignored += sorted(set(content) - set(images))
        paths += images
        labels += [class_names.index(entry.name)] * len(images)
    if not paths:
        raise DataError(f"{folder} has no class folders with images in them")
    if ignored:
        log.info("%s: %d entries are not images, such as %s", folder, len(ignored), ignored[0])
    return ImageSet(ImageFiles(paths), np.array(labels, np.int64))


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
