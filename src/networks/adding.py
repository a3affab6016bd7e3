"""Noisy sums of several sites, added up: each site has taken them in units of its own.

With u = scale · radius a site's z = (x − c)/u is, in the units that all share, s z + a, where
s = u_site/u and a = (c_site − c)/u. So Σ z and Σ z zᵀ of its rows follow from its own sums: no row
is needed, and no privacy is spent.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from src.networks.gaussians import Sums


class Added(NamedTuple):
    """The sums of all rows, and what became of each site's noise."""

    sums: Sums
    factors: Tensor  # [sites, 4] of the deviations in `Sums.noise`, whose squares add up


class _Common(NamedTuple):
    """The units that all sites share."""

    centre: Tensor  # [D]
    scale: Tensor  # [D]
    radius: Tensor  # []


def added(sites: Sequence[Sums]) -> Added:
    """The sums of all sites' rows together; of one site its own.

    Args:
        sites: with the same classes and features, in the same order, of different rows.
    """
    common = _common(sites)
    moved = [_moved(sums, common) for sums in sites]
    factors = torch.stack([m.noise / sums.noise for m, sums in zip(moved, sites, strict=True)])
    total = functools.reduce(_together, moved)
    return Added(Sums(*(part.float() for part in total)), factors)


def _together(one: Sums, other: Sums) -> Sums:
    """The sums of different rows in the same units."""
    return one._replace(
        counts=one.counts + other.counts,
        class_sums=one.class_sums + other.class_sums,
        squares=one.squares + other.squares,
        moments=one.moments + other.moments,
        noise=torch.hypot(one.noise, other.noise),
    )


def _common(sites: Sequence[Sums]) -> _Common:
    """Units in which the noise of all class sums together is the same for every feature.

    They are so long that no row of any site is longer than 1, as `Sums` has it.
    """
    sites = [Sums(*(part.double() for part in sums)) for sums in sites]
    rows = torch.stack([sums.counts.clamp(min=1).sum() for sums in sites])
    noise = torch.stack([sums.noise[1] for sums in sites]).square()
    centre = _weighted(rows, [sums.centre for sums in sites])
    radius = _weighted(noise, [sums.radius**2 for sums in sites]).sqrt()
    unit = _weighted(noise, [(sums.scale * sums.radius) ** 2 for sums in sites]).sqrt()
    longest = max(
        float(((sums.centre - centre) / unit).norm() + (sums.scale * sums.radius / unit).max())
        for sums in sites
    )
    return _Common(centre, unit / radius, radius * longest)


def _weighted(weights: Tensor, values: Sequence[Tensor]) -> Tensor:
    """The mean of values [...] with weights [sites]."""
    return torch.tensordot(weights / weights.sum(), torch.stack(list(values)), 1)


def _moved(sums: Sums, common: _Common) -> Sums:
    """A site's sums in the common units; its noise as the root mean square of each sum's."""
    counts, centre, scale, radius, class_sums, squares, moments, noise = (
        part.double() for part in sums
    )
    unit = common.scale * common.radius
    stretch, shift = scale * radius / unit, (centre - common.centre) / unit
    rows, along = counts.sum(), stretch * class_sums.sum(0)
    of_squares = stretch.square()
    # Squares are one number with little noise, so as much as possible is taken from it.
    even = of_squares.mean()
    crossed = torch.outer(shift, along)
    return Sums(
        counts,
        *common,
        class_sums=stretch * class_sums + counts[:, None] * shift,
        squares=even * squares
        + ((of_squares - even) * moments.diag()).sum()
        + 2 * shift @ along
        + rows * shift @ shift,
        moments=torch.outer(stretch, stretch) * moments
        + (crossed + crossed.T)  # first: symmetric to the last bit
        + rows * torch.outer(shift, shift),
        noise=_noise(noise, len(counts), of_squares, shift),
    )


def _noise(noise: Tensor, classes: int, of_squares: Tensor, shift: Tensor) -> Tensor:
    """Deviations [4] of the noise of a site's sums after they were moved.

    Of moments as of symmetric noise with σ on the diagonal and σ/√2 off it, whose squares add up
    to σ² D(D + 1)/2.

    Args:
        of_squares, shift: s² and a [D].
    """
    of_counts, of_sums, of_square, of_moments = noise.square()
    dim, far, even = len(shift), shift @ shift, of_squares.mean()
    of_along = classes * of_sums * of_squares  # of the sum over all rows, by feature
    of_rows = classes * of_counts
    pairs = (of_squares.sum() ** 2 + of_squares.square().sum()) / 2 * of_moments
    crossed = 2 * far * of_along.sum() + 2 * (shift.square() * of_along).sum()
    return torch.stack(
        [
            of_counts,
            even * of_sums + far / dim * of_counts,
            even**2 * of_square
            + (of_squares - even).square().sum() * of_moments
            + 4 * (shift.square() * of_along).sum()
            + far**2 * of_rows,
            (pairs + crossed + far**2 * of_rows) / (dim * (dim + 1) / 2),
        ]
    ).sqrt()
