"""MedMNIST's 2D datasets of one label per image, 28 to 224 px wide, in `<root>/medmnist`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from PIL import Image

from src.core.arrays import checked_labels
from src.core.errors import InputError
from src.core.files import reading
from src.database import SPLITS
from src.embedding.datasets.base import ImageSet, ImageSplits
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


@dataclass
class NpzImages:
    """An array of images in an .npz file, read whole when the first image is asked for.

    Worker processes share it if an image was asked for before they were forked.
    """

    path: Path
    key: str

    @cached_property
    def _count(self) -> int:
        header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
        with (
            reading(self.path, _DAMAGED),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.key}.npy") as member,
        ):
            shape = header[read_magic(member)](member)[0]  # the pixels are not read
        return int(shape[0])

    @cached_property
    def _array(self) -> np.ndarray:
        with reading(self.path, _DAMAGED), np.load(self.path, allow_pickle=False) as arrays:
            array: np.ndarray = arrays[self.key]
            return array

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self._array[index])


def load(name: str, root: Path, image_size: int | None) -> ImageSplits:
    """The splits of a dataset; `image_size` in px picks the file, downloaded if it is missing.

    Raises:
        InputError: its images do not have one label each, or do not come in that size.
        MissingFileError: the file cannot be downloaded.
        DataError: the file is damaged.
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
    suffix = "" if size == SIZES[0] else f"_{size}"
    path = root / "medmnist" / f"{name}{suffix}.npz"
    if not path.exists():
        fetch(info[f"url{suffix}"], path, info[f"MD5{suffix}"])
    with reading(path, _DAMAGED), np.load(path, allow_pickle=False) as arrays:
        labels = {split: checked_labels(path, arrays[f"{split}_labels"]) for split in SPLITS}
    return ImageSplits(
        **{
            split: ImageSet(NpzImages(path, f"{split}_images"), labels[split], name in RGB)
            for split in SPLITS
        },
        class_names=[info["label"][str(c)] for c in range(len(info["label"]))],
        facts={"source": f"MedMNIST {name}", "image_size": size},
    )
