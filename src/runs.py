"""Runs: fit one head on one release, evaluate it at some noise levels, write the results."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src import anonymizers, results
from src.anonymizers import Anonymizer, Resources
from src.anonymizers.settings import DecoderSettings
from src.bundle.datasheet import public_name
from src.database import Database, EmbeddingSet, Splits
from src.errors import InputError
from src.head import HeadSettings

if TYPE_CHECKING:  # torch is imported when a head is fitted: what is missing is known without it
    from src.bundle.contents import Bundle
    from src.metrics import Scores
    from src.probe import Probe


log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """One result: where it is, its noise level (None: clean), utility and distance."""

    path: Path
    sigma: float | None
    scores: Scores
    average_mindistance: float | None  # None where the originals are not there

    def __str__(self) -> str:
        noise = "" if self.sigma is None else f"sigma {self.sigma:g}  "
        distance = self.average_mindistance
        return (
            f"{self.path}  {noise}AUC {self.scores.auc:.2f}  "
            f"accuracy {self.scores.accuracy:.2f}  "
            f"distance {'unknown' if distance is None else f'{distance:.4f}'}"
        )


@dataclass(frozen=True, kw_only=True)
class Run(ABC):
    """One head: the data set it is for, how it is fitted, and where its results go."""

    database: Database
    splits: Splits
    head: HeadSettings
    seed: int
    output_root: Path

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """What the head is trained on, as `results.identity` names it."""

    @abstractmethod
    def prepare(self, resources: Resources) -> Callable[[], Probe]:
        """Make what the head is trained on ready; the function returned fits it."""

    def path(self, sigma: float | None) -> Path:
        """The file of the result at that noise level."""
        return results.result_path(
            self.output_root,
            self.database.dataset,
            self.database.backbone,
            self.origin()["release_id"],
            self.seed,
            sigma,
        )

    def missing(self, sigmas: Sequence[float | None]) -> list[float | None]:
        """The noise levels whose result is absent, damaged or of other settings or inputs."""
        return [s for s in sigmas if results.read(self.path(s), self._identity(s)) is None]

    def perform(self, sigmas: Sequence[float | None], resources: Resources) -> list[Outcome]:
        """Fit the head and write a result for each noise level.

        Raises:
            InputError: the head cannot be fitted, or a result not be written.
        """
        from src.probe import evaluate

        fit = self.prepare(resources)
        started = time.perf_counter()
        probe = fit()
        fitted = time.perf_counter() - started
        outcomes = []
        for sigma in sigmas:
            started = time.perf_counter()
            scores = evaluate(probe, self.splits.test, sigma or 0.0, seed=self.seed)
            results.write(
                self.path(sigma),
                self._identity(sigma),
                probe,
                scores,
                dataset=self.database.dataset,
                backbone=self.database.backbone,
                seconds=fitted + time.perf_counter() - started,
            )
            outcomes.append(Outcome(self.path(sigma), sigma, scores, probe.average_mindistance))
        return outcomes

    def _identity(self, sigma: float | None) -> dict[str, Any]:
        return results.identity(
            self.splits, **self.origin(), head=self.head, seed=self.seed, sigma=sigma
        )


@dataclass(frozen=True, kw_only=True)
class OfflineRun(Run):
    """A head on released rows."""

    release_id: str
    released: EmbeddingSet

    def origin(self) -> dict[str, Any]:
        """The released rows, and what their file says of them."""
        return {
            "release_id": self.release_id,
            "release": self.released.fingerprint,
            "anonymizer": self.released.meta.get("anonymizer", self.release_id),
            "settings": self.released.meta.get("settings", {}),
        }

    def prepare(self, resources: Resources) -> Callable[[], Probe]:
        """The rows are there."""
        from src.probe import probe_release

        return partial(
            probe_release,
            self.splits,
            self.released,
            self.head,
            seed=self.seed,
            device=resources.device,
        )


@dataclass(frozen=True, kw_only=True)
class OnlineRun(Run):
    """A head on fresh draws of a decoder."""

    anonymizer: Anonymizer
    settings: DecoderSettings

    def origin(self) -> dict[str, Any]:
        """The decoder's settings; no rows are released."""
        return {
            "release_id": self.anonymizer.release_id(self.settings, self.seed),
            "release": None,
            "anonymizer": self.anonymizer.name,
            "settings": asdict(self.settings),
        }

    def prepare(self, resources: Resources) -> Callable[[], Probe]:
        """Fit the decoder, or find its checkpoint."""
        from src.anonymizers.cvae import draws
        from src.probe import probe_decoder

        decoder = anonymizers.decoder(
            self.anonymizer,
            self.settings,
            self.splits.train,
            self.splits.val,
            seed=self.seed,
            resources=resources,
        )
        reference = self.splits.train
        if self.anonymizer.private:  # statistics of the real rows are not within the guarantee
            reference = EmbeddingSet(*draws(decoder, self.settings.variance, seed=self.seed))
            log.info("the head stops early by validation rows: no guarantee covers those")
        return partial(
            probe_decoder,
            self.splits,
            decoder,
            self.settings.variance,
            self.head,
            reference=reference,
            originals=self.splits.train,
            seed=self.seed,
            device=resources.device,
        )


@dataclass(frozen=True, kw_only=True)
class BundleRun(Run):
    """A head on fresh draws of a bundle's decoder; `splits.train` are the rows of the bundle."""

    bundle: Bundle

    def __post_init__(self) -> None:
        theirs = self.bundle.sheet["backbone"]
        ours = self.splits.test.meta.get("backbone")
        if ours and theirs and public_name(ours) != theirs:
            raise InputError(f"the bundle's rows are of backbone '{theirs}', not '{ours}'")

    def origin(self) -> dict[str, Any]:
        """The bundle, as its datasheet names it."""
        sheet = self.bundle.sheet
        return {
            "release_id": f"bundle-{sheet['release']}",
            "release": self.bundle.rows.fingerprint,
            "anonymizer": sheet["anonymizer"],
            "settings": sheet["settings"],
        }

    def prepare(self, resources: Resources) -> Callable[[], Probe]:
        """The decoder is there; the distance to the originals cannot be known."""
        from src.probe import probe_decoder

        decoder = self.bundle.decoder
        if decoder is None:
            raise InputError(f"{self.bundle.sheet['release']} has no decoder, only rows")
        return partial(
            probe_decoder,
            self.splits,
            decoder.to(resources.device),
            self.bundle.sheet["settings"]["variance"],
            self.head,
            reference=self.bundle.rows,
            originals=None,
            seed=self.seed,
            device=resources.device,
        )
