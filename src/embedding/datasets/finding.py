"""Which files of a folder are images: each is read, or refused with how many there are."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from src.core import progress
from src.core.errors import DataError, InputError
from src.core.files import reading
from src.embedding.datasets.decoding import look
from src.embedding.datasets.grey import Look

# Left by systems and by programs that synchronise folders; with everything that begins with a dot.
LEFTOVERS = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "@recycle", "#recycle"),
    *("__macosx", "$recycle.bin", "system volume information", "lost+found"),
}
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **dict.fromkeys(("val", "validation", "valid", "dev"), "val"),
}

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """An image with what is known of it; `split` and `person` are "" where nothing says them."""

    path: Path
    label: str
    split: str
    look: Look
    person: str = ""


def name_of(text: str, where: object) -> str:
    """A name as people read it: composed (NFC), without blanks at its ends.

    Raises:
        DataError: it is empty or not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the name {text!r} is not UTF-8; rename it") from error
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise DataError(f"{where}: the name '{text}' is only blanks")
    return name


def split_of(text: str) -> str | None:
    """The split that a folder or a cell names, None if it names none."""
    return SPLIT_NAMES.get(unicodedata.normalize("NFC", text).strip().lower())


def entries(folder: Path) -> list[Path]:
    """The content of a folder sorted by name, without what is hidden or left over.

    Raises:
        DataError: it cannot be read.
    """
    with reading(folder, "is not a folder that can be read"):
        return sorted(
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith((".", "~$")) and entry.name.lower() not in LEFTOVERS
        )


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files in a folder and the folders in it, sorted by name.

    Raises:
        DataError: a folder cannot be read, or is linked into itself.
    """
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder} is a link to a folder that it lies in")
    for entry in entries(folder):
        if is_folder(entry):
            yield from files_below(entry, (*above, real))
        else:
            yield entry


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    with reading(path, "cannot be read"):
        return path.is_dir()


def looks(folder: Path, paths: Sequence[Path], *, all_images: bool) -> list[Look | None]:
    """What the headers of files in `folder` say; None for a file that is not an image.

    Args:
        all_images: whether that is an error too.

    Raises:
        DataError: files cannot be read or hold several images: the first, and how many.
    """
    found: list[Look | None] = []
    failures: list[InputError] = []
    for path in progress.bar(paths, desc="looking at files", unit=" files"):
        try:
            seen = look(path)
            if seen is None and all_images:
                raise DataError(f"{path} is not an image")
            if seen and seen.frames > 1:
                raise DataError(
                    f"{path} has {seen.frames} pages or frames; only single images are read: "
                    "save each as a file of its own, or the one that counts"
                )
            found.append(seen)
        except InputError as error:
            failures.append(error)
    if failures:
        raise first_of(failures, f"{len(paths)} files in {folder}")
    return found


def first_of(failures: Sequence[InputError], whole: str) -> InputError:
    """The first of several errors, with how many there are of how many."""
    if len(failures) == 1:
        return failures[0]
    kind = type(failures[0])
    return kind(f"{failures[0]} (the first of {len(failures)} such, of {whole})")


def some(paths: Sequence[Path]) -> str:
    """How many files, and the first."""
    return f"{len(paths)} file{'s' * (len(paths) > 1)}, the first {paths[0]}"
