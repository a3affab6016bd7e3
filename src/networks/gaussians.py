"""One Gaussian per class with a covariance that all share, computed from noisy sums over rows.

The sums are all that is known of the rows; everything here is computed from them. Units: a row x
enters the sums as z = (x − centre) / (scale · radius), shortened to norm 1 where it is longer.
Shapes: C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from src.networks.sampling import Sampler

LEAST_SPREAD = 0.02  # of the mean variance of a direction, which no direction falls below
LEAST_TRACE = 0.01  # mean of |z|², which is at most 1 and about 0.8 where the radius is typical


class Sums(NamedTuple):
    """Sums over rows with noise, and the standard deviations of that noise; all float32."""

    counts: Tensor  # [C] rows of each class
    centre: Tensor  # [D]
    scale: Tensor  # [D] unit of each feature, above 0
    radius: Tensor  # [] norm that (x − centre) / scale is limited to
    class_sums: Tensor  # [C, D] Σ z of each class
    squares: Tensor  # [] Σ |z|²
    moments: Tensor  # [D, D] Σ z zᵀ; its noise is symmetric, off the diagonal 1/√2 as large
    noise: Tensor  # [4] standard deviations: of counts, class_sums, squares, moments


class Model(NamedTuple):
    """The Gaussians in units of z (float64), and how much of the sums was kept."""

    means: Tensor  # [C, D]
    axes: Tensor  # [D, k] orthonormal
    deviations: Tensor  # [k] along the axes, the same for all classes
    other_deviation: float  # along every other direction
    kept_means: Tensor  # [C] factor of each class's mean, 0..1
    kept_directions: int  # of the covariance, whose variance stands out of the noise
    kept_variance: float  # share of the variance that these directions have


def model_of(sums: Sums) -> Model:
    """The Gaussians that noisy sums give: post-processing, which costs no privacy.

    1. Class means S_c/n_c, each moved towards the centre by the share of its length that is noise:
       1 − D σ²/(n_c² |S_c/n_c|²) (Efron and Morris, JASA 1973). A mean keeps a share of √(2/D)
       at least, which chance could hide.
    2. Covariance of all rows: the mean variance b of a direction, in all directions, plus what
       stands out of the noise. Noise alone has eigenvalues up to 2τ = σ √(2D)/N (a Wigner
       matrix). One that is off b by l, |l| > 2τ, counts as b ± √(l² − 4τ²); below b only where
       2τ < b, as no variance is below 0. (A variance λ is seen as λ + τ²/λ, along an axis whose
       squared cosine to the true one is 1 − τ²/λ²: Benaych-Georges and Nadakuditi, Advances in
       Mathematics 2011. The product λ − τ²/λ has the least error in Frobenius norm, and is this
       root.) What is left of the trace is spread evenly over the others.
    3. Covariance within classes: that of all rows minus that of the means, so that the spread of
       all released rows does not depend on how far the means were moved.

    Without noise these are the sample's own means and covariance, as long as no direction has less
    than LEAST_SPREAD of the mean variance.
    """
    counts, *_, class_sums, squares, moments, noise = (part.double() for part in sums)
    dim, rows = len(moments), counts.clamp(min=1)
    total = rows.sum()
    means = class_sums / rows[:, None]
    drift = dim * (noise[1] / rows).square() / means.square().sum(1).clamp(min=1e-300)
    kept = (1 - drift).clamp(min=min(1.0, math.sqrt(2 / dim)))
    means = means * kept[:, None]
    trace = float((squares / total).clamp(LEAST_TRACE, 1))
    even, edge = trace / dim, float(noise[3] / total) * math.sqrt(2 * dim)
    least = LEAST_SPREAD * even
    found, axes = torch.linalg.eigh(moments / total)
    off = found - even
    outside = (off > edge) | ((off < -edge) & (edge < even))
    axes = axes[:, outside]
    variances = (even + off.sign() * (off.square() - edge**2).clamp(min=0).sqrt())[outside]
    others = max(least, (trace - float(variances.sum())) / max(1, dim - len(variances)))
    # Outside the span of these axes and the means, the covariance is even: this span is enough.
    weighted = means.T * (rows / total).sqrt()
    span = torch.linalg.qr(torch.cat([axes, weighted], 1))[0]
    standing, moved = span.T @ axes, span.T @ weighted
    flat = others * torch.eye(span.shape[1], dtype=span.dtype)
    of_all = flat + (standing * (variances - others)) @ standing.T
    within, turned = torch.linalg.eigh(of_all - moved @ moved.T)
    return Model(
        means,
        axes=span @ turned,
        deviations=within.clamp(min=least).sqrt(),
        other_deviation=math.sqrt(others),
        kept_means=kept,
        kept_directions=len(variances),
        kept_variance=min(1.0, float(variances.clamp(min=0).sum()) / trace),
    )


class Gaussians(Sampler):
    """Draws of the Gaussians that noisy sums give. Its buffers are the sums, for files."""

    def __init__(self, sums: Sums) -> None:
        super().__init__()
        for name, tensor in sums._asdict().items():
            self.register_buffer(name, tensor.float())
        self.num_classes, self.latent_dim = sums.class_sums.shape

    @property
    def sums(self) -> Sums:
        """The noisy sums."""
        return Sums(*(self.get_buffer(name) for name in Sums._fields))

    @property
    def dim(self) -> int:
        """D."""
        return self.latent_dim

    @property
    def class_weights(self) -> Tensor:  # type: ignore[override]
        """Rows of each class [C]: the noisy counts as whole numbers, at least 1."""
        return self.get_buffer("counts").round().clamp(min=1)

    @cached_property
    def model(self) -> Model:
        """What the sums give, computed once, on the CPU."""
        return model_of(Sums(*(part.cpu() for part in self.sums)))

    def sample(
        self, labels: Tensor, generator: torch.Generator, block_rows: int = 8192
    ) -> Iterator[Tensor]:
        """One row for each label [N], in blocks [block_rows, D]."""
        sums, model, device = self.sums, self.model, self.device
        means, axes = (part.float().to(device) for part in (model.means, model.axes))
        more = model.deviations.float().to(device) - model.other_deviation
        for classes in labels.split(block_rows):
            noise = torch.randn(
                len(classes), self.dim, generator=generator, device=generator.device
            )
            along = (noise @ axes) * more
            z = torch.addmm(model.other_deviation * noise + means[classes], along, axes.T)
            yield z.mul_(sums.scale * sums.radius).add_(sums.centre)
