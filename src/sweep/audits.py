"""The steps of a sweep that attack: a release, and how it is made."""

from __future__ import annotations

import time
from dataclasses import dataclass

from src.anonymizers.base import Anonymizer
from src.audit import records
from src.audit.settings import AuditSettings, OneRunSettings
from src.database import EmbeddingSet
from src.sweep.base import Step


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
        return records.read(self.place.output_root, case) is not None

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
        records.write(
            self.place.output_root,
            self._case(released),
            report,
            device=resources.device.type,
            seconds=time.perf_counter() - started,
        )

    def _case(self, released: EmbeddingSet) -> records.Case:
        subject = self.anonymizer.subject(self.seed, released)
        return records.case(self.database, self.splits(), subject, self.options, self.seed)


@dataclass(frozen=True, kw_only=True)
class AuditOneRun(Step):
    """What one more fit proves, with training rows that are chosen at random."""

    makes = "one run"

    anonymizer: Anonymizer
    seed: int
    options: OneRunSettings

    @property
    def name(self) -> str:
        """Dataset, backbone, anonymizer and seed."""
        return f"{self.where}: one run of {self.anonymizer.label}, seed {self.seed}"

    def complete(self) -> bool:
        """Whether the audit exists."""
        found = records.read_one_run(self.place.output_root, self._case(), self.options)
        return found is not None

    def perform(self) -> None:
        """Fit once, guess who is in, and write what that proves."""
        if self.done():
            return
        from src.audit import one_run

        resources, started = self.resources(), time.perf_counter()
        found = one_run.run(
            self.splits(), self.anonymizer, self.options, seed=self.seed, resources=resources
        )
        records.write_one_run(
            self.place.output_root,
            self._case(),
            self.options,
            found,
            device=resources.device.type,
            seconds=time.perf_counter() - started,
        )

    def _case(self) -> records.Case:
        subject, unit = self.anonymizer.subject(self.seed), AuditSettings(unit=self.options.unit)
        return records.case(self.database, self.splits(), subject, unit, self.seed)
