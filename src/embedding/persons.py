"""Whose each row is: numbers in the place of ids, which are neither kept nor printed.

A number follows from which rows belong together and from the order of the rows in the files, so
that it says nothing else of an id: persons are counted in the order in which they first appear
in train, val and test. Ids that are renamed give the same files.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.core.errors import DataError, InputError, MissingFileError
from src.embedding import delimited

NAMES = {  # of a column
    *("person", "person_id", "persons", "patient", "patient_id", "patientid", "patients"),
    *("subject", "subject_id", "subjectid", "subjects"),
}
FILE_NAMES = {"file", "filename", "file_name", "filepath", "path", "stem", "image"}
FOLDER, DICOM, NONE = "folder", "dicom", "none"  # instead of a file
_UNKNOWN = "files that are not among the images"
_SEVERAL = "files that several images could be (write more of their paths)"
_TWICE = "images again"
_MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>"}

log = logging.getLogger(__name__)


class Choice(NamedTuple):
    """What is asked for: where persons come from, and splits that are made by person.

    Attributes:
        source: a file, FOLDER, DICOM or NONE; None: wherever the dataset itself says them.
        by_person: whether splits that exist are put together and made again, by person.
    """

    source: Path | str | None = None
    by_person: bool = False

    @property
    def flags(self) -> str:
        """The flags that ask for it, "" for none."""
        given = f"--persons {self.source}" if self.source not in (None, NONE) else ""
        return given or "--split person" * self.by_person


UNASKED = Choice()


def column_name(text: str) -> str:
    """A column's name as names are compared: `Patient ID` is `patient_id`."""
    return re.sub(r"[\s\-]+", "_", text.strip().lower())


def codes(ids: Sequence[str], where: object) -> np.ndarray:
    """A number per row, (n,) int64, the same for rows of the same id.

    Blanks at the ends do not count, nor how letters are composed; `100`, `100.0` and `0100`, as
    programs write a number, are one id.

    Raises:
        DataError: rows have no id.
    """
    cleaned = [_cleaned(text) for text in ids]
    missing = sum(text.lower() in _MISSING for text in cleaned)
    if missing:
        raise DataError(
            f"{where}: {missing} of {len(ids)} rows have no person; all must have one, or none"
        )
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in cleaned], np.int64)


