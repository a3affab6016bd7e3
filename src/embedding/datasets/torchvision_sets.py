"""`stl10`, `oxford-pets`, `dtd`, `aircraft`: natural images, read through torchvision."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torchvision import datasets

from src.core.errors import DataError, MissingFileError, OutputError
from src.core.files import reading
from src.database import SPLITS
from src.embedding.datasets.base import ImageArray, ImageFiles, Images, ImageSet, ImageSplits
from src.embedding.datasets.splitting import SPLIT_SEED
from src.embedding.downloads import fetch, unpack


class Content(NamedTuple):
    """What torchvision knows about a split without decoding an image."""

    images: Images
    labels: np.ndarray  # (n,) int64
    class_names: list[str]


class Archive(NamedTuple):
    """A tar archive, where torchvision keeps it and the one folder it holds."""

    url: str
    md5: str | None
    home: str  # folder in the data root
    holds: str


@dataclass(frozen=True)
class Source:
    """How torchvision stores a dataset."""

    read: Callable[[Path, str], Content]  # data root and torchvision's name of the split
    archives: tuple[Archive, ...]
    splits: dict[str, str]  # our name: torchvision's; without `val`, it is held out of train


class _STL10(datasets.STL10):  # type: ignore[misc]
    """STL10 without a checksum of all 3 GB, unlabelled images included, at every start."""

    def _check_integrity(self) -> bool:
        return True


def _stl10(root: Path, split: str) -> Content:
    data = _STL10(root, split)
    images = ImageArray(data.data.transpose(0, 2, 3, 1))  # torchvision's order: (n, 3, h, w)
    return Content(images, data.labels.astype(np.int64), data.classes)


def _pets(root: Path, split: str) -> Content:
    data = datasets.OxfordIIITPet(root, split)
    return Content(ImageFiles(data._images), np.array(data._labels, np.int64), data.classes)


def _dtd(root: Path, split: str) -> Content:
    return _of_files(datasets.DTD(root, split))


def _aircraft(root: Path, split: str) -> Content:
    return _of_files(datasets.FGVCAircraft(root, split))


def _of_files(data: datasets.DTD | datasets.FGVCAircraft) -> Content:
    paths = [Path(file) for file in data._image_files]
    return Content(ImageFiles(paths), np.array(data._labels, np.int64), data.classes)


_STL10_ARCHIVE = Archive(datasets.STL10.url, datasets.STL10.tgz_md5, "", "stl10_binary")
_PETS_ARCHIVES = tuple(
    Archive(url, md5, "oxford-iiit-pet", holds)
    for (url, md5), holds in zip(
        datasets.OxfordIIITPet._RESOURCES, ("images", "annotations"), strict=True
    )
)
_DTD_ARCHIVE = Archive(datasets.DTD._URL, datasets.DTD._MD5, "dtd", "dtd")
_AIRCRAFT_ARCHIVE = Archive(datasets.FGVCAircraft._URL, None, "", "fgvc-aircraft-2013b")
_OWN_SPLITS = {split: split for split in SPLITS}

SOURCES = {
    "stl10": Source(_stl10, (_STL10_ARCHIVE,), {"train": "train", "test": "test"}),
    "oxford-pets": Source(_pets, _PETS_ARCHIVES, {"train": "trainval", "test": "test"}),
    "dtd": Source(_dtd, (_DTD_ARCHIVE,), _OWN_SPLITS),
    "aircraft": Source(_aircraft, (_AIRCRAFT_ARCHIVE,), _OWN_SPLITS),
}


def load(name: str, root: Path) -> ImageSplits:
    """The splits of a dataset in SOURCES; what is not in `root` is downloaded.

    Raises:
        MissingFileError: it cannot be downloaded.
        DataError: the files in `root` are incomplete or damaged.
    """
    source = SOURCES[name]
    folder = Path(os.path.commonpath([_present(archive, root) for archive in source.archives]))
    contents = {}
    for split, theirs in source.splits.items():
        try:
            with reading(folder, "is incomplete or damaged (delete it to have it made again)"):
                contents[split] = source.read(root, theirs)
        except MissingFileError as error:  # a file of the folder
            raise DataError(
                f"{folder} is incomplete (delete it to have it made again): {error.__cause__}"
            ) from error
    class_names = contents["train"].class_names
    for split, content in contents.items():
        if content.class_names != class_names:
            raise DataError(f"{folder}: train and {split} have different classes")
    facts: dict[str, Any] = {"source": f"torchvision {name}"}
    splits = {split: ImageSet(c.images, c.labels) for split, c in contents.items()}
    if "val" not in splits:
        facts |= {"val": "held out", "split_seed": SPLIT_SEED}
        splits["train"], splits["val"] = splits["train"].hold_out()
    return ImageSplits(**splits, class_names=class_names, facts=facts)


def _present(archive: Archive, root: Path) -> Path:
    """The archive's unpacked folder, made if it is missing."""
    home = root / archive.home
    folder = home / archive.holds
    if not folder.is_dir():
        packed = home / archive.url.rsplit("/", 1)[1]
        if not packed.exists():
            fetch(archive.url, packed, archive.md5)
        try:
            unpack(packed, folder)
        except OutputError:
            if not folder.is_dir():  # else another process was first
                raise
    return folder
