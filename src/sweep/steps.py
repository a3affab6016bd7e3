"""The steps of a sweep: extract embeddings, fit an anonymizer, fit a head, audit a release.

Steps speak to each other through files alone, each looks first at what is there already, and
every file is written whole or not at all. So any step may be repeated, anywhere, at any time.
A further kind of step is a class here and a line in `plan`.
"""

from __future__ import annotations

import itertools
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from src import anonymizers, runs
from src.anonymizers import Resources
from src.anonymizers.settings import DecoderSettings
from src.audit import results as audits
from src.audit.results import AuditSettings
from src.database import (
    IDENTITY,
    SPLITS,
    Database,
    EmbeddingSet,
    Splits,
    data_folder,
    read,
    write,
)
from src.errors import DataError, MissingFileError
from src.head import HeadSettings
from src.sweep.config import Sweep, Variant

# What a run can need.
EMBEDDINGS, FIT, HEAD, AUDIT = "embeddings", "fit", "head", "audit"


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """What all steps of a sweep share: folders, device, the head and the noise levels."""

    dataset_root: Path
    database_root: Path
    ckpt_root: Path
    output_root: Path
    device: str
    head: HeadSettings
    sigma: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """Something to do for one data set and backbone."""

    place: Workplace
    dataset: str
    backbone: str

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, different for all steps of a sweep."""

    @abstractmethod
    def perform(self) -> None:
        """Do what is not done yet.

        Raises:
            InputError: it cannot be done with these settings, files or device.
        """

    @property
    def database(self) -> Database:
        """Where the embeddings are."""
        return Database(self.place.database_root, self.dataset, self.backbone)

    def splits(self) -> Splits:
        """The real embeddings, read once a process for as long as the files stay the same.

        Raises:
            MissingFileError, DataError: as `Database.splits`.
        """
        return _splits(self.database, *map(_state, map(self.database.path, SPLITS)))

    def resources(self) -> Resources:
        """Device, folder for fitted models, memory."""
        from src import devices

        device = devices.resolve(self.place.device)
        folder = data_folder(self.place.ckpt_root, self.dataset, self.backbone)
        return Resources(device, folder, devices.free_memory(device) // 4)


@dataclass(frozen=True, kw_only=True)
class Extraction(Step):
    """The embedding database, as create_db.py makes it."""

    @property
    def name(self) -> str:
        """Data set and backbone."""
        return f"{self.dataset}/{self.backbone}: embeddings"

    @property
    def needed(self) -> bool:
        """Whether a split is not there."""
        return not all(self.database.path(split).exists() for split in SPLITS)

    def perform(self) -> None:
        """Embed all splits.

        Raises:
            DataError: a split is missing beside others that were not made by this step.
        """
        if not self.needed:
            return
        from src import embeddings

        for path in filter(Path.exists, map(self.database.path, SPLITS)):
            meta = read(path).meta
            if meta.get("image_size") or meta.get("precision") != "fp32":
                raise DataError(
                    f"{path} was made with settings that a sweep does not have, and another split "
                    "is missing; run create_db.py as it was run for this one"
                )

        # A Dask worker's process may not have children that decode images.
        alone = multiprocessing.current_process().daemon
        embeddings.create(
            self.database,
            dataset_root=self.place.dataset_root,
            device=self.place.device,
            num_workers=0 if alone else None,
        )


@dataclass(frozen=True, kw_only=True)
class Fit(Step):
    """One grouping or fitted model, and all releases that it serves."""

    variants: tuple[Variant, ...]
    seed: int

    @property
    def name(self) -> str:
        """The id of the fit."""
        return f"{self.dataset}/{self.backbone}: fit {self.variants[0].fit_id(self.seed)}"

    def perform(self) -> None:
        """Fit the decoder of online variants, write the releases of the others."""
        splits = self.splits()
        arguments = (splits.train, splits.val)
        resources = self.resources()
        for variant in self.variants:
            if variant.anonymizer.online:
                anonymizers.decoder(*variant, *arguments, seed=self.seed, resources=resources)
            elif stored_release(self.database, splits, variant, self.seed) is None:
                released = anonymizers.anonymize(
                    *variant, *arguments, seed=self.seed, resources=resources
                )
                write(self.database.path("train", variant.release_id(self.seed)), released)


@dataclass(frozen=True, kw_only=True)
class Run(Step):
    """What a sweep is for: something that is found out about one variant and seed."""

    variant: Variant
    seed: int
    kind: ClassVar[str]  # HEAD or AUDIT

    @abstractmethod
    def missing(self) -> bool:
        """Whether something of the result is not there, or not as it would be made now.

        Raises:
            NotReleasedError: the release has yet to be made.
            MissingFileError, DataError: the real embeddings cannot be read.
        """

    def needs(self) -> tuple[str, ...]:
        """What is missing, of EMBEDDINGS, FIT and its kind; nothing where the result is kept."""
        fitted = (FIT,) if self.variant.anonymizer.name != IDENTITY else ()
        try:
            if not self.missing():
                return ()
        except NotReleasedError:
            return (FIT, self.kind)
        except MissingFileError:
            return (EMBEDDINGS, *fitted, self.kind)
        except DataError:  # each run on this data set will report it
            return (self.kind,)
        return (FIT, self.kind) if self.variant.anonymizer.online else (self.kind,)

    def released(self) -> EmbeddingSet:
        """The variant's release.

        Raises:
            NotReleasedError: it is not there, or was made otherwise.
            MissingFileError, DataError: the real embeddings cannot be read.
        """
        released = stored_release(self.database, self.splits(), self.variant, self.seed)
        if released is None:
            path = self.database.path("train", self.variant.release_id(self.seed))
            raise NotReleasedError(f"{path} was there and is gone, or was replaced")
        return released


class NotReleasedError(MissingFileError):
    """A release has yet to be made."""


@dataclass(frozen=True, kw_only=True)
class Head(Run):
    """A head on what a variant gives, evaluated at all noise levels."""

    kind = HEAD

    @property
    def name(self) -> str:
        """Data set, backbone, variant and seed."""
        return f"{self.dataset}/{self.backbone}: {self.variant.label}, seed {self.seed}"

    def run(self) -> runs.Run:
        """The run on the files that are there now; raises as `released`."""
        anonymizer, settings = self.variant
        shared: dict[str, Any] = {
            "database": self.database,
            "splits": self.splits(),
            "head": self.place.head,
            "seed": self.seed,
            "output_root": self.place.output_root,
        }
        if isinstance(settings, DecoderSettings) and anonymizer.online:
            return runs.OnlineRun(anonymizer=anonymizer, settings=settings, **shared)
        release_id = self.variant.release_id(self.seed)
        return runs.OfflineRun(released=self.released(), release_id=release_id, **shared)

    def missing(self) -> bool:
        """Whether a noise level has no result."""
        return bool(self.run().missing(self.place.sigma))

    def perform(self) -> None:
        """Fit the head and write what is missing of its results."""
        run = self.run()
        missing = run.missing(self.place.sigma)
        if missing:
            run.perform(missing, self.resources())


@dataclass(frozen=True, kw_only=True)
class Audit(Run):
    """The privacy audit of a release."""

    audit: AuditSettings
    kind = AUDIT

    @property
    def name(self) -> str:
        """Data set, backbone, variant and seed."""
        return f"{self.dataset}/{self.backbone}: audit of {self.variant.label}, seed {self.seed}"

    @property
    def path(self) -> Path:
        """The audit's file."""
        release_id = self.variant.release_id(self.seed)
        return audits.audit_path(
            self.place.output_root, self.dataset, self.backbone, release_id, self.seed
        )

    def identity(self) -> dict[str, Any]:
        """What the audit must have been made from; raises as `released`."""
        return audits.identity(
            self.splits(), self.released(), *self.variant, seed=self.seed, audit=self.audit
        )

    def missing(self) -> bool:
        """Whether there is no such audit."""
        return audits.read(self.path, self.identity()) is None

    def perform(self) -> None:
        """Attack the release and write the figures."""
        if not self.missing():
            return
        from src.audit.run import audit_to_file

        audit_to_file(
            self.path,
            self.splits(),
            self.released(),
            *self.variant,
            dataset=self.dataset,
            backbone=self.backbone,
            seed=self.seed,
            options=self.audit,
            resources=self.resources(),
        )


