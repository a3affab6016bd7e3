"""Anonymizers: name → training embeddings → released embeddings.

To add one: its settings in `settings.py`, a module with `release(...)` beside this one, and a
line in ANONYMIZERS. Scripts, sweeps and the audit then know it.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src.anonymizers.settings import (
    CVAESettings,
    DPCVAESettings,
    GaussianSettings,
    IdentitySettings,
    KSameSettings,
    LatentKSameSettings,
    LatentLinearSettings,
    PlanSettings,
    Settings,
)
from src.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from src.database import EmbeddingSet
    from src.models.cvae import Decoder


class Release(NamedTuple):
    """What an anonymizer gives back."""

    embeddings: np.ndarray  # (m, D) float32
    labels: np.ndarray  # (m,) int64
    facts: dict[str, Any]  # what the run found out, for the file's meta (JSON values)


@dataclass(frozen=True)
class Resources:
    """What a run may use; the results do not depend on it but for the device's arithmetic."""

    device: torch.device
    ckpt_folder: Path | None = None  # where fitted models are kept and found; None keeps none
    memory: int = 4 << 30  # bytes for intermediate results


@dataclass(frozen=True)
class Anonymizer:
    """An entry of the registry."""

    name: str
    settings: type[Settings]
    module: str  # in this package
    seeded: bool = True  # another seed gives another release
    online: bool = False  # a decoder that the head is trained on directly, not a file of rows
    private: bool = False  # with a guarantee, which using the training rows otherwise would break

    @property
    def implementation(self) -> Any:
        """The module that does the work, imported when it is first needed."""
        return importlib.import_module(f"src.anonymizers.{self.module}")

    def parse(self, values: Mapping[str, Any]) -> Settings:
        """Settings from a mapping of names to values.

        Raises:
            InputError: an unknown name, a value out of range or one that is missing.
        """
        fields = {field.name: field for field in dataclasses.fields(self.settings)}
        for name in values:
            if name not in fields:
                raise UnknownNameError(f"setting of {self.name}", name, fields)
        for name, field in fields.items():
            if field.default is dataclasses.MISSING and values.get(name) is None:
                raise InputError(f"{self.name} needs --{name}: {field.metadata['help']}")
        return self.settings(**{n: v for n, v in values.items() if v is not None})

    def release_id(self, settings: Settings, seed: int) -> str:
        """The id in file names: `ksame-5`, `cvae-s0`, `cvae-var0.5-s0`, ..."""
        parts = [self.name, *settings.tags]
        return "-".join([*parts, f"s{seed}"] if self.seeded else parts)


ANONYMIZERS = {
    entry.name: entry
    for entry in (
        Anonymizer("identity", IdentitySettings, "identity", seeded=False),
        Anonymizer("gaussian", GaussianSettings, "gaussian"),
        Anonymizer("ksame", KSameSettings, "ksame", seeded=False),
        Anonymizer("cvae", CVAESettings, "cvae"),
        Anonymizer("cvae-online", CVAESettings, "cvae", online=True),
        Anonymizer("latent-ksame", LatentKSameSettings, "latent_ksame"),
        Anonymizer("latent-linear", LatentLinearSettings, "latent_linear"),
        Anonymizer("plan", PlanSettings, "plan"),
        Anonymizer("dpcvae", DPCVAESettings, "dpcvae", private=True),
        Anonymizer("dpcvae-online", DPCVAESettings, "dpcvae", online=True, private=True),
    )
}


def get(name: str, *, online: bool | None = None) -> Anonymizer:
    """The entry of that name, in any case; `online` keeps to one of the two kinds.

    Raises:
        UnknownNameError: there is none.
    """
    valid = [n for n, entry in ANONYMIZERS.items() if online in (None, entry.online)]
    if name.lower() not in valid:
        raise UnknownNameError("anonymizer", name, valid)
    return ANONYMIZERS[name.lower()]


def anonymize(
    anonymizer: Anonymizer,
    settings: Settings,
    train: EmbeddingSet,
    val: EmbeddingSet,
    *,
    seed: int,
    resources: Resources,
) -> EmbeddingSet:
    """The anonymized training set, with `meta` that says what it was made from and how.

    Raises:
        InputError: the settings do not fit the data (k above n, ...).
    """
    from src.database import EmbeddingSet
    from src.provenance import versions

    release: Release = anonymizer.implementation.release(
        train, val, settings, seed=seed, resources=resources
    )
    inherited = ("dataset", "backbone", "class_names")
    meta = {
        **{key: train.meta[key] for key in inherited if key in train.meta},
        "split": "train",
        **made_from(anonymizer, settings, train, val, seed=seed),
        "device": resources.device.type,
        "facts": release.facts,
        "versions": versions(),
    }
    return EmbeddingSet(release.embeddings, release.labels, meta)


def made_from(
    anonymizer: Anonymizer,
    settings: Settings,
    train: EmbeddingSet,
    val: EmbeddingSet,
    *,
    seed: int,
) -> dict[str, Any]:
    """What determines a release but for versions and device; part of its file's `meta`."""
    return {
        "anonymizer": anonymizer.name,
        "settings": dataclasses.asdict(settings),
        "seed": seed if anonymizer.seeded else None,
        "source": {"train": train.fingerprint, "val": val.fingerprint},
    }


def decoder(
    anonymizer: Anonymizer,
    settings: Settings,
    train: EmbeddingSet,
    val: EmbeddingSet,
    *,
    seed: int,
    resources: Resources,
) -> Decoder:
    """The fitted, frozen decoder of an online anonymizer.

    Raises:
        InputError: the settings do not fit the data.
    """
    fitted: Decoder = anonymizer.implementation.decoder(
        train, val, settings, seed=seed, resources=resources
    )
    return fitted
