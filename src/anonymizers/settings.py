"""Every setting of every anonymizer: its default, its meaning and its valid range.

The flags of `anonymize.py`, the keys of a sweep, the names of releases and the settings recorded
in each file all derive from these classes. No heavy import: they are read before arguments are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any

from src.errors import InputError


def setting(
    help: str,
    default: Any = MISSING,
    *,
    tag: str | None = None,
    minimum: float | None = None,
    above: float | None = None,
) -> Any:
    """A field of a settings class.

    Args:
        help: one line; what it is, with its unit or symbol.
        default: the default; without one the setting must be given.
        tag: how a value other than the default appears in a release's id (the field's name if
            None; "" where the value itself says enough, as in `ksame-5`).
        minimum: the smallest valid value.
        above: the largest value that is just not valid.
    """
    metadata = {"help": help, "tag": tag, "minimum": minimum, "above": above}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings classes: values are checked when an instance is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            minimum, above = field.metadata["minimum"], field.metadata["above"]
            if minimum is not None and not value >= minimum:
                raise InputError(f"--{field.name} {value} is below its minimum, {minimum}")
            if above is not None and not value > above:
                raise InputError(f"--{field.name} {value} must be greater than {above}")
            if not abs(value) < float("inf"):
                raise InputError(f"--{field.name} {value} must be finite")

    @property
    def tags(self) -> list[str]:
        """The parts of a release's id: required settings, then those that are not the default."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            tag = field.name if field.metadata["tag"] is None else field.metadata["tag"]
            parts.append(tag if value is True else f"{tag}{value:g}")
        return parts


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(Settings):
    """The real embeddings as they are."""


@dataclass(frozen=True, kw_only=True)
class KSameSettings(Settings):
    """k-Same: groups of k nearest neighbours replaced by their mean (SPEC section 2)."""

    k: int = setting("rows in a group, at least 2", tag="", minimum=2)
    per_class: bool = setting("group within each class", False, tag="perclass")


@dataclass(frozen=True, kw_only=True)
class CVAESettings(Settings):
    """Conditional VAE (Di Salvo et al., BMVC 2024; SPEC section 3)."""

    variance: float = setting(
        "scale of the latent noise when sampling, z = variance * N(0, I)",
        1.0,
        tag="var",
        minimum=0,
    )
    hidden_dim: int = setting("width of the hidden layers", 256, minimum=1)
    latent_dim: int = setting("dimensions of z", 50, minimum=1)
    kl_weight: float = setting("weight of the KL term", 0.1, minimum=0)
    prior_variance: float = setting(
        "variance of the prior N(0, prior_variance * I) in the KL term", 0.5, above=0
    )
    learning_rate: float = setting("Adam's learning rate", 1e-3, above=0)
    batch_size: int = setting("rows in a training batch", 512, minimum=1)
    num_epochs: int = setting("most epochs", 1000, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 15, minimum=1
    )
