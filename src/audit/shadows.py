"""Releases that are made again for an audit: of halves of the rows, or without some of them.

Every fit has a seed of its own and one thread, so the same releases come from one process, from
several and from a cluster. What is finished is kept until the audit is, and found by whoever runs
the same audit again, unless persons are known.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from src import database
from src.anonymizers.base import Anonymizer
from src.anonymizers.methods import Identity
from src.audit import attacks, units
from src.core import cluster, progress, seeding, threads
from src.core.devices import Resources
from src.core.errors import DataError, InputError, MissingFileError
from src.core.provenance import fingerprint, fingerprint_arrays, versions
from src.database import EmbeddingSet

T = TypeVar("T")
FOLDER = "shadows"  # below the folder of fitted models


@dataclass(frozen=True)
class Maker:
    """How a release is made again, of whichever rows.

    Attributes:
        anonymizer: what made it; None where nobody knows.
        val: the validation rows.
        seed: of the audit.
        resources: shadows are made by its workers, and kept in its folder.
    """

    anonymizer: Anonymizer | None
    val: EmbeddingSet
    seed: int
    resources: Resources

    def as_they_are(self) -> Maker:
        """The maker for the controls, whose rows are released as they are."""
        resources = replace(self.resources, ckpt_folder=None, workers=None)
        return replace(self, anonymizer=Identity(), resources=resources)

    def release(self, rows: EmbeddingSet, name: str) -> EmbeddingSet:
        """The distinct rows of such a release of other rows.

        Args:
            name: of the release, from which its seed follows.

        Raises:
            InputError: these rows cannot be released, or nobody knows how.
        """
        if self.anonymizer is None:
            raise InputError("how this release was made is not known")
        known = attacks.subset(self.val, np.isin(self.val.labels, rows.labels))
        seed = seeding.stream_seed(self.seed, f"audit/{name}")
        unkept = replace(self.resources, ckpt_folder=None, workers=None)
        with progress.silenced(), threads.one(), threadpool_limits(1):
            released = self.anonymizer.anonymize(rows, known, seed=seed, resources=unkept)
        return attacks.distinct(released)

    def shadows(
        self, rows: EmbeddingSet, inside: np.ndarray, use: Callable[[EmbeddingSet], T]
    ) -> list[T]:
        """What `use` makes of the release of each part of the rows.

        Args:
            inside: (s, n) bool, which rows each release is made of.
            use: called with the distinct rows of each release, one at a time, in any order.

        Raises:
            InputError: a part cannot be released, or nobody knows how.
            ConnectionError: the workers are lost.
        """
        found: dict[int, T] = {}
        with progress.bar(total=len(inside), desc="shadows", unit="release") as bar:
            for number, release in self._kept_or_made(rows, inside):
                found[number] = use(release)
                bar.update()
        return [found[number] for number in range(len(inside))]

    def forget(self) -> None:
        """Remove what is kept; the audit is finished."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # another audit has shadows there, or none ever had
                self._folder.parent.rmdir()

    @property
    def _folder(self) -> Path | None:
        """Where the shadows of this release and audit are kept."""
        root = self.resources.ckpt_folder
        if root is None or self.anonymizer is None:
            return None
        return root / FOLDER / f"{self.anonymizer.release_id(self.seed)}-audit-s{self.seed}"

    def _kept_or_made(
        self, rows: EmbeddingSet, inside: np.ndarray
    ) -> Iterator[tuple[int, EmbeddingSet]]:
        paths = self._paths(rows, inside)
        missing = []
        for number, path in enumerate(paths):
            kept = path and _read(path)
            if kept:
                yield number, kept
            else:
                missing.append(number)
        make = self._here if self.resources.workers is None else self._spread
        for number, release in make(rows, inside, missing):
            if path := paths[number]:
                database.write(path, release)
            yield number, release

    def _paths(self, rows: EmbeddingSet, inside: np.ndarray) -> Sequence[Path | None]:
        """A file per shadow, named after all that its release depends on.

        None where persons are known: a list of persons could be tried against the names.
        """
        if self._folder is None or self.anonymizer is None or rows.persons is not None:
            return [None] * len(inside)
        depends_on = {
            "rows": rows.fingerprint,
            "val": self.val.fingerprint,
            "anonymizer": self.anonymizer.name,
            "settings": dataclasses.asdict(self.anonymizer),
            "seed": self.seed,
            "device": self.resources.device.type,
            "versions": versions(),
        }
        return [
            self._folder / f"{fingerprint([depends_on, number, fingerprint_arrays(part)])}.npz"
            for number, part in enumerate(inside)
        ]

    def _here(
        self, rows: EmbeddingSet, inside: np.ndarray, numbers: Sequence[int]
    ) -> Iterator[tuple[int, EmbeddingSet]]:
        """The shadows of these numbers, one after the other in this process."""
        for number in numbers:
            yield number, _shadow(self, rows, inside[number], number)

    def _spread(
        self, rows: EmbeddingSet, inside: np.ndarray, numbers: Sequence[int]
    ) -> Iterator[tuple[int, EmbeddingSet]]:
        """The shadows of these numbers, as the workers finish them."""
        client = self.resources.workers
        alone = replace(self, resources=replace(self.resources, workers=None))
        maker, everyone = (
            client.scatter(part, broadcast=True, hash=False) for part in (alone, rows)
        )

        def task(place: int) -> tuple[object, ...]:
            return maker, everyone, inside[numbers[place]], numbers[place]

        errors: dict[int, InputError] = {}
        for place, found in cluster.results(client, _tried, task, len(numbers)):
            if isinstance(found, InputError):
                errors[place] = found
            else:
                yield numbers[place], found
        if errors:
            raise errors[min(errors)]  # that which one process would have met first


def memberships(rows: EmbeddingSet, shadows: int, rng: np.random.Generator) -> np.ndarray:
    """A random half of the persons (rows) per shadow, as truth values of rows (shadows, n) bool.

    Args:
        rows: by the unit that is attacked.
    """
    halved = units.of(rows)
    return halved.rows(attacks.shadow_memberships(halved.labels, shadows, rng))


def _shadow(maker: Maker, rows: EmbeddingSet, part: np.ndarray, number: int) -> EmbeddingSet:
    return maker.release(attacks.subset(rows, part), f"shadow {number}")


def _tried(
    maker: Maker, rows: EmbeddingSet, part: np.ndarray, number: int
) -> EmbeddingSet | InputError:
    try:
        return _shadow(maker, rows, part, number)
    except InputError as error:
        return error


def _read(path: Path) -> EmbeddingSet | None:
    try:
        return database.read(path)
    except (MissingFileError, DataError):
        return None
