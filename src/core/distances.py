"""Standardised features, and the nearest of many rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

QUERIES, TILE = 1024, 8192  # rows and columns of the distance matrix that exist at once
GATHERED = 8 << 20  # numbers of the candidates that are looked at again at once
ROUNDING = 8  # units in the last place of a feature's mean: less spread is rounding noise
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

    Candidates come from tiles of one matrix product, so memory is linear in m and n; their
    distances are then taken from the differences themselves, so that a copy is at distance 0.
    """
    centre = references.mean(0)  # from which a product's rounding errors are smaller
    squares = [(tile - centre).square().sum(1) for tile in references.split(TILE)]
    keep = min(k + SPARE, len(references))
    rows = max(1, GATHERED // (keep * references.shape[1]))
    distances, indices = [], []
    for part in queries.split(QUERIES):
        block = part - centre
        candidates = _candidates(block, references, centre, squares, keep)
        for ours, chosen in zip(block.split(rows), candidates.split(rows), strict=True):
            theirs = references[chosen] - centre
            exact = (theirs - ours[:, None]).square().sum(2).sqrt()
            order = exact.sort(dim=1, stable=True)  # equal distances: the lower index first
            distances.append(order.values[:, :k])
            indices.append(chosen.gather(1, order.indices[:, :k]))
    return Nearest(torch.cat(distances), torch.cat(indices))


def _candidates(
    block: Tensor, references: Tensor, centre: Tensor, squares: list[Tensor], keep: int
) -> Tensor:
    """Numbers [m, keep] of the references nearest to the block by a product, ascending.

    Args:
        squares: of each tile of references, the squared distances to the centre.
    """
    values, indices = [], []
    for i, tile in enumerate(references.split(TILE)):
        # |q - r|² / 2 without the |q|² / 2 that every reference shares
        partial = torch.addmm(squares[i] / 2, block, (tile - centre).T, alpha=-1)
        best = partial.topk(min(keep, len(tile)), largest=False, sorted=False)
        values.append(best.values)
        indices.append(best.indices + i * TILE)
    if len(indices) == 1:
        return indices[0].sort(1).values
    chosen = torch.cat(values, 1).topk(keep, largest=False, sorted=False).indices
    return torch.cat(indices, 1).gather(1, chosen).sort(1).values
