"""The sums that a private Gaussian per class is computed from, each with its noise.

In this order, as later ones are taken in units that follow from earlier ones:

1. `class_counts`;
2. `norms`: a histogram of the norms of rows, whose median limits them (or a public bound does);
3. `centre`: the sum of rows, shortened to that norm;
4. `scaling`: the sum of |x − centre| of each feature, shortened likewise. From here on features
   are divided by the square root of its mean: of all units these make the noise of the next sums
   smallest, added up over features in their own units (Cauchy and Schwarz). Pixels, which share a
   unit, are left as they are;
5. `radius`: a histogram of the norms of x − centre in these units, whose lower quartile is the
   radius: shortening most rows a little costs less than noise in units of the longest;
6. `class_sums`, `squares` and `moments`: Σ z of each class, Σ |z|² and Σ z zᵀ of
   z = (x − centre)/radius, shortened to norm 1.

Whoever is added changes each sum by at most 1 in norm after division by its bound, whatever the
rows are: they are shortened in float64, in which no square of a float32 overflows, and what is
not finite contributes 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from src.anonymizers.dp import sums
from src.anonymizers.dp.contributions import Block, Blocks, limited, norm_quantile
from src.networks.gaussians import Sums

LEAST_UNIT = 2.0  # deviations of the noise of a feature's unit, which no unit is below
OF_NOISE = ("class_counts", "class_sums", "squares", "moments")  # as `Sums.noise` has them


class Taker:
    """Takes sums over rows, each with the noise of its mechanism."""

    def __init__(
        self, rows: Blocks, noise: Mapping[str, float], generator: torch.Generator
    ) -> None:
        self.rows, self.noise, self.generator = rows, noise, generator

    def take(self, name: str, contribution: Callable[[Block], Tensor]) -> Tensor:
        """A sum with noise on each of its numbers."""
        return self.with_noise(name, self.rows.sum(contribution))

    def with_noise(self, name: str, total: Tensor) -> Tensor:
        """A sum, to which noise is added."""
        return sums.add_noise(total, self.noise[name], self.generator)

    def quantile(self, name: str, to_rows: Callable[[Tensor], Tensor], level: float) -> float:
        """The norm that a share `level` of rows has at most, after they are made to others."""
        histogram = self.take(name, lambda b: b.octaves(to_rows(b.rows)))
        return norm_quantile(histogram, self.noise[name], level)

    def mean(
        self, name: str, to_rows: Callable[[Tensor], Tensor], bound: float, count: float
    ) -> tuple[Tensor, float]:
        """The mean [D] of rows shortened to norm `bound`, and the deviation of its noise."""
        total = self.take(name, lambda b: b.weights @ limited(to_rows(b.rows), bound))
        deviation = bound * self.noise[name] / count
        return sums.shrunk(total * bound / count, deviation), deviation


def take(
    rows: Blocks,
    classes: int,
    noise: Mapping[str, float],
    bound: float | None,
    generator: torch.Generator,
) -> tuple[Sums, list[float]]:
    """The sums, and the two norms that rows were limited to: before and after centring.

    Args:
        noise: multiplier of each mechanism that is used.
        bound: a public bound of the norms of rows; None asks for their median.
    """
    taker = Taker(rows, noise, generator)
    counts = taker.take(
        "class_counts", lambda b: b.by_class(torch.ones_like(b.rows[:, :1]), classes)
    )
    count = float(counts.sum().clamp(min=1))
    if bound is None:
        bound = taker.quantile("norms", lambda x: x, 1 / 2)
    centre, _ = taker.mean("centre", lambda x: x, bound, count)
    scale = torch.ones_like(centre)
    if "scaling" in noise:
        spread, deviation = taker.mean("scaling", lambda x: (x - centre).abs(), bound, count)
        scale = torch.hypot(spread.clamp(min=0), torch.full_like(spread, LEAST_UNIT * deviation))
        scale = scale.sqrt().float().to(centre.dtype)  # as files have it
    radius = taker.quantile("radius", lambda x: (x - centre) / scale, 1 / 4)
    found = _of_limited(taker, lambda x: limited((x - centre) / scale, radius), classes)
    deviations = torch.tensor([noise[name] for name in OF_NOISE])
    unit = torch.tensor(radius)
    return Sums(counts[:, 0], centre, scale, unit, *found, deviations), [bound, radius]


def _of_limited(
    taker: Taker, to_z: Callable[[Tensor], Tensor], classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Class sums [C, D], squares [] and moments [D, D] of z, in one pass."""

    def contribution(block: Block) -> Tensor:
        z = to_z(block.rows)
        weighted = z * block.weights[:, None]
        parts = block.by_class(z, classes), (weighted * z).sum(), weighted.T @ z
        return torch.cat([part.flatten() for part in parts])

    total = taker.rows.sum(contribution)
    dim = taker.rows.train.dim
    class_sums, squares, moments = total.split([classes * dim, 1, dim * dim])
    return (
        taker.with_noise("class_sums", class_sums.view(classes, dim)),
        taker.with_noise("squares", squares)[0],
        with_symmetric_noise(moments.view(dim, dim), taker.noise["moments"], taker.generator),
    )


def with_symmetric_noise(
    moments: Tensor, noise_multiplier: float, generator: torch.Generator
) -> Tensor:
    """Symmetric [D, D] with noise σ N(0, 1) on the diagonal, σ/√2 N(0, 1) in each pair off it.

    One z zᵀ with |z| ≤ 1 has Frobenius norm at most 1. In coordinates in which that is the L2 norm
    (the diagonal, and √2 times what is above it), this is N(0, σ²) on each.
    """
    noise = sums.add_noise(torch.zeros_like(moments), noise_multiplier, generator)
    above = noise.triu(1) / 2**0.5
    return (moments + moments.T) / 2 + above + above.T + noise.diag().diag()
