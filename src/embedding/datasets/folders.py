"""Your own images in folders: `<folder>/<split>/<class>/**`, or `<folder>/<class>/**`."""

from __future__ import annotations

import logging
from pathlib import Path

from src.core.errors import DataError, MissingFileError
from src.embedding.datasets.finding import (
    Row,
    entries,
    files_below,
    is_folder,
    looks,
    name_of,
    some,
    split_of,
)

log = logging.getLogger(__name__)


def listed(folder: Path) -> list[Row]:
    """The images of a folder: by split, class and name.

    Raises:
        MissingFileError: neither class folders nor both `train` and `test` exist.
        DataError: files cannot be read, images lie in no class, a class has no images, more other
            files than images, or is not one of train's.
    """
    splits = _splits(folder)
    classes = {split: _classes(place) for split, place in (splits or {"": folder}).items()}
    _require_classes(classes, splits or {"": folder})
    files = {
        (split, name): [file for part in parts for file in files_below(part)]
        for split, names in classes.items()
        for name, parts in names.items()
    }
    outside = _outside(folder, splits)
    paths = [file for content in files.values() for file in content]
    seen = dict(zip(paths, looks(folder, paths, all_images=False), strict=True))
    lost = [
        file
        for file, found in zip(outside, looks(folder, outside, all_images=False), strict=True)
        if found
    ]
    if lost:
        raise DataError(f"images lie in no class folder: {some(lost)}; move them into or away")
    rows: list[Row] = []
    for (split, name), content in files.items():
        part = [(file, found) for file in content if (found := seen[file])]
        _require_images(classes[split][name][0], [f for f in content if not seen[f]], len(part))
        rows += [Row(file, name, split, found) for file, found in part]
    others = [file for file in paths if not seen[file]]
    if others:
        log.warning("%s: not images and not read: %s", folder, some(others))
    if not splits:
        _require_no_inner_splits(folder, rows)
    return rows


def _splits(folder: Path) -> dict[str, Path]:
    """The folders of train, val and test, whatever usual names they have; empty if there are none.

    Raises:
        MissingFileError: there are some, but not both train and test.
        DataError: two folders are the same split.
    """
    found: dict[str, Path] = {}
    inside = [entry for entry in entries(folder) if is_folder(entry)]
    for entry in inside:
        split = split_of(entry.name)
        if split in found:
            raise DataError(f"{found[split]} and {entry} are both {split}; keep one of them")
        if split:
            found[split] = entry
    for split in ("train", "test"):
        if split not in found and (found or not inside):
            raise MissingFileError(
                f"{folder / split} is not a folder; images are expected in "
                f"{folder}/{{train,val,test}}/<class>/ (val is optional), in {folder}/<class>/, "
                f"or as {folder}/labels.csv lists them"
            )
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _classes(place: Path) -> dict[str, list[Path]]:
    """Class → its folders, sorted by name; names that look the same are one class."""
    found: dict[str, list[Path]] = {}
    for entry in entries(place):
        if is_folder(entry):
            found.setdefault(name_of(entry.name, place), []).append(entry)
    return dict(sorted(found.items()))


def _require_classes(classes: dict[str, dict[str, list[Path]]], places: dict[str, Path]) -> None:
    ours = next(iter(classes.values()))  # train's come first
    for split, names in classes.items():
        if not names:
            raise DataError(f"{places[split]} has no class folders with images in them")
        for name in names.keys() - ours.keys():
            raise DataError(
                f"{names[name][0]} is a class that train does not have (it has: {', '.join(ours)})"
            )
    if len(ours) == 1:
        raise DataError(
            f"{next(iter(places.values()))} has one class folder only, '{next(iter(ours))}'; "
            "two are needed"
        )


def _outside(folder: Path, splits: dict[str, Path]) -> list[Path]:
    """Files of the folder that lie in no class folder."""
    below = [
        file
        for entry in entries(folder)
        if splits and is_folder(entry) and entry not in splits.values()
        for file in files_below(entry)
    ]
    places = [folder, *splits.values()]
    return below + [x for place in places for x in entries(place) if not is_folder(x)]


def _require_images(place: Path, others: list[Path], images: int) -> None:
    if not images:
        told = f"; it has {some(others)}" if others else ""
        raise DataError(f"{place} has no images{told}")
    if len(others) > images:
        raise DataError(
            f"{place} has {images} images but more other files: {some(others)}; convert them to "
            "images, or move them away"
        )


def _require_no_inner_splits(folder: Path, rows: list[Row]) -> None:
    """Raise DataError for `<class>/train/*`: made here, the splits would be others."""
    for row in rows:
        for part in row.path.relative_to(folder).parts[1:-1]:
            if split_of(part):
                raise DataError(
                    f"{row.path} lies in a folder '{part}' below its class; put splits above "
                    f"classes: {folder}/{{train,val,test}}/<class>/"
                )
