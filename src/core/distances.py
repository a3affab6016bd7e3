"""Standardised features, and the nearest of many rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_BYTES = 32 << 20  # of a block of the distance matrix: small enough for a processor's cache
ROUNDING = 8  # units in the last place of a feature's mean: less spread is rounding noise
LEAST_QUERIES = 64  # of a block: products of fewer rows are slow
SPARE = 4  # candidates kept beyond the k nearest, whose order rounding may have mixed up


class Nearest(NamedTuple):
    """The nearest references of each query, ascending by distance."""

    distances: Tensor  # [m, k] float32, Euclidean
    indices: Tensor  # [m, k] int64


def standardize(rows: Tensor, mean: Tensor, std: Tensor, clip: float | None = None) -> Tensor:
    """(rows - mean) / std for rows [n, D]; a constant feature (std 0) is divided by 1.

    Args:
        clip: limits every standardised feature to ±clip.
    """
    z = (rows - mean) / torch.where(std > 0, std, 1.0)
    return z if clip is None else z.clamp(-clip, clip)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each feature of rows [n, D], in float64 inside.

    A feature that varies only by float32 rounding is constant: its deviation is 0.
    """
    wide = rows.double() if rows.device.type != "mps" else rows
    mean = wide.mean(0).to(rows.dtype)
    std = wide.std(0, correction=0).to(rows.dtype)
    size = mean.abs()
    ulp = torch.nextafter(size, torch.full_like(size, torch.inf)) - size
    return mean, torch.where(std < ROUNDING * ulp, 0.0, std)


def nearest(queries: Tensor, references: Tensor, k: int = 1) -> Nearest:
    """The k nearest of references [n, D] to each of queries [m, D].

    Candidates come from blocks of one matrix product, so memory is linear in m and n; their
    distances are then taken from the differences themselves, so that a copy is at distance 0.
    """
    centre = references.mean(0)
    queries, references = queries - centre, references - centre
    half_squares = references.square().sum(1) / 2
    keep = min(k + SPARE, len(references))
    widest = max(len(references), keep * references.shape[1])  # of what a query takes
    rows = max(LEAST_QUERIES, BLOCK_BYTES // (4 * widest))
    distances, indices = [], []
    for block in queries.split(rows):
        # |q - r|² / 2 without the |q|² / 2 that every reference shares
        partial = torch.addmm(half_squares, block, references.T, alpha=-1)
        candidates = partial.topk(keep, largest=False, sorted=False).indices.sort(1).values
        exact = (references[candidates] - block[:, None]).square().sum(2).sqrt()
        order = exact.sort(dim=1, stable=True)  # equal distances: the lower index first
        distances.append(order.values[:, :k])
        indices.append(candidates.gather(1, order.indices[:, :k]))
    return Nearest(torch.cat(distances), torch.cat(indices))
