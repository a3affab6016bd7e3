"""Every setting of every anonymizer: its default, its meaning and its valid range.

The flags of `anonymize.py`, the keys of a sweep, the names of releases and the settings recorded
in each file all derive from these classes. No heavy import: they are read before arguments are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any, Self, TypeVar, get_args, get_type_hints

from src.errors import InputError
from src.files import number_name

S = TypeVar("S", bound="Settings")

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

    def part(self, kind: type[S]) -> S:
        """Those of these settings that `kind` has; what else it has is at its default."""
        ours = {f.name for f in dataclasses.fields(self)}
        shared = [f.name for f in dataclasses.fields(kind) if f.name in ours]
        return kind(**{name: getattr(self, name) for name in shared})

    @property
    def tags(self) -> list[str]:
        """The parts of a release's id: required settings, then those that are not the default."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            tag = field.name if field.metadata["tag"] is None else field.metadata["tag"]
            parts.append(tag if value is True else f"{tag}{number_name(value)}")
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
class GroupSettings(Settings):
    """What everything has that groups rows."""

    k: int = setting("rows in a group, at least 2", tag="", minimum=2)


@dataclass(frozen=True, kw_only=True)
class KSameSettings(GroupSettings):
    """k-Same: groups of k nearest neighbours replaced by their mean."""

    per_class: bool = setting("group within each class", False, tag="perclass")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """What every CVAE has, however it is trained and used."""

    hidden_dim: int = setting("width of the hidden layers", 256, minimum=1)
    latent_dim: int = setting("dimensions of z", 50, minimum=1)
    kl_weight: float = setting("weight of the KL term", 0.1, minimum=0)
    prior_variance: float = setting(
        "variance of the prior N(0, prior_variance * I) in the KL term", 0.5, above=0
    )
    learning_rate: float = setting("Adam's learning rate", 1e-3, above=0)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings(Settings):
    """Training until the validation loss stops falling."""

    batch_size: int = setting("rows in a training batch", 512, minimum=1)
    num_epochs: int = setting("most epochs", 1000, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 15, minimum=1
    )


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(NetworkSettings):
    """A CVAE whose decoder is sampled."""

    variance: float = setting(
        "scale of the latent noise when sampling, z = variance * N(0, I)",
        1.0,
        tag="var",
        minimum=0,
        fitted=False,
    )


@dataclass(frozen=True, kw_only=True)
class CVAESettings(EarlyStoppingSettings, DecoderSettings):
    """Conditional VAE (Di Salvo et al., BMVC 2024)."""


@dataclass(frozen=True, kw_only=True)
class LatentKSameSettings(EarlyStoppingSettings, NetworkSettings, GroupSettings):
    """k-Same within each class on a CVAE's latents; the decoded centroids are the release."""


@dataclass(frozen=True, kw_only=True)
class LatentLinearSettings(LatentKSameSettings):
    """Points of straight lines between those centroids, decoded."""

    path_points: int = setting("points of a path, its two ends included", 12, tag="T", minimum=3)


@dataclass(frozen=True, kw_only=True)
class PlanSettings(LatentLinearSettings):
    """Points of paths that keep clear of every identity, decoded (PLAN, MICCAI 2023).

    The weight is the paper's; those of the other two losses are 1. All losses are per path and
    the classifiers' are means over its points, so no weight has to follow the number of paths;
    see `src.paths` for what the number of points changes.
    """

    privacy_weight: float = setting(
        "weight of the privacy loss beside equal spacing and class", 0.1, tag="priv", minimum=0
    )
    path_steps: int = setting("optimisation steps of the paths", 500, tag="steps", minimum=1)
    path_lr: float = setting("Adam's learning rate on the paths", 0.1, tag="lr", above=0)
    identity_jitter: float = setting(
        "Gaussian jitter of the rows that the identity classifier is trained on, in standard "
        "deviations of each feature",
        0.25,
        tag="jitter",
        above=0,
    )


@dataclass(frozen=True, kw_only=True)
class DPCVAESettings(DecoderSettings):
    """Conditional VAE fitted with DP-SGD (Abadi et al., CCS 2016).

    Who chooses settings by their results on the very rows spends privacy that is not counted.
    """

    epsilon: float = setting("privacy budget of the whole release", tag="eps", above=0)
    delta: float | None = setting(
        "the guarantee's delta (default: the largest power of ten up to 1 / (10 rows))",
        None,
        tag="delta",
        above=0,
    )
    max_grad_norm: float = setting("clipping norm C of each row's gradient", 2.0, above=0)
    epochs: int = setting("passes over the rows, a number fixed beforehand", 100, minimum=1)
    sampling_rate: float = setting(
        "probability of each row to be in a batch, at most 1", 0.25, above=0
    )
    count_share: float = setting("share of the budget for class counts", 0.05, above=0)
    scaling_share: float = setting(
        "share of the budget for the scaling of features, where it is not public", 0.15, above=0
    )
    feature_min: float | None = setting("public lower bound of every feature", None)
    feature_max: float | None = setting("public upper bound of every feature", None)
    observation_std: float = setting(
        "noise on released rows, as a share of each feature's range",
        0.1,
        minimum=0,
        fitted=False,
    )
    hidden_dim: int = setting("width of the hidden layers", 64, minimum=1)
    latent_dim: int = setting("dimensions of z", 8, minimum=1)
    learning_rate: float = setting("Adam's learning rate", 6e-3, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling_rate > 1:
            raise InputError(f"--sampling_rate {self.sampling_rate:g} is above 1")
        if self.count_share + self.scaling_share >= 1:
            raise InputError("--count_share and --scaling_share leave nothing for the training")
        low, high = self.feature_min, self.feature_max
        if (low is None) != (high is None):
            raise InputError("--feature_min and --feature_max are given together or not at all")
        if low is not None and high is not None and low >= high:
            raise InputError(f"--feature_min {low:g} is not below --feature_max {high:g}")
