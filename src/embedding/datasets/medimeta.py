"""MedIMeta (Woerner et al., Scientific Data 2025, doi 10.1038/s41597-025-04866-4).

`<root>/medimeta/<id>/` holds `info.yaml`, `images/NNNNNN.tiff` or `images.hdf5`,
`task_labels/<task>.npy` and `splits/{train,val,test}.txt`. They are read here, because
MedIMeta's own package would bring a training framework along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from PIL import Image

from src.core.arrays import checked_labels
from src.core.errors import (
    DataError,
    InputError,
    MissingFileError,
    MissingPackageError,
    UnknownNameError,
)
from src.core.files import reading
from src.database import SPLITS
from src.embedding.datasets.base import ImageFiles, Images, ImageSet, ImageSplits

TASKS = {"organs_axial": "organ label", "skinl_derm": "Diagnosis grouped"}
SINGLE_LABEL = ("BINARY_CLASSIFICATION", "MULTICLASS_CLASSIFICATION", "ORDINAL_REGRESSION")


@dataclass(frozen=True)
class Hdf5Images:
    """Rows of the array `images`, (n, h, w, channels) uint8, of an HDF5 file.

    The file is opened for each image: an open one cannot be shared with worker processes.
    """

    path: Path
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        try:
            import h5py
        except ImportError as error:
            raise MissingPackageError(
                f"reading {self.path} needs h5py: pip install h5py "
                f"(or unpack the images to {self.path.parent / 'images'})"
            ) from error
        row = int(self.rows[index])
        with reading(self.path, f"has no readable image {row}"):
            with h5py.File(self.path, "r") as file:
                pixels = np.asarray(file["images"][row])
            return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def load(name: str, root: Path, task: str | None) -> ImageSplits:
    """The splits of a MedIMeta id with the labels of `task`; grey images become RGB.

    Raises:
        InputError: no task was named, or one without one class per image.
        MissingFileError: files are missing.
        DataError: files are damaged or contradict each other.
    """
    folder = root / "medimeta" / name
    if not (folder / "info.yaml").exists():
        raise MissingFileError(
            f"{folder / 'info.yaml'} does not exist; fetch '{name}' from MedIMeta's Zenodo record "
            f"(see doi.org/10.1038/s41597-025-04866-4) and unpack it to {folder}"
        )
    task = task or TASKS.get(name)
    class_names = _class_names(folder / "info.yaml", name, task)
    path = folder / "task_labels" / f"{task}.npy"
    labels = checked_labels(path, _read_array(path))
    splits = {}
    for split in SPLITS:
        rows = _rows(folder / "splits" / f"{split}.txt", len(labels))
        splits[split] = ImageSet(_images(folder, rows), labels[rows], rgb=True)
    facts = {"source": f"MedIMeta {name}", "task": task}
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _class_names(path: Path, name: str, task: str | None) -> list[str]:
    with reading(path, "does not list tasks as MedIMeta does"):
        info: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        tasks = {entry["task_name"]: entry for entry in info["tasks"]}
    if task is None:
        raise InputError(f"{name} needs --task NAME (valid: {', '.join(sorted(tasks))})")
    if task not in tasks:
        raise UnknownNameError("task", task, tasks, f" in {path}")
    target, labels = tasks[task].get("task_target"), tasks[task].get("labels")
    if target not in SINGLE_LABEL:
        raise InputError(
            f"task '{task}' of {name} is {target}; one class per image is needed "
            f"({', '.join(SINGLE_LABEL)})"
        )
    if isinstance(labels, Mapping):
        labels = [labels[key] for key in sorted(labels, key=int)]
    if not isinstance(labels, list) or not labels:
        raise DataError(f"{path}: the labels of task '{task}' are not a list of classes")
    return [str(label) for label in labels]


def _read_array(path: Path) -> np.ndarray:
    with reading(path, "is not a readable .npy file"), path.open("rb") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _rows(path: Path, count: int) -> np.ndarray:
    """The image indices of a split, (m,) int64, ascending: the stems of the paths it lists."""
    with reading(path, "is not a list of image paths"):
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = np.array(
            sorted(int(PurePosixPath(line.strip()).stem) for line in lines if line.strip()),
            np.int64,
        )
    outside = rows[(rows < 0) | (rows >= count)]
    if len(outside):
        raise DataError(f"{path}: image {outside[0]} does not exist; there are {count} labels")
    return rows


def _images(folder: Path, rows: np.ndarray) -> Images:
    if (folder / "images").is_dir():
        return ImageFiles([folder / "images" / f"{row:06d}.tiff" for row in rows])
    if (folder / "images.hdf5").exists():
        return Hdf5Images(folder / "images.hdf5", rows)
    raise MissingFileError(f"{folder} has neither the folder 'images' nor 'images.hdf5'")
