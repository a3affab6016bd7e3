"""What every step of a sweep is: something that can be done, and knows whether it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from src.anonymizers.base import Anonymizer
from src.core import devices
from src.core.devices import Resources
from src.core.errors import DataError, MissingFileError
from src.database import IDENTITY, SPLITS, Database, EmbeddingSet, Splits


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The device and the folders of all steps of a sweep."""

    device: str
    dataset_root: Path
    database_root: Path
    ckpt_root: Path
    output_root: Path


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """Something to do for one dataset and backbone."""

    makes: ClassVar[str]  # one word, as a dry run prints it

    place: Workplace
    database: Database
    after: Step | None = None  # the step that has to be done before
    siblings: tuple[Step, ...] = field(default=(), compare=False, repr=False)
    """Steps that the first of them to be performed does, too, as that is faster."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A name, unique within the sweep."""

    @abstractmethod
    def complete(self) -> bool:
        """Whether all that it makes exists, as it would be made now.

        Raises:
            MissingFileError, DataError: a file that it reads cannot be used.
        """

    @abstractmethod
    def perform(self) -> None:
        """Do what is left to do.

        Raises:
            InputError: it cannot be done with these settings, files or device.
        """

    def done(self) -> bool:
        """Whether nothing is left to do; a file that cannot be used is something to do."""
        try:
            return self.complete()
        except (MissingFileError, DataError):
            return False

    def missing(self) -> tuple[Step, ...]:
        """The steps that have to be performed for this one, itself last; none if it is done."""
        if self.done():
            return ()
        return (*(self.after.missing() if self.after else ()), self)

    @property
    def where(self) -> str:
        """Dataset and backbone, with which the names of steps begin."""
        return f"{self.database.dataset}/{self.database.backbone}"

    def splits(self) -> Splits:
        """The real embeddings, read once per process as long as the files stay the same.

        Raises:
            MissingFileError, DataError: as `Database.read`.
        """
        return _splits(self.database, *map(_state, map(self.database.path, SPLITS)))

    def released(self, anonymizer: Anonymizer, seed: int) -> EmbeddingSet:
        """The anonymizer's release of the real embeddings.

        Raises:
            MissingFileError: it does not exist, or was made differently.
            DataError: it or the real embeddings are damaged.
        """
        splits, release_id = self.splits(), anonymizer.release_id(seed)
        released = self.database.read_release(release_id, splits.train)
        origin = anonymizer.origin(splits.train, splits.val, seed=seed)
        if anonymizer.name != IDENTITY and not origin.items() <= released.meta.items():
            path = self.database.path("train", release_id)
            raise MissingFileError(f"{path} was made with other settings or from other embeddings")
        return released

    def resources(self) -> Resources:
        """The device, the folder for fitted models, and a share of the memory."""
        folder = self.database.folder_in(self.place.ckpt_root)
        return devices.resources(self.place.device, folder, share=0.25)


@lru_cache(maxsize=2)
def _splits(database: Database, *states: tuple[int, int]) -> Splits:
    return database.read()


def _state(path: Path) -> tuple[int, int]:
    """Numbers that change when a file is replaced."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