class Planned(NamedTuple):
    """A step, and the names of those that must have succeeded before it."""

    step: Step
    after: tuple[str, ...]


def runs_of(sweep: Sweep, place: Workplace) -> list[Run]:
    """All runs of a sweep, in the order of its configuration; only released rows are audited."""
    found: list[Run] = []
    for dataset, backbone in sweep.tables():
        for variant, seed in itertools.product(sweep.variants, sweep.seeds):
            at: dict[str, Any] = {
                "place": place,
                "dataset": dataset,
                "backbone": backbone,
                "variant": variant,
                "seed": seed,
            }
            found.append(Head(**at))
            if sweep.audit and not variant.anonymizer.online:
                found.append(Audit(**at, audit=sweep.audit))
    return found


def plan(needs: Mapping[Run, Collection[str]], variants: Sequence[Variant]) -> list[Planned]:
    """The steps that give each run what it needs, every extraction and fit once.

    Args:
        needs: what each run needs.
        variants: all of the sweep's, of which one fit serves several.
    """
    planned: dict[str, Planned] = {}

    def require(step: Step, after: tuple[str, ...]) -> tuple[str, ...]:
        planned.setdefault(step.name, Planned(step, after))
        return (step.name,)

    for run, missing in needs.items():
        at: dict[str, Any] = {
            "place": run.place,
            "dataset": run.dataset,
            "backbone": run.backbone,
        }
        after: tuple[str, ...] = ()
        if EMBEDDINGS in missing:
            after = require(Extraction(**at), after)
        if FIT in missing:
            fit_id = run.variant.fit_id(run.seed)
            served = tuple(v for v in variants if v.fit_id(run.seed) == fit_id)
            after = require(Fit(**at, variants=served, seed=run.seed), after)
        if run.kind in missing:
            require(run, after)
    return list(planned.values())


def stored_release(
    database: Database, splits: Splits, variant: Variant, seed: int
) -> EmbeddingSet | None:
    """A variant's release, if its file is there, whole and made as it would be made now."""
    anonymizer, settings = variant
    try:
        released = database.release(variant.release_id(seed), splits.train)
    except (MissingFileError, DataError):
        return None
    wanted = anonymizers.made_from(anonymizer, settings, splits.train, splits.val, seed=seed)
    same = all(released.meta.get(key) == value for key, value in wanted.items())
    return released if same or anonymizer.name == IDENTITY else None


@lru_cache(maxsize=2)
def _splits(database: Database, *states: tuple[int, int]) -> Splits:
    return database.splits()


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
