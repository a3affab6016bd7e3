"""Settings that several methods share; what one method alone has is in `methods.py`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from src.core.errors import InputError
from src.core.settings import Settings, setting
from src.database import UNITS

S = TypeVar("S", bound=Settings)
MOST_STEPS = 1_000_000  # of a private fit
LEAST_SHARE = 1e-4  # of a budget
LEAST_DELTA = 1e-14  # beside which what float64 rounds is small
SQUARES = 0.04  # of the share for second moments, which squared norms get: one number needs little


def part(settings: Settings, kind: type[S]) -> S:
    """Those of the settings that `kind` has; all fields of `kind` are among them."""
    return kind(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(kind)})


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
class StoppingSettings(Settings):
    """Training until the validation loss stops falling."""

    batch_size: int = setting("rows in a training batch", 512, minimum=1)
    num_epochs: int = setting("most epochs", 1000, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 15, minimum=1
    )
    clip: float | None = setting(
        "limit validation rows to this many training deviations, so that no row alone stops the "
        "fit (recommended: 10; default: no limit, as published)",
        None,
        above=0,
    )


@dataclass(frozen=True, kw_only=True)
class FitSettings(StoppingSettings, NetworkSettings):
    """All that the fit of a CVAE depends on, besides rows and seed."""


@dataclass(frozen=True, kw_only=True)
class NoiseSettings(Settings):
    """Noise on decoded rows."""

    observation_noise: float = setting(
        "noise on released rows, in units of each feature's deviation that the decoder leaves "
        "unexplained (recommended: 0.5 with --variance 0.5; default: none, as published)",
        0.0,
        tag="obs",
        minimum=0,
        fitted=False,
    )


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Settings):
    """How a decoder is sampled."""

    variance: float = setting(
        "scale of the latent noise when sampling, z = variance * N(0, I)",
        1.0,
        tag="var",
        minimum=0,
        fitted=False,
    )


@dataclass(frozen=True, kw_only=True)
class GroupSettings(Settings):
    """What every method that groups rows has."""

    k: int = setting("rows per group, at least 2", tag="", minimum=2)
    unit: str | None = setting(
        "person or row: groups are of k different ones (default: the person where known)",
        None,
        tag="unit",
        choices=UNITS,
    )


@dataclass(frozen=True, kw_only=True)
class LineSettings(StoppingSettings, NoiseSettings, NetworkSettings, GroupSettings):
    """Paths between latent centroids."""

    path_points: int = setting("points of a path, its two ends included", 12, tag="T", minimum=3)


@dataclass(frozen=True, kw_only=True)
class WalkSettings(LineSettings):
    """Paths that keep clear of every identity.

    The weights of the other two losses are 1. All losses are per path and the classifiers' are
    means over its points, so no weight has to follow the number of paths; `latent/walks.py` says
    what the number of points changes.
    """

    privacy_weight: float = setting(
        "weight of the privacy loss beside equal spacing and class (the paper's is 0.1, for sums "
        "over chunks of points)",
        1.0,
        tag="priv",
        minimum=0,
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
class GuaranteeSettings(Settings):
    """What a differentially private release promises, and to whom."""

    epsilon: float = setting(
        "privacy budget of the whole release", tag="eps", above=0, maximum=100
    )
    delta: float | None = setting(
        "the guarantee's delta (default: the largest power of ten up to 1 / (10 persons or rows))",
        None,
        tag="delta",
        above=0,
        maximum=1,
    )
    unit: str | None = setting(
        "person or row: whom the guarantee is given (default: the person where known)",
        None,
        tag="unit",
        choices=UNITS,
    )


@dataclass(frozen=True, kw_only=True)
class SumSettings(GuaranteeSettings):
    """Gaussians from noisy sums. Shares are of 1/σ² of the whole budget; class sums get the rest.

    Choosing settings by their results on the very rows spends privacy that is not counted.
    """

    max_norm: float | None = setting(
        "public bound of the Euclidean norm of every row; longer ones are shortened (default: "
        "for pixels the square root of their number, otherwise a private median)",
        None,
        above=0,
        maximum=1e30,
    )
    count_share: float = setting("share of the budget for class counts", 0.03, minimum=1e-4)
    bound_share: float = setting(
        "share of the budget for the norms that rows are limited to", 0.04, minimum=1e-4
    )
    centre_share: float = setting("share of the budget for the centre", 0.05, minimum=1e-4)
    scaling_share: float = setting(
        "share of the budget for the units of features, where they do not share one",
        0.05,
        minimum=1e-4,
    )
    moment_share: float = setting(
        "share of the budget for second moments and squared norms", 0.3, minimum=1e-4
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delta is not None and self.delta < LEAST_DELTA:
            raise InputError(
                f"--delta {self.delta:g} is too small: rounding leaves nothing of one below "
                f"{LEAST_DELTA:g}"
            )
        if self.shares(pixels=False)["class_sums"] < LEAST_SHARE:
            raise InputError(
                "--count_share, --bound_share, --centre_share, --scaling_share and "
                "--moment_share leave nothing for the class sums: they must add up to less than 1"
            )

    def norm_bound(self, dim: int, *, pixels: bool) -> float | None:
        """The norm that no row exceeds, where that is public."""
        return math.sqrt(dim) if self.max_norm is None and pixels else self.max_norm

    def shares(self, *, pixels: bool) -> dict[str, float]:
        """The share of each mechanism that is used, in the order of use.

        Args:
            pixels: whether features are pixels, which are in one unit and between 0 and 1.
        """
        asked = self.norm_bound(1, pixels=pixels) is None
        parts = {
            "class_counts": self.count_share,
            **({"norms": self.bound_share / 2} if asked else {}),
            "centre": self.centre_share,
            **({} if pixels else {"scaling": self.scaling_share}),
            "radius": self.bound_share / 2,
            "squares": SQUARES * self.moment_share,
            "moments": (1 - SQUARES) * self.moment_share,
        }
        return {**parts, "class_sums": 1 - math.fsum(parts.values())}


@dataclass(frozen=True, kw_only=True)
class PrivateSettings(GuaranteeSettings, SamplingSettings, NetworkSettings):
    """A CVAE fitted with DP-SGD.

    Choosing settings by their results on the very rows spends privacy that is not counted.
    """

    max_grad_norm: float = setting(
        "clipping norm C of each row's gradient", 2.0, minimum=1e-6, maximum=1e6
    )
    epochs: int = setting(
        "passes over the rows, a number fixed beforehand", 100, minimum=1, maximum=1_000_000
    )
    sampling_rate: float = setting(
        "probability of each row to be in a batch", 0.25, above=0, maximum=1
    )
    count_share: float = setting("share of the budget for class counts", 0.05, minimum=1e-4)
    scaling_share: float = setting(
        "share of the budget for the scaling of features, where it is not public",
        0.15,
        minimum=1e-4,
    )
    feature_min: float | None = setting(
        "public lower bound of every feature", None, minimum=-1e30, maximum=1e30
    )
    feature_max: float | None = setting(
        "public upper bound of every feature", None, minimum=-1e30, maximum=1e30
    )
    observation_std: float = setting(
        "noise on released rows, as a share of each feature's range",
        0.1,
        minimum=0,
        maximum=1e6,
        fitted=False,
    )
    variance: float = setting(
        "scale of the latent noise when sampling, z = variance * N(0, I)",
        1.0,
        tag="var",
        minimum=0,
        maximum=1e6,
        fitted=False,
    )
    hidden_dim: int = setting("width of the hidden layers", 64, minimum=1)
    latent_dim: int = setting("dimensions of z", 8, minimum=1)
    learning_rate: float = setting("Adam's learning rate", 6e-3, above=0, maximum=1e6)

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.epochs / self.sampling_rate
        if steps > MOST_STEPS:
            raise InputError(
                f"--epochs {self.epochs} at --sampling_rate {self.sampling_rate:g} are "
                f"{steps:.3g} steps; at most {MOST_STEPS} can be taken"
            )
        if self.count_share + self.scaling_share >= 1:
            raise InputError("--count_share and --scaling_share leave nothing for the training")
        low, high = self.feature_min, self.feature_max
        if (low is None) != (high is None):
            raise InputError("--feature_min and --feature_max are given together or not at all")
        if low is not None and high is not None and np.float32(low) >= np.float32(high):
            raise InputError(f"--feature_min {low:g} is not below --feature_max {high:g}")