def _cleaned(text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[0-9]{1,99}(\.0*)?", text) else text


def numbered(splits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The persons of each split, (n,) int64, counted from 0 in the order of first appearance."""
    whose = np.concatenate(list(splits.values()))
    _, first, inverse = np.unique(whose, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse]
    ends = np.cumsum([len(part) for part in splits.values()])
    return dict(zip(splits, np.split(numbers, ends[:-1]), strict=True))


def counts(splits: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How many persons there are, and in several splits, as `facts` record it.

    Empty where persons are not known.
    """
    if not splits:
        return {}
    found = {name: np.unique(part) for name, part in splits.items()}
    times = np.unique(np.concatenate(list(found.values())), return_counts=True)[1]
    return {
        "persons": len(times),
        **{f"persons_in_{name}": len(part) for name, part in found.items()},
        "persons_in_several_splits": int((times > 1).sum()),
    }


def warn(splits: Mapping[str, np.ndarray]) -> None:
    """Say how many persons are in two splits, if any are."""
    number = counts(splits)
    if not number.get("persons_in_several_splits"):
        return
    rows = [
        f"{np.isin(splits[name], splits['train']).sum()} of {len(splits[name])} rows of {name}"
        for name in ("test", "val")
    ]
    log.warning(
        "persons across splits: %d of %d persons are in more than one (%s are of persons who are "
        "in train); results will not be those for new persons; --split person makes the splits "
        "by person",
        *(number["persons_in_several_splits"], number["persons"], " and ".join(rows)),
    )


def listed(
    path: Path, images: Sequence[Path], *, whole: bool = True, optional: bool = False
) -> np.ndarray | None:
    """The persons of images, (n,) int64, as a table with the columns `file` and `person` says.

    A file is a path, or the end of one, with or without its suffix.

    Args:
        whole: whether every line must be of one of these images.
        optional: whether the table may be without a column of persons: None.

    Raises:
        MissingFileError: there is no such table.
        DataError: images are missing, unknown, listed twice or in a line that fits several.
    """
    table = delimited.opened(path)
    file = _column(path, table.columns, FILE_NAMES, "file")
    person = _column(path, table.columns, NAMES, "person", optional)
    if person is None or file is None:
        return None
    places = _Places(images)
    ids: dict[int, str] = {}
    wrong: dict[str, list[str]] = {}
    for _, cells in table.lines:
        found = places.of(cells[file])
        if len(found) == 1 and found[0] not in ids:
            ids[found[0]] = cells[person]
        elif found or whole:
            problem = (_TWICE if len(found) == 1 else _SEVERAL) if found else _UNKNOWN
            wrong.setdefault(problem, []).append(cells[file].strip())
    for problem, names in wrong.items():
        raise DataError(f"{path} lists {len(names)} {problem}, the first '{names[0]}'")
    absent = [image for i, image in enumerate(images) if i not in ids]
    if absent:
        raise MissingFileError(
            f"{path} does not say whose {len(absent)} of {len(images)} images are, the first "
            f"{absent[0]}"
        )
    return codes([ids[i] for i in range(len(images))], path)


def _column(
    path: Path, columns: list[str], names: set[str], wanted: str, optional: bool = False
) -> int | None:
    """The number of the one column with one of these names."""
    found = [i for i, column in enumerate(columns) if column_name(column) in names]
    exact = [i for i in found if column_name(columns[i]) == wanted]
    if len(exact) == 1:
        return exact[0]
    if not found and optional:
        return None
    if len(found) != 1:
        what = f"several columns '{wanted}'" if found else f"no column '{wanted}'"
        raise DataError(f"{path} has {what} (it has: {', '.join(columns)})")
    return found[0]


class _Places:
    """Images by the ends of their paths."""

    def __init__(self, images: Sequence[Path]) -> None:
        self.parts = [_parts(str(image.absolute())) for image in images]
        self.named: dict[str, list[int]] = {}
        for i, parts in enumerate(self.parts):
            for name in {parts[-1], Path(parts[-1]).stem}:
                self.named.setdefault(name, []).append(i)

    def of(self, name: str) -> list[int]:
        """The numbers of the images whose path ends so, those with the same suffix first."""
        parts = _parts(name)
        if not parts:
            return []
        found = [
            i
            for i in self.named.get(parts[-1], [])
            if self.parts[i][-len(parts) : -1] == parts[:-1]
        ]
        exact = [i for i in found if self.parts[i][-1] == parts[-1]]
        return exact or found


def _parts(text: str) -> tuple[str, ...]:
    """The parts of a path, composed and without blanks at their ends."""
    path = unicodedata.normalize("NFC", text).replace("\\", "/")
    return tuple(part.strip() for part in path.split("/") if part.strip() not in ("", "."))


def of_folders(names: Sequence[str], folder: Path) -> np.ndarray:
    """The persons of images, (n,) int64, by the folder below the class that each lies in.

    Args:
        names: of these folders, "" for an image that lies in the class itself.

    Raises:
        DataError: images lie in no such folder.
    """
    outside = sum(not name for name in names)
    if outside:
        raise DataError(
            f"--persons {FOLDER}: {outside} of {len(names)} images in {folder} lie in no folder "
            "below their class, which would be their person"
        )
    return codes(names, folder)


def required(whose: np.ndarray | None, where: object) -> np.ndarray:
    """The persons, by whom splits are to be made.

    Raises:
        InputError: they are not known.
    """
    if whose is None:
        raise InputError(
            f"--split person: nothing says whose the rows of {where} are (see --persons)"
        )
    return whose
