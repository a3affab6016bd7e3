"""Blocks of rows that are grouped one by one: here or by workers, each kept until all are made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from src.core import cluster, progress
from src.core.devices import Resources
from src.core.files import replacing, require_room
from src.core.provenance import fingerprint, fingerprint_arrays
from src.database import EmbeddingSet

FOLDER = "blocks"  # below the folder of fitted models
BYTES = 9  # per row, of what is kept


# Rows (n, D) and their persons (n,) or None → groups (m, k) of row numbers; it can be pickled.
Group = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def grouped(
    data: EmbeddingSet, cut: Sequence[np.ndarray], group: Group, name: str, resources: Resources
) -> list[np.ndarray]:
    """The groups of rows (m, k) int64 that are made within each block, by row numbers of `data`.

    An interrupted run is taken up by the next one with the same rows, blocks and name, except
    where persons are known.

    Args:
        cut: the row numbers of each block.
        name: says what the groups depend on besides the block's rows.

    Raises:
        OutputError: the disk has no room for what is kept.
        ConnectionError: the workers are lost.
    """
    kept = None  # of persons nothing is: its name would be one to try lists of persons against
    if resources.ckpt_folder is not None and len(cut) > 1 and data.persons is None:
        depends_on = [data.fingerprint, fingerprint_arrays(*cut), name]
        kept = resources.ckpt_folder / FOLDER / fingerprint(depends_on)
        require_room(kept, BYTES * len(data), "finished blocks")
    found = {i: groups for i in range(len(cut)) if (groups := _read(kept, i)) is not None}
    missing = [i for i in range(len(cut)) if i not in found]

    def task(place: int) -> tuple[np.ndarray, np.ndarray | None]:
        rows = cut[missing[place]]
        return data.embeddings[rows], None if data.persons is None else data.persons[rows]

    with progress.bar(total=len(cut), initial=len(found), desc="k-Same", unit="block") as bar:
        for place, groups in _made(group, task, len(missing), resources):
            found[missing[place]] = groups
            _keep(kept, missing[place], groups)
            bar.update()
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
        with suppress(OSError):  # another run's are there
            kept.parent.rmdir()
    return [rows[found[i]] for i, rows in enumerate(cut)]


def _made(
    group: Group,
    task: Callable[[int], tuple[np.ndarray, np.ndarray | None]],
    count: int,
    resources: Resources,
) -> Iterator[tuple[int, np.ndarray]]:
    """The groups of each task, with its number, as they are finished."""
    if resources.workers is None:
        for number in range(count):
            yield number, group(*task(number))
        return
    yield from cluster.results(resources.workers, group, task, count)


def _read(folder: Path | None, number: int) -> np.ndarray | None:
    """Groups that are kept, if they are whole."""
    if folder is None:
        return None
    try:
        return np.asarray(np.load(folder / f"{number}.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None


def _keep(folder: Path | None, number: int, groups: np.ndarray) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{number}.npy") as path, path.open("wb") as file:
            np.save(file, groups)
