"""What is embedded already is kept in parts, so that an interrupted run is taken up by the next.

A part is a file of whole batches. Each batch has a name, a fingerprint of all that its rows depend
on: the images, the backbone, the arithmetic. So a part holds for any number of processes, and
where an image has changed, only its batch is embedded again.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch

from src.core.errors import InputError, OutputError
from src.core.files import reading, replacing, require_room
from src.core.provenance import fingerprint, versions
from src.embedding import distributed
from src.embedding.backbones import Backbone
from src.embedding.datasets.base import ImageSet
from src.embedding.settings import ExtractionSettings

FOLDER = "parts"  # below the folder of the embeddings
PERIOD = 20.0  # seconds of work that an interruption may cost; what is faster leaves no part
VALUE = 4  # bytes
_PARTS = "[!.]*.npz"  # without those that are being written

log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    """A finished batch: its name, rows (b, D) float32 and marks (b, 2) int64."""

    name: str
    rows: torch.Tensor
    marks: torch.Tensor


class Kept:
    """The parts of one run of one process; without a folder nothing is kept."""

    def __init__(self, folder: Path | None = None, depends_on: str = "") -> None:
        self._folder, self._depends_on = folder, depends_on
        self._finished: list[_Batch] = []  # and not yet written
        self._writable = True
        self._started = self._written = time.monotonic()

    def require_room(self, rows: int, dim: int) -> None:
        """Raise OutputError where the disk has no room for all parts and the files made of them.

        Args:
            rows: of all splits.
        """
        if self._folder is None:
            return
        kept = 0
        for path in self._folder.glob(_PARTS):
            with suppress(OSError):  # the same run in another process has ended
                kept += path.stat().st_size
        needed = max(0, 2 * rows * dim * VALUE - kept)
        require_room(self._folder.parent.parent, needed, "embeddings and their parts")

    def restore(
        self,
        images: ImageSet,
        batches: Mapping[int, slice],
        rows: torch.Tensor,
        marks: torch.Tensor,
        title: str,
    ) -> dict[int, str | None]:
        """Fill in the batches that are found in parts.

        Args:
            batches: the rows of each, by its number.
            rows: (n, D) float32, to be filled in.
            marks: (n, 2) int64, to be filled in.
            title: of the split.

        Returns:
            The numbers of all others, ascending, with their names.
        """
        names = {number: self._name(images, place) for number, place in batches.items()}
        wanted = defaultdict(list)
        for number, name in names.items():
            if name is not None:
                wanted[name].append(number)
        missing = dict(names)
        for path in sorted(self._folder.glob(_PARTS)) if self._folder else ():
            for batch in _read(path, wanted.keys(), rows.shape[1]):
                for number in wanted.pop(batch.name, ()):
                    rows[batches[number]] = batch.rows.to(rows.device)
                    marks[batches[number]] = batch.marks.to(marks.device)
                    del missing[number]
        if len(missing) < len(batches):
            whole, left = (sum(_length(batches[b]) for b in part) for part in (batches, missing))
            share = " of this process" * (distributed.world_size() > 1)
            log.info(
                "%s: %s of %s images%s are embedded already",
                *(title, f"{whole - left:,}", f"{whole:,}", share),
            )
        return missing

    def _name(self, images: ImageSet, rows: slice) -> str | None:
        """The name of a batch, before it is read: no part holds for what has changed meanwhile."""
        if self._folder is None:
            return None
        try:
            return fingerprint([self._depends_on, images.stamp(np.arange(rows.start, rows.stop))])
        except OSError:  # a file is missing, which reading it will say
            return None

    def add(self, name: str | None, rows: torch.Tensor, marks: torch.Tensor) -> None:
        """Keep a finished batch; now and then all since the last time are written."""
        if not self._writable or name is None:
            return
        self._finished.append(_Batch(name, rows, marks))
        if time.monotonic() - self._written >= PERIOD:
            self._write()

    def end_split(self) -> None:
        """Write what is left, unless the whole run has been fast until now."""
        if time.monotonic() - self._started >= PERIOD:
            self._write()
        self._finished = []

    def _write(self) -> None:
        if self._folder is None or not self._finished:
            return
        names, rows, marks = zip(*self._finished, strict=True)
        try:
            with (
                replacing(self._folder / f"{names[0]}.npz") as path,
                path.open("wb") as file,
            ):
                np.savez(
                    file,
                    names=np.array(names),
                    counts=np.array([len(batch) for batch in rows]),
                    rows=torch.cat(rows).cpu().numpy(),
                    marks=torch.cat(marks).cpu().numpy(),
                )
        except OutputError as error:  # the run itself can still end well
            log.warning("%s; what is embedded from here on is not kept in parts", error)
            self._writable = False
        self._finished, self._written = [], time.monotonic()


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _read(path: Path, wanted: Set[str], dim: int) -> Iterator[_Batch]:
    """The batches of a part that are wanted; none of a damaged one."""
    try:
        with reading(path), np.load(path, allow_pickle=False) as part:
            names = part["names"].tolist()
            if wanted.isdisjoint(names):
                return
            rows, marks, counts = (part[key] for key in ("rows", "marks", "counts"))
            shapes = (len(names),), (counts.sum(), dim), (counts.sum(), 2)
            if (counts.shape, rows.shape, marks.shape) != shapes or rows.dtype != np.float32:
                raise ValueError("its arrays do not fit each other")
    except InputError as error:
        log.info("%s; what it held is embedded again", error)
        return
    ends = np.cumsum(counts)[:-1]
    for name, *batch in zip(names, np.split(rows, ends), np.split(marks, ends), strict=True):
        yield _Batch(name, *map(torch.from_numpy, batch))


def kept(
    folder: Path, backbone: Backbone, options: ExtractionSettings, image_size: int | None
) -> Kept:
    """Where the parts of a run are kept.

    Args:
        folder: of the embeddings.
    """
    device = backbone.device
    depends_on = {
        "backbone": [backbone.name, backbone.dim, backbone.facts],
        "precision": options.precision,
        "batch_size": options.batch_size,
        "image_size": image_size,
        "device": [device.type, *_rounding(device)],
        "versions": {**versions(), "pillow": PIL.__version__},
    }
    run = fingerprint(depends_on)
    return Kept(folder / FOLDER / run, run)


def _rounding(device: torch.device) -> list[Any]:
    """What the last bits of a result depend on besides the kind of device."""
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device)]
    return [torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()]


def forget(folder: Path) -> None:
    """Remove the parts of all runs below the folder of embeddings; these are written."""
    for run in (folder / FOLDER).glob("[0-9a-f]" * 16):
        shutil.rmtree(run, ignore_errors=True)
    with suppress(OSError):  # the folder does not exist, or holds other files
        (folder / FOLDER).rmdir()
