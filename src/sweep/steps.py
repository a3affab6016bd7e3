"""The steps of a sweep: extract embeddings, anonymize them, probe a release; `audits` has more.

Steps speak to each other through files alone, each looks first at what exists already, and
every file is written whole or not at all. So any step may be repeated, anywhere, at any time.
A further kind of step is a class and a line in `runs`.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer, Sampled
from src.anonymizers.settings import GuaranteeSettings
from src.core import devices
from src.core.devices import Resources
from src.core.errors import DataError, InputError
from src.database import IDENTITY, SPLITS, Database, EmbeddingSet, Splits, read
from src.embedding.settings import ExtractionSettings
from src.probing import results
from src.probing.settings import HeadSettings
from src.report.grid import Sweep
from src.sweep.audits import Audit, AuditOneRun
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
        from src.embedding import backbones, datasets, extraction, keeping

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
        folder = self.database.folder
        kept = keeping.kept(folder, backbone, options, size)
        sets = extraction.embed(dataset, images, backbone, options, image_size=size, kept=kept)
        for split, data in sets.items():
            self.database.write(split, data)
        keeping.forget(folder)

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

    @property
    def missing_releases(self) -> list[Anonymizer]:
        """Those whose rows are still to be written."""
        releasing = (a for a in self.anonymizers if not _is_online(a))
        return [a for a in releasing if not replace(self, wanted=a).done()]

    def perform(self) -> None:
        """Fit the decoders for fresh draws, write the releases that do not exist."""
        from src.anonymizers.dp import ledger

        splits, resources = self.splits(), self.resources()
        for online in filter(_is_online, self.anonymizers):
            online.decoder(splits.train, splits.val, seed=self.seed, resources=resources)
        for anonymizer in self.missing_releases:
            entry = partial(
                ledger.entry,
                *(self.database, anonymizer, splits.train),
                seed=self.seed,
                resources=resources,
            )
            ledger.require_budget(self.database, entry())
            released = anonymizer.anonymize(
                splits.train, splits.val, seed=self.seed, resources=resources
            )
            ledger.enter(self.database, entry())  # again: a first release makes the key
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
        """Fit the head, and siblings' with it; write the results that do not exist.

        Raises:
            InputError: the head cannot be fitted; a sibling's error is left to the sibling.
        """
        rows = self._rows()
        beside = [step for step in self.siblings if isinstance(step, Probe)]
        missing = {probe: probe._missing_trials(rows) for probe in (self, *beside)}
        if not missing[self]:
            return
        from src.probing import caveats, head, metrics

        splits, resources = self.splits(), self.resources()
        probes = [probe for probe, trials in missing.items() if trials]
        heads: list[Head | InputError] = []
        if rows is None:
            fitted, rows = self._fit_online(splits, resources)
            heads.append(fitted)
        else:
            sought = [head.Sought(rows, probe.head, probe.seed) for probe in probes]
            try:
                heads += head.fit_many(sought, splits, device=resources.device)
            except Exception:  # a defect, or too little memory, may be a sibling's
                if len(sought) == 1:
                    raise
                heads += head.fit_many(sought[:1], splits, device=resources.device)
        if isinstance(heads[0], InputError):
            raise heads[0]
        distance = metrics.average_mindistance(rows, splits.train, resources.device)
        for probe, found in zip(probes, heads, strict=False):
            if isinstance(found, InputError):
                continue
            doubts = caveats.of(found, splits, splits.train)
            for trial in missing[probe]:
                scores = head.evaluate(found, splits.test, trial.sigma or 0.0, seed=probe.seed)
                results.write(self.place.output_root, trial, found, scores, distance, doubts)

    def _rows(self) -> EmbeddingSet | None:
        """The released rows, None for fresh draws; raises what `released` does."""
        if _is_online(self.anonymizer):
            return None
        return self.released(self.anonymizer, self.seed)

    def _missing_trials(self, rows: EmbeddingSet | None) -> list[results.Trial]:
        """The trials that have no result, one per noise level."""
        unit = self.anonymizer.protects(self.splits().train)
        subject = self.anonymizer.subject(self.seed, rows, unit)
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
                found += _audits(sweep, extract, before, anonymizer, seed)
    return _with_siblings(found)


def _with_siblings(found: Iterable[Step]) -> list[Step]:
    """The same steps; a probe's siblings are the other heads and seeds on the same rows."""
    steps = list(found)
    groups: dict[tuple[object, ...], list[Step]] = defaultdict(list)
    for step in steps:
        if isinstance(step, Probe) and not _is_online(step.anonymizer):
            seed = step.seed if step.anonymizer.seeded else None
            groups[step.database, step.anonymizer, seed].append(step)
    siblings: dict[Step, tuple[Step, ...]] = {
        step: tuple(other for other in group if other != step)
        for group in groups.values()
        for step in group
    }
    return [replace(step, siblings=siblings.get(step, ())) for step in steps]


def _audits(
    sweep: Sweep, extract: Extract, before: Step, anonymizer: Anonymizer, seed: int
) -> Iterator[Step]:
    """The audit of a release, and that of how it is made, for which it need not exist."""
    assert sweep.audit
    place, database = extract.place, extract.database
    yield Audit(
        place=place,
        database=database,
        after=before,
        anonymizer=anonymizer,
        seed=seed,
        options=sweep.audit,
    )
    if sweep.one_run:
        yield AuditOneRun(
            place=place,
            database=database,
            after=extract,
            anonymizer=anonymizer,
            seed=seed,
            options=sweep.one_run,
        )


def require_known(planned: Iterable[Step]) -> None:
    """Raise InputError, before any work, for an unknown dataset or backbone to be extracted."""
    for step in planned:
        if isinstance(step, Extract):
            from src.embedding import datasets

            datasets.require_known(step.database.dataset, step.place.dataset_root)
            from src.embedding import backbones  # torch from here on

            backbones.require_known(step.database.backbone)


def spending(planned: Iterable[Step]) -> Iterator[str]:
    """A line for each dataset whose privacy the planned steps spend."""
    epsilons: dict[str, list[float]] = defaultdict(list)
    for step in planned:
        if isinstance(step, Anonymize):
            epsilons[step.database.dataset] += [
                a.epsilon for a in step.missing_releases if isinstance(a, GuaranteeSettings)
            ]
    for dataset, spent in epsilons.items():
        if spent:
            yield (
                f"{dataset}: {len(spent)} private releases to make, each of which spends: their "
                f"epsilon adds up to {sum(spent):g}"
            )


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
