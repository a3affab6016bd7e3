"""Datasets of images, and how an image becomes numbers.

Images are grey ('L', or 'F' with values 0..1 where 8 bits do not hold them) or colour ('RGB').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from src.core.errors import DataError
from src.core.files import reading
from src.database import SPLITS

VAL_FRACTION = 0.1
SPLIT_SEED = 12345  # of every split that the data's publishers did not make

_LARGEST_16_BIT = 65535


class Images(Protocol):
    """Images by index, decoded when asked for. Implementations can be pickled."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files of their own."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        path, complaint = self.paths[index], "is not an image that can be read"
        with reading(path, complaint):
            try:
                image = Image.open(path)
            except UnidentifiedImageError as error:  # its text would name the path again
                raise DataError(f"{path} {complaint}: no known format") from error
            with image:
                image.load()
                return simplified(image)


@dataclass(frozen=True)
class ImageArray:
    """Images that are rows of one array: (n, h, w) or (n, h, w, 3), uint8, or float32 in 0..1."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index])


@dataclass(frozen=True)
class ImageRows:
    """Some of the images, in the order of `rows`, (m,) int64."""

    images: Images
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[int(self.rows[index])]


@dataclass(frozen=True)
class ImageSet:
    """One split, a map-style dataset: images are decoded one by one, labels are known before.

    Attributes:
        images: n images.
        labels: (n,) int64 in 0..C-1.
        rgb: grey images become three equal channels.
    """

    images: Images
    labels: np.ndarray
    rgb: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Image.Image:
        """Image `index`, in mode 'L', 'F' (values 0..1) or 'RGB'.

        Raises:
            DataError: it cannot be decoded; the message names the file.
        """
        image = simplified(self.images[index])
        return to_rgb(image) if self.rgb else image

    def hold_out(self, fraction: float = VAL_FRACTION) -> tuple[ImageSet, ImageSet]:
        """Split by class into (images kept, images held out), each in shuffled order.

        Raises:
            DataError: too few images for every class to be in both parts.
        """
        from sklearn.model_selection import train_test_split

        labels = self.labels
        try:
            kept, held_out = train_test_split(
                np.arange(len(labels)),
                test_size=fraction,
                random_state=SPLIT_SEED,
                stratify=labels,
            )
        except ValueError as error:
            raise DataError(
                f"{len(labels)} images of {len(np.unique(labels))} classes are too few to hold "
                f"out {fraction:.0%} of them with every class in both parts: {error}"
            ) from error
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


def simplified(image: Image.Image) -> Image.Image:
    """The decoded image in mode 'L', 'F' with values 0..1, or 'RGB'; transparency is dropped.

    Raises:
        ValueError: grey values without a known range (32 bits; floats outside 0..1).
    """
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        values = values if image.mode == "F" else values / np.float32(_LARGEST_16_BIT)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("grey values are neither 8 nor 16 bits nor floats in 0..1")
        return Image.fromarray(values)
    if image.mode in ("P", "PA"):  # a transparent colour of the palette has to become alpha first
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode 'RGB', 8 bits per channel; grey becomes three equal channels.

    Pillow's own conversion of mode 'F' clips values to 0..255 instead of scaling them.
    """
    image = simplified(image)
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    return image.convert("RGB")


def to_array(image: Image.Image) -> np.ndarray:
    """The image as (channels, h, w) float32 in 0..1: one channel if it is grey, else three."""
    image = simplified(image)
    values = np.asarray(image, np.float32)
    values = values if image.mode == "F" else values / np.float32(255)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))
