"""The methods: what each is called, its settings, and where its code is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from src.anonymizers.base import Anonymizer, Rows, Sampled
from src.anonymizers.settings import (
    FitSettings,
    GroupSettings,
    LineSettings,
    NetworkSettings,
    NoiseSettings,
    PrivateSettings,
    SamplingSettings,
    StoppingSettings,
    SumSettings,
    WalkSettings,
    part,
)
from src.core.errors import InputError, UnknownNameError
from src.core.settings import setting
from src.database import EmbeddingSet

if TYPE_CHECKING:
    from src.core.devices import Resources
    from src.networks.cvae import Decoder
    from src.networks.sampling import Sampler

log = logging.getLogger(__name__)
A = TypeVar("A", bound=Anonymizer)


@dataclass(frozen=True, kw_only=True)
class Identity(Anonymizer):
    """The real embeddings as they are: the reference for every release."""

    name, seeded = "identity", False

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Train itself."""
        return Rows(train.embeddings, train.labels, {})


@dataclass(frozen=True, kw_only=True)
class Gaussian(Anonymizer):
    """Draws of one Gaussian per class, its covariance shrunk as far as the data ask for."""

    name = "gaussian"

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Draws, as many of each class as there are training rows of it."""
        from src.anonymizers import gaussian

        return gaussian.release(train, seed=seed)


@dataclass(frozen=True, kw_only=True)
class KSame(GroupSettings, Anonymizer):
    """Means of groups of k nearest neighbours."""

    name, seeded = "ksame", False

    per_class: bool = setting("group within each class", False, tag="perclass")
    block_rows: int | None = setting(
        "group within blocks of at most so many nearby rows: faster, groups a little wider "
        "(default: all rows are one block up to 60,000, beyond that blocks have 10,000)",
        None,
        tag="block",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_rows is not None and self.block_rows < 2 * self.k:
            raise InputError(f"--block_rows {self.block_rows} is below 2 k = {2 * self.k}")

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Each row replaced by its group's mean."""
        from src.anonymizers import ksame

        rows = train.by(self.unit)
        return ksame.release(
            rows,
            self.k,
            per_class=self.per_class,
            block_rows=self.block_rows,
            resources=resources,
        )


@dataclass(frozen=True, kw_only=True)
class CVAE(StoppingSettings, NoiseSettings, SamplingSettings, NetworkSettings, Sampled):
    """Draws of a conditional VAE (Di Salvo et al., BMVC 2024)."""

    name = "cvae"

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Draws, as many of each class as there are training rows of it."""
        from src.anonymizers import cvae

        decoder = self.decoder(train, val, seed=seed, resources=resources)
        return Rows(*cvae.draws(decoder, seed=seed), {})

    def decoder(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Decoder:
        """The decoder of the fitted CVAE."""
        from src.anonymizers import cvae

        settings = part(self, FitSettings)
        decoder = cvae.fit(train, val, settings, seed=seed, resources=resources).decoder
        decoder.variance, decoder.observation_noise = self.variance, self.observation_noise
        return decoder


@dataclass(frozen=True, kw_only=True)
class CVAEOnline(CVAE):
    """A head on fresh draws of a CVAE's decoder; no rows are released."""

    name = "cvae-online"


@dataclass(frozen=True, kw_only=True)
class LatentKSame(StoppingSettings, NoiseSettings, NetworkSettings, GroupSettings, Anonymizer):
    """Decoded k-Same centroids of a CVAE's latents, grouped within each class."""

    name = "latent-ksame"

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """The decoded centroids, n // k of each class."""
        from src.anonymizers.latent import centroids

        settings, rows = part(self, FitSettings), train.by(self.unit)
        found = centroids.centroids(rows, val, settings, self.k, seed=seed, resources=resources)
        return centroids.release(found, self.observation_noise, seed=seed)


