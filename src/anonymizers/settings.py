"""Every setting of every anonymizer: its default, its meaning and its valid range.

The flags of `anonymize.py`, the keys of a sweep, the names of releases and the settings recorded
in each file all derive from these classes. No heavy import: they are read before arguments are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any, Self, get_args, get_type_hints

from src.errors import InputError

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def setting(
    help: str,
    default: Any = MISSING,
    *,
    tag: str | None = None,
    minimum: float | None = None,
    above: float | None = None,
    fitted: bool = True,
) -> Any:
    """A field of a settings class.

    Args:
        help: one line; what it is, with its unit or symbol.
        default: the default; without one the setting must be given.
        tag: how a value other than the default appears in a release's id (the field's name if
            None; "" where the value itself says enough, as in `ksame-5`).
        minimum: the smallest valid value.
        above: the largest value that is just not valid.
        fitted: False where fitting does not depend on it, so that one fit serves all its values.
    """
    metadata = {"help": help, "tag": tag, "minimum": minimum, "above": above, "fitted": fitted}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings classes: values are checked when an instance is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _typed(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)  # 1 as 1.0, so that names are equal
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            minimum, above = field.metadata["minimum"], field.metadata["above"]
            if minimum is not None and not value >= minimum:
                raise InputError(f"--{field.name} {value} is below its minimum, {minimum}")
            if above is not None and not value > above:
                raise InputError(f"--{field.name} {value} must be greater than {above}")
            if not abs(value) < float("inf"):
                raise InputError(f"--{field.name} {value} must be finite")

    def for_fit(self) -> Self:
        """These settings with what a fit does not depend on at its default."""
        sampling = {
            f.name: f.default for f in dataclasses.fields(self) if not f.metadata["fitted"]
        }
        return dataclasses.replace(self, **sampling)

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


def _typed(name: str, value: Any, hint: Any) -> Any:
    """The value as what `hint` asks for; only whole numbers where a number is asked for change."""
    kinds = get_args(hint) or (hint,)  # `float | None` is either
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return float(value)
    if type(value) in kinds:
        return value
    wanted = next((text for kind, text in _KINDS.items() if kind in kinds), None)
    if wanted is None:
        return value
    hint_text = " (in YAML 1.0e-3, not 1e-3)" if isinstance(value, str) and "e" in value else ""
    raise InputError(f"--{name} is {value!r}; it must be {wanted}{hint_text}")


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(Settings):
    """The real embeddings as they are."""


@dataclass(frozen=True, kw_only=True)
class GaussianSettings(Settings):
    """One Gaussian a class, its covariance shrunk as far as the data ask for."""


@dataclass(frozen=True, kw_only=True)
class KSameSettings(Settings):
    """k-Same: groups of k nearest neighbours replaced by their mean (SPEC section 2)."""

    k: int = setting("rows in a group, at least 2", tag="", minimum=2)
    per_class: bool = setting("group within each class", False, tag="perclass")


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(Settings):
    """What every CVAE has, however it is trained."""

    variance: float = setting(
        "scale of the latent noise when sampling, z = variance * N(0, I)",
        1.0,
        tag="var",
        minimum=0,
        fitted=False,
    )
    hidden_dim: int = setting("width of the hidden layers", 256, minimum=1)
    latent_dim: int = setting("dimensions of z", 50, minimum=1)
    kl_weight: float = setting("weight of the KL term", 0.1, minimum=0)
    prior_variance: float = setting(
        "variance of the prior N(0, prior_variance * I) in the KL term", 0.5, above=0
    )
    learning_rate: float = setting("Adam's learning rate", 1e-3, above=0)


@dataclass(frozen=True, kw_only=True)
class CVAESettings(DecoderSettings):
    """Conditional VAE (Di Salvo et al., BMVC 2024; SPEC section 3)."""

    batch_size: int = setting("rows in a training batch", 512, minimum=1)
    num_epochs: int = setting("most epochs", 1000, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 15, minimum=1
    )


@dataclass(frozen=True, kw_only=True)
class DPCVAESettings(DecoderSettings):
    """Conditional VAE fitted with DP-SGD (Abadi et al., CCS 2016).

    Nothing here is chosen by looking at the rows, so none of it costs privacy.
    """

    epsilon: float = setting("privacy budget of the whole release", tag="eps", above=0)
    delta: float | None = setting(
        "the guarantee's delta (default: the largest power of ten up to a tenth of 1 / rows)",
        None,
        above=0,
    )
    max_grad_norm: float = setting("clipping norm C of each row's gradient", 1.0, above=0)
    epochs: int = setting("passes over the rows, a number fixed beforehand", 40, minimum=1)
    sampling_rate: float = setting(
        "probability of each row to be in a batch, at most 1", 0.1, above=0
    )
    count_share: float = setting("share of the budget for class counts", 0.05, above=0)
    scaling_share: float = setting(
        "share of the budget for the scaling of features, where it is not public", 0.15, above=0
    )
    feature_min: float | None = setting("public lower bound of every feature", None)
    feature_max: float | None = setting("public upper bound of every feature", None)
    hidden_dim: int = setting("width of the hidden layers", 64, minimum=1)
    latent_dim: int = setting("dimensions of z", 10, minimum=1)
    learning_rate: float = setting("Adam's learning rate", 3e-3, above=0)
