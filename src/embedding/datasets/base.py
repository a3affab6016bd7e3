"""Datasets of images.

Images are grey ('L', or 'F' with values 0..1 where 8 bits do not hold them) or colour ('RGB').
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from src.core.errors import DataError
from src.core.provenance import digest_arrays
from src.database import SPLITS
from src.embedding.datasets import decoding
from src.embedding.datasets.decoding import simplified, to_rgb
from src.embedding.datasets.grey import Window
from src.embedding.datasets.splitting import VAL_FRACTION, hold_out


class Images(Protocol):
    """Images by index, decoded when asked for. Implementations can be pickled."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...

    def stamp(self, rows: np.ndarray) -> Any:
        """What changes if one of these images does, rows (m,) int64, as a JSON value.

        It is cheap: of a file it has the name, the size and the time of the last change.

        Raises:
            OSError: a file cannot be found.
        """


def file_stamp(path: Path, name: str) -> list[Any]:
    """A file's name, its size in bytes and the time of its last change in ns."""
    status = path.stat()
    return [name, status.st_size, status.st_mtime_ns]


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files of their own; `window` is for those of more than 8 bits."""

    paths: Sequence[Path]
    window: Window | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return decoding.read(self.paths[index], self.window)

    def stamp(self, rows: np.ndarray) -> Any:
        """The files, seen from the first one's folder, so that they may be moved together."""
        home = self.paths[0].parent
        paths = [self.paths[int(row)] for row in rows]
        files = [file_stamp(path, os.path.relpath(path, home)) for path in paths]
        return [files, self.window]


@dataclass(frozen=True)
class ImageArray:
    """Images that are rows of one array: (n, h, w) or (n, h, w, 3), uint8, or float32 in 0..1."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index])

    def stamp(self, rows: np.ndarray) -> Any:
        """The digest of the images themselves."""
        return digest_arrays(self.array[rows])


@dataclass(frozen=True)
class ImageRows:
    """Some of the images, in the order of `rows`, (m,) int64."""

    images: Images
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[int(self.rows[index])]

    def stamp(self, rows: np.ndarray) -> Any:
        """What the images say of themselves."""
        return self.images.stamp(self.rows[rows])


@dataclass(frozen=True)
class ImageSet:
    """One split, a map-style dataset: images are decoded one by one, labels are known before.

    Attributes:
        images: n images.
        labels: (n,) int64 in 0..C-1.
        rgb: grey images become three equal channels.
        persons: (n,) int64, whose each image is; None where that is not known.
    """

    images: Images
    labels: np.ndarray
    rgb: bool = False
    persons: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Image.Image:
        """Image `index`, in mode 'L', 'F' (values 0..1) or 'RGB'.

        Raises:
            DataError: it cannot be decoded; the message names the file.
        """
        image = simplified(self.images[index])
        return to_rgb(image) if self.rgb else image

    def stamp(self, rows: np.ndarray) -> Any:
        """What changes if one of these images does; labels and persons play no part.

        Raises:
            OSError: a file cannot be found.
        """
        return [self.rgb, self.images.stamp(rows)]

    def hold_out(self, fraction: float = VAL_FRACTION) -> tuple[ImageSet, ImageSet]:
        """Split by class into (images kept, images held out), as `splitting.hold_out`.

        Raises:
            DataError: too few images for every class to be in both parts.
        """
        kept, held_out = hold_out(self.labels, fraction)
        return self._subset(kept), self._subset(held_out)

    def _subset(self, rows: np.ndarray) -> ImageSet:
        return ImageSet(ImageRows(self.images, rows), self.labels[rows], self.rgb)


@dataclass(frozen=True)
class ImageSplits:
    """The three splits of a dataset; `facts` says where they come from (JSON values).

    Raises:
        DataError: a split is empty, or its labels do not fit its images or the classes.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet
    class_names: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def model_size(self, image_size: int | None) -> int | None:
        """The size for the backbone: its own (None) where the size has picked MedMNIST's file."""
        return None if "image_size" in self.facts else image_size

    def __post_init__(self) -> None:
        for name in SPLITS:
            split: ImageSet = getattr(self, name)
            images, labels, classes = len(split.images), split.labels, len(self.class_names)
            where = f"{self.facts.get('source', 'dataset')}, {name}"
            if len(labels) == 0:
                raise DataError(f"{where}: no images")
            if images != len(labels):
                raise DataError(f"{where}: {images} images but {len(labels)} labels")
            if labels.min() < 0 or labels.max() >= classes:
                wrong = labels[(labels < 0) | (labels >= classes)][0]
                raise DataError(f"{where}: label {wrong} is not in 0..{classes - 1}")
            unseen = np.setdiff1d(labels, self.train.labels)
            if len(unseen):
                unknown = self.class_names[unseen[0]]
                raise DataError(f"{where}: class '{unknown}' does not occur in train")
