"""MedMNIST's 2D datasets of one label per image, 28 to 224 px wide, in `<root>/medmnist`."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from PIL import Image

from src.core.arrays import checked_labels
from src.core.errors import DataError, InputError, MissingFileError
from src.core.files import reading
from src.database import SPLITS
from src.embedding.datasets.base import ImageSet, ImageSplits, file_stamp
from src.embedding.datasets.pixels import Layout, layout
from src.embedding.downloads import fetch

_DAMAGED = "is incomplete or damaged (delete it to have it downloaded again)"
SIZES = (28, 64, 128, 224)  # px; MedMNIST+ is the largest
DEFAULT_SIZE = 224
RGB = ("breastmnist",)  # read in colour by Di Salvo et al. (BMVC 2024)

# The names are here so that listing them does not import medmnist (and torch with it).
FLAGS = (
    *("bloodmnist", "breastmnist", "dermamnist", "octmnist", "organamnist", "organcmnist"),
    *("organsmnist", "pathmnist", "pneumoniamnist", "retinamnist", "tissuemnist"),
)
UNSUITED = {
    "chestmnist": "its images have several labels each",
    **{
        f"{part}mnist3d": "it holds volumes"
        for part in ("adrenal", "fracture", "nodule", "organ", "synapse", "vessel")
    },
}

log = logging.getLogger(__name__)


@dataclass
class NpzImages:
    """An array of images in an .npz file, read whole when the first image is asked for.

    Worker processes share it if an image was asked for before they were forked.
    """

    path: Path
    key: str
    count: int
    layout: Layout

    @cached_property
    def _array(self) -> np.ndarray:
        return _read(self.path, self.key)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        return self.layout.image(self._array[index])

    def stamp(self, rows: np.ndarray) -> Any:
        """The file, and which of its rows."""
        return [file_stamp(self.path, self.path.name), self.key, rows.tolist()]


def _read(path: Path, key: str) -> np.ndarray:
    with reading(path, _DAMAGED), np.load(path, allow_pickle=False) as arrays:
        array: np.ndarray = arrays[key]
        return array


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array; its values are not read."""
    header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
    with (
        reading(path, _DAMAGED),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{key}.npy") as member,
    ):
        shape, _, dtype = header[read_magic(member)](member)
    return shape, dtype


def load(name: str, root: Path, image_size: int | None) -> ImageSplits:
    """The splits of a dataset; `image_size` in px picks the file, downloaded if it is missing.

    Raises:
        InputError: its images do not have one label each, or do not come in that size.
        MissingFileError: the file cannot be downloaded.
        DataError: the file is damaged, or its images are of another size than its name says.
    """
    if name in UNSUITED:
        raise InputError(
            f"MedMNIST's {name} cannot be used: {UNSUITED[name]}; "
            f"2D images with one label each are needed (valid: {', '.join(FLAGS)})"
        )
    size = image_size or DEFAULT_SIZE
    if size not in SIZES:
        sizes = ", ".join(map(str, SIZES))
        raise InputError(f"{name} has no images of {size} px; --image_size must be one of {sizes}")
    from medmnist.info import INFO

    info: dict[str, Any] = INFO[name]
    path = _file(root, name, size)
    if not path.exists():
        suffix = _suffix(size)
        try:
            fetch(info[f"url{suffix}"], path, info[f"MD5{suffix}"])
        except MissingFileError as error:
            there = [s for s in SIZES if _file(root, name, s).exists()]
            hint = f"; its images of {there[0]} px exist: --image_size {there[0]}" if there else ""
            raise MissingFileError(f"{error}{hint}") from error
    with reading(path, _DAMAGED), np.load(path, allow_pickle=False) as arrays:
        labels = {split: checked_labels(path, arrays[f"{split}_labels"]) for split in SPLITS}
    counts = {split: len(labels[split]) for split in SPLITS}
    if counts != info["n_samples"]:
        log.warning("%s has %s images; MedMNIST lists %s", path, counts, info["n_samples"])
    return ImageSplits(
        **{
            split: ImageSet(images, labels[split], name in RGB)
            for split, images in _images(path, size).items()
        },
        class_names=[info["label"][str(c)] for c in range(len(info["label"]))],
        facts={"source": f"MedMNIST {name}", "image_size": size},
    )


def _suffix(size: int) -> str:
    return "" if size == SIZES[0] else f"_{size}"


def _file(root: Path, name: str, size: int) -> Path:
    return root / "medmnist" / f"{name}{_suffix(size)}.npz"


def _images(path: Path, size: int) -> dict[str, NpzImages]:
    """The images of the splits, of the size that the name says.

    Raises:
        DataError: they are of another size, or not images.
    """
    images = {}
    for split in SPLITS:
        key = f"{split}_images"
        shape, dtype = _header(path, key)
        found = layout(f"{path}, {key},", shape, dtype, lambda: _extremes(path))
        if found.size != (size, size):
            height, width = found.size
            named = f"{size} x {size} px, as its name says"
            right = path.with_name(f"{path.stem.partition('_')[0]}{_suffix(height)}.npz")
            advice = f"; name it {right} and pass --image_size {height}" * (height in SIZES)
            raise DataError(
                f"{path} holds images of {height} x {width} px, not of {named}{advice}"
            )
        images[split] = NpzImages(path, key, shape[0], found)
    return images


def _extremes(path: Path) -> tuple[float, float]:
    """The smallest and the largest value of all splits: one range for all."""
    arrays = [_read(path, f"{split}_images") for split in SPLITS]
    return min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
