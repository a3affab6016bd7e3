"""MedIMeta (Woerner et al., Scientific Data 2025, doi 10.1038/s41597-025-04866-4).

`<root>/medimeta/<id>/` holds `info.yaml`, `images/NNNNNN.tiff` or `images.hdf5`,
`task_labels/<task>.npy`, `splits/{train,val,test}.txt` and `annotations.csv`, which has a column
`patient_id` where patients are known. They are read here, because MedIMeta's own package would
bring a training framework along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from src.core.arrays import checked_labels
from src.core.configs import read_yaml
from src.core.errors import (
    DataError,
    InputError,
    MissingFileError,
    MissingPackageError,
    UnknownNameError,
)
from src.core.files import reading
from src.database import SPLITS
from src.embedding import persons
from src.embedding.datasets.base import ImageFiles, Images, ImageSet, ImageSplits, file_stamp
from src.embedding.datasets.pixels import Layout, layout
from src.embedding.datasets.splitting import divided
from src.embedding.persons import UNASKED, Choice

TASKS = {"organs_axial": "organ label", "skinl_derm": "Diagnosis grouped"}
BLOCK = 256  # images read at once
SINGLE_LABEL = ("BINARY_CLASSIFICATION", "MULTICLASS_CLASSIFICATION", "ORDINAL_REGRESSION")


@dataclass(frozen=True)
class Hdf5Images:
    """Rows of the array `images`, (n, h, w, channels), of an HDF5 file.

    The file is opened for each image: an open one cannot be shared with worker processes.
    """

    path: Path
    rows: np.ndarray
    layout: Layout

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        row = int(self.rows[index])
        with reading(self.path, f"has no readable image {row}"), _hdf5(self.path) as file:
            return self.layout.image(np.asarray(file["images"][row]))

    def stamp(self, rows: np.ndarray) -> Any:
        """The file, and which of its rows."""
        return [file_stamp(self.path, self.path.name), self.rows[rows].tolist()]


def _hdf5(path: Path) -> Any:
    """The open file.

    Raises:
        MissingPackageError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(
            f"reading {path} needs h5py: pip install h5py "
            f"(or unpack the images to {path.parent / 'images'})"
        ) from error
    return h5py.File(path, "r")


def _layout(path: Path) -> Layout:
    """How the file's images are stored."""
    with reading(path, "has no readable array 'images'"), _hdf5(path) as file:
        images = file["images"]

        def extremes() -> tuple[float, float]:
            blocks = (images[i : i + BLOCK] for i in range(0, len(images), BLOCK))
            low, high = zip(*((block.min(), block.max()) for block in blocks), strict=True)
            return float(min(low)), float(max(high))

        return layout(str(path), images.shape, images.dtype, extremes)


def load(
    name: str,
    root: Path,
    task: str | None,
    choice: Choice = UNASKED,
) -> ImageSplits:
    """The splits of a MedIMeta id with the labels of `task`; grey images become RGB.

    Raises:
        InputError: no task was named, or one without one class per image; or splits by person
            where none are known.
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
    images = _reader(folder)
    rows = {s: _rows(folder / "splits" / f"{s}.txt", len(labels)) for s in SPLITS}
    whose = _persons(folder, len(labels), choice)
    made: dict[str, Any] = {}
    if choice.by_person:
        whose = persons.required(whose, folder)
        used = np.unique(np.concatenate(list(rows.values())))
        said = np.full(len(used), "")
        rows, made = divided(said, labels[used], whose[used], folder, class_names)
        rows = {split: used[part] for split, part in rows.items()}
    splits = {
        split: ImageSet(images(r), labels[r], True, None if whose is None else whose[r])
        for split, r in rows.items()
    }
    facts = {"source": f"MedIMeta {name}", "task": task, **made}
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _persons(folder: Path, count: int, choice: Choice) -> np.ndarray | None:
    """Whose each of the images is, (n,) int64, None where that is not known."""
    if choice.source == persons.NONE:
        return None
    if choice.source in (persons.FOLDER, persons.DICOM):
        raise InputError(
            f"--persons {choice.source} has no effect: MedIMeta's images are in no such "
            f"{'folders' if choice.source == persons.FOLDER else 'files'}"
        )
    images = [folder / "images" / f"{i:06d}.tiff" for i in range(count)]
    if choice.source is not None:
        return persons.listed(Path(choice.source), images)
    path = folder / "annotations.csv"
    return persons.listed(path, images, optional=True) if path.exists() else None


def _class_names(path: Path, name: str, task: str | None) -> list[str]:
    with reading(path, "does not list tasks as MedIMeta does"):
        info = read_yaml(path)  # in which a class called `no` is not False
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


def _reader(folder: Path) -> Callable[[np.ndarray], Images]:
    """What gives the images of some rows, from the form in which they are there."""
    if (folder / "images").is_dir():
        return lambda rows: ImageFiles([folder / "images" / f"{row:06d}.tiff" for row in rows])
    path = folder / "images.hdf5"
    if path.exists():
        found = _layout(path)
        return lambda rows: Hdf5Images(path, rows, found)
    raise MissingFileError(f"{folder} has neither the folder 'images' nor 'images.hdf5'")