@dataclass(frozen=True, kw_only=True)
class LatentLinear(LineSettings, Anonymizer):
    """Decoded points of straight lines between those centroids: PLAN's baseline."""

    name = "latent-linear"

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Points, as many of each class as there are training rows of it."""
        from src.anonymizers.latent import lines

        return lines.release(train.by(self.unit), val, self, seed=seed, resources=resources)


@dataclass(frozen=True, kw_only=True)
class Plan(WalkSettings, Anonymizer):
    """Decoded points of paths that keep clear of every identity (PLAN, MICCAI 2023)."""

    name = "plan"

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Points, as many of each class as there are training rows of it."""
        from src.anonymizers.latent import plan

        return plan.release(train.by(self.unit), val, self, seed=seed, resources=resources)


@dataclass(frozen=True, kw_only=True)
class DPCVAE(PrivateSettings, Sampled):
    """Draws of a conditional VAE fitted with DP-SGD (Abadi et al., CCS 2016)."""

    name, private = "dpcvae", True

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Draws, as many of each class as its noisy count says."""
        from src.anonymizers import cvae
        from src.anonymizers.dp import dpcvae

        decoder, facts = dpcvae.fit(train, self, seed=seed, resources=resources)
        return Rows(*cvae.draws(decoder, seed=seed), facts)

    def decoder(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Decoder:
        """The decoder of the fitted CVAE."""
        from src.anonymizers.dp import dpcvae

        return dpcvae.fit(train, self, seed=seed, resources=resources).decoder

    def reference(self, train: EmbeddingSet, decoder: Sampler, *, seed: int) -> EmbeddingSet:
        """The released rows: the guarantee does not cover statistics of the real ones."""
        from src.anonymizers import cvae

        log.info("the head stops early by validation rows: no guarantee covers those")
        return EmbeddingSet(*cvae.draws(decoder, seed=seed))


@dataclass(frozen=True, kw_only=True)
class DPCVAEOnline(DPCVAE):
    """A head on fresh draws of a private CVAE's decoder; no rows are released."""

    name = "dpcvae-online"


@dataclass(frozen=True, kw_only=True)
class DPGaussian(SumSettings, Sampled):
    """Draws of a Gaussian per class that noisy sums over rows give; private in closed form."""

    name, private = "dpgaussian", True

    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Draws, as many of each class as its noisy count says."""
        from src.anonymizers import cvae
        from src.anonymizers.dp import dpgaussian

        sampler, facts = dpgaussian.fit(train, self, seed=seed, resources=resources)
        return Rows(*cvae.draws(sampler, seed=seed), facts)

    def decoder(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Sampler:
        """The Gaussians."""
        from src.anonymizers.dp import dpgaussian

        return dpgaussian.fit(train, self, seed=seed, resources=resources).sampler

    def reference(self, train: EmbeddingSet, decoder: Sampler, *, seed: int) -> EmbeddingSet:
        """The released rows: the guarantee does not cover statistics of the real ones."""
        from src.anonymizers import cvae

        log.info("the head stops early by validation rows: no guarantee covers those")
        return EmbeddingSet(*cvae.draws(decoder, seed=seed))


@dataclass(frozen=True, kw_only=True)
class DPGaussianOnline(DPGaussian):
    """A head on fresh draws of private Gaussians; no rows are released."""

    name = "dpgaussian-online"


RELEASING: dict[str, type[Anonymizer]] = {
    method.name: method
    for method in (
        Identity,
        Gaussian,
        KSame,
        CVAE,
        LatentKSame,
        LatentLinear,
        Plan,
        DPCVAE,
        DPGaussian,
    )
}
ONLINE: dict[str, type[Sampled]] = {
    method.name: method for method in (CVAEOnline, DPCVAEOnline, DPGaussianOnline)
}
ALL: dict[str, type[Anonymizer]] = {**RELEASING, **ONLINE}


@overload
def parse(name: str, settings: Mapping[str, Any]) -> Anonymizer: ...
@overload
def parse(name: str, settings: Mapping[str, Any], choices: Mapping[str, type[A]]) -> A: ...
def parse(
    name: str,
    settings: Mapping[str, Any],
    choices: Mapping[str, type[Anonymizer]] = RELEASING,
) -> Anonymizer:
    """The method of that name, in any case, with these settings.

    Raises:
        InputError: the name or a setting is unknown, or a value is missing or out of range.
    """
    if name.lower() not in choices:
        raise UnknownNameError("anonymizer", name, choices)
    return choices[name.lower()].parse(settings, of=name.lower())
