"""The steps of a sweep: extract embeddings, anonymize them, probe a release, audit it.

Steps speak to each other through files alone, each looks first at what exists already, and
every file is written whole or not at all. So any step may be repeated, anywhere, at any time.
A further kind of step is a class here and a line in `runs`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer, Sampled
from src.audit import records as audits
from src.audit.settings import AuditSettings
from src.core import devices
from src.core.devices import Resources
from src.core.errors import DataError
from src.database import IDENTITY, SPLITS, Database, EmbeddingSet, Splits, read
from src.embedding.settings import ExtractionSettings
from src.probing import results
from src.probing.settings import HeadSettings
from src.report.grid import Sweep
from src.sweep.base import Step, Workplace

if TYPE_CHECKING:
    from src.probing.head import Head


@dataclass(frozen=True, kw_only=True)
class Extract(Step):
    """The embedding database, as create_db.py makes it."""

    makes = "embeddings"

    image_size: int | None

    @property
    def name(self) -> str:
        """Dataset and backbone."""
        return f"{self.where}: embeddings"

    def complete(self) -> bool:
        """Whether all splits exist."""
        return all(self.database.path(split).exists() for split in SPLITS)

    def perform(self) -> None:
        """Embed all splits.

        Raises:
            DataError: a split is missing beside others that were not made by this step.
        """
        if self.done():
            return
        from src.embedding import backbones, datasets, extraction

        self._require_same_settings()
        dataset, device = self.database.dataset, devices.resolve(self.place.device)
        size = self.image_size
        images = datasets.load(dataset, root=self.place.dataset_root, image_size=size)
        backbone = backbones.load(
            self.database.backbone, images, device=device, image_size=images.model_size(size)
        )
        # A Dask worker's process may not have children that decode images.
        alone = multiprocessing.current_process().daemon
        options = ExtractionSettings(num_workers=0 if alone else None)
        sets = extraction.embed(dataset, images, backbone, options, image_size=size)
        for split, data in sets.items():
            self.database.write(split, data)

    def _require_same_settings(self) -> None:
        self.database.require_own()
        for path in filter(Path.exists, map(self.database.path, SPLITS)):
            meta = read(path).meta
            size = meta.get("image_size")
            if size != self.image_size or meta.get("precision") != "fp32":
                raise DataError(
                    f"{path} was made with settings that a sweep does not have, and another split "
                    "is missing; run create_db.py again as for this one"
                )


@dataclass(frozen=True, kw_only=True)
class Anonymize(Step):
    """One grouping or fitted model, and all releases that it serves."""

    makes = "fit"

    anonymizers: tuple[Anonymizer, ...]  # all that it serves
    wanted: Anonymizer = field(compare=False)  # the one that a run needs
    seed: int

    @property
    def name(self) -> str:
        """The id of the fit."""
        return f"{self.where}: fit {self.wanted.fit_id(self.seed)}"

    def complete(self) -> bool:
        """Whether the wanted release exists; whether a fitted decoder does, fitting finds out."""
        if _is_online(self.wanted):
            return False
        self.released(self.wanted, self.seed)
        return True

    def perform(self) -> None:
        """Fit the decoders for fresh draws, write the releases that do not exist."""
        splits, resources = self.splits(), self.resources()
        for anonymizer in self.anonymizers:
            if _is_online(anonymizer):
                anonymizer.decoder(splits.train, splits.val, seed=self.seed, resources=resources)
            elif not replace(self, wanted=anonymizer).done():
                released = anonymizer.anonymize(
                    splits.train, splits.val, seed=self.seed, resources=resources
                )
                self.database.write("train", released, anonymizer.release_id(self.seed))


@dataclass(frozen=True, kw_only=True)
class Probe(Step):
    """A head on what an anonymizer gives, evaluated at all noise levels."""

    makes = "head"

    anonymizer: Anonymizer
    seed: int
    head: HeadSettings
    sigma: tuple[float, ...]

    @property
    def name(self) -> str:
        """Dataset, backbone, anonymizer, seed, and the head if it is not the published one."""
        head = "" if self.head.published else f", {self.head.label}"
        return f"{self.where}: {self.anonymizer.label}, seed {self.seed}{head}"

    def complete(self) -> bool:
        """Whether every noise level has a result."""
        return not self._missing_trials(self._rows())

    def perform(self) -> None:
        """Fit the head, write the results that do not exist."""
        rows = self._rows()
        missing = self._missing_trials(rows)
        if not missing:
            return
        from src.probing import head, metrics

        splits, resources = self.splits(), self.resources()
        if rows is None:
            fitted, rows = self._fit_online(splits, resources)
        else:
            fitted = head.fit(rows, splits, self.head, seed=self.seed, device=resources.device)
        distance = metrics.average_mindistance(rows, splits.train, resources.device)
        extreme = head.extreme_rows(fitted, splits.test)
        for trial in missing:
            scores = head.evaluate(fitted, splits.test, trial.sigma or 0.0, seed=self.seed)
            results.write(self.place.output_root, trial, fitted, scores, distance, extreme)

    def _rows(self) -> EmbeddingSet | None:
        """The released rows, None for fresh draws; raises what `released` does."""
        if _is_online(self.anonymizer):
            return None
        return self.released(self.anonymizer, self.seed)

    def _missing_trials(self, rows: EmbeddingSet | None) -> list[results.Trial]:
        """The trials that have no result, one per noise level."""
        subject = self.anonymizer.subject(self.seed, rows)
        trial = results.trial(self.database, self.splits(), subject, self.head, self.seed)
        trials = map(trial.at, self.sigma)
        return [t for t in trials if results.read(self.place.output_root, t) is None]

    def _fit_online(self, splits: Splits, resources: Resources) -> tuple[Head, EmbeddingSet]:
        """A head on fresh draws, and draws as it sees them."""
        from src.probing import head

        assert _is_online(self.anonymizer)
        decoder = self.anonymizer.decoder(
            splits.train, splits.val, seed=self.seed, resources=resources
        )
        reference = self.anonymizer.reference(splits.train, decoder, seed=self.seed)
        fitted = head.fit_online(decoder, reference, splits, self.head, seed=self.seed)
        return fitted, head.draw(decoder, len(splits.train), seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Audit(Step):
    """The privacy audit of a release."""

    makes = "audit"

    anonymizer: Anonymizer
    seed: int
    options: AuditSettings

    @property
    def name(self) -> str:
        """Dataset, backbone, anonymizer and seed."""
        return f"{self.where}: audit of {self.anonymizer.label}, seed {self.seed}"

    def complete(self) -> bool:
        """Whether the audit exists."""
        case = self._case(self.released(self.anonymizer, self.seed))
        return audits.read(self.place.output_root, case) is not None

    def perform(self) -> None:
        """Attack the release and write the metrics."""
        if self.done():
            return
        from src.audit import auditing

        resources, released = self.resources(), self.released(self.anonymizer, self.seed)
        started = time.perf_counter()
        report = auditing.audit(
            self.splits(),
            released,
            self.anonymizer,
            self.options,
            seed=self.seed,
            resources=resources,
        )
        audits.write(
            self.place.output_root,
            self._case(released),
            report,
            device=resources.device.type,
            seconds=time.perf_counter() - started,
        )

    def _case(self, released: EmbeddingSet) -> audits.Case:
        subject = self.anonymizer.subject(self.seed, released)
        return audits.case(self.database, self.splits(), subject, self.options, self.seed)


def runs(sweep: Sweep, place: Workplace) -> list[Step]:
    """The runs of a sweep, in the order of its configuration; only released rows are audited."""
    found: list[Step] = []
    for dataset, backbone in sweep.embedded():
        database = Database(place.database_root, dataset, backbone)
        extract = Extract(place=place, database=database, image_size=sweep.image_size)
        for anonymizer, seed in sweep.seeded():
            before = _before(sweep, extract, anonymizer, seed)
            found += [
                Probe(
                    place=place,
                    database=database,
                    after=before,
                    anonymizer=anonymizer,
                    seed=seed,
                    head=head,
                    sigma=sweep.sigma,
                )
                for head in sweep.heads
            ]
            if sweep.audit and not _is_online(anonymizer):
                found.append(
                    Audit(
                        place=place,
                        database=database,
                        after=before,
                        anonymizer=anonymizer,
                        seed=seed,
                        options=sweep.audit,
                    )
                )
    return found


def require_known(planned: Iterable[Step]) -> None:
    """Raise InputError, before any work, for an unknown dataset or backbone to be extracted."""
    for step in planned:
        if isinstance(step, Extract):
            from src.embedding import datasets

            datasets.require_known(step.database.dataset, step.place.dataset_root)
            from src.embedding import backbones  # torch from here on

            backbones.require_known(step.database.backbone)


def _before(sweep: Sweep, extract: Extract, anonymizer: Anonymizer, seed: int) -> Step:
    """The step that a run of this anonymizer and seed comes after."""
    if anonymizer.name == IDENTITY:
        return extract
    fit_id = anonymizer.fit_id(seed)
    return Anonymize(
        place=extract.place,
        database=extract.database,
        after=extract,
        anonymizers=tuple(a for a in sweep.anonymizers if a.fit_id(seed) == fit_id),
        wanted=anonymizer,
        seed=seed if anonymizer.seeded else 0,  # one fit serves all seeds
    )


def _is_online(anonymizer: Anonymizer) -> TypeGuard[Sampled]:
    """Whether heads are fitted on its fresh draws; it releases no rows."""
    return anonymizer.name in methods.ONLINE
