"""How well a release covers the real rows: the other side of every privacy metric."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.audit.attacks import evenly
from src.core import distances
from src.database import EmbeddingSet

NEIGHBOURS = 5
BLOCK_ELEMENTS = 1 << 22  # of a block of the distance matrix


class Manifold(NamedTuple):
    """Coverage and density before averaging (Naeem et al., ICML 2020)."""

    coverage: np.ndarray  # (n,) float64: 1 for a real row with a released row in its ball
    rows: np.ndarray  # (n,) int64: the numbers of those real rows
    density: np.ndarray  # (m,) float64: number of balls around a released row, divided by k


def manifold(
    release: EmbeddingSet,
    real: EmbeddingSet,
    device: torch.device,
    centres: EmbeddingSet | None = None,
) -> Manifold:
    """Coverage and density within each label, with k = 5.

    The ball of a real row is open and reaches to its k-th nearest real row of the same label (to
    the farthest one where a label has fewer). So releasing the real rows themselves gives 1 for
    both. Labels with a single real row have no ball and are left out.

    Args:
        release, real: rows without exact copies.
        centres: the real rows, drawn from all, whose balls are looked at; then the numbers of
            rows are theirs, and each ball stands for as many as one was drawn from.
    """
    centres = real if centres is None else centres
    nothing = torch.zeros(0, dtype=torch.float64, device=device)
    covered, density = [nothing], [nothing]
    numbers = [np.arange(0)]
    for label in np.unique(real.labels):
        rows = np.flatnonzero(centres.labels == label)
        ours = real.embeddings[real.labels == label]
        theirs = release.embeddings[release.labels == label]
        k = min(NEIGHBOURS, len(ours) - 1)
        if not k or not len(rows):
            continue
        own = centres.embeddings[rows]
        z, x, y = (torch.from_numpy(part).to(device).double() for part in (ours, own, theirs))
        # shortened, so that a row on the rim stays outside however its distance is rounded
        radii = distances.nearest(x, z, k + 1).distances[:, k] * (1 - 1e-9)
        balls, inside = _balls(x, radii, y)
        covered.append(balls.double())
        numbers.append(rows)
        density.append(inside.double() / k * (len(ours) / len(rows)))
    coverage, densities = (torch.cat(part).cpu().numpy() for part in (covered, density))
    return Manifold(coverage, np.concatenate(numbers), densities)


def _balls(centres: Tensor, radii: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each ball [n] holds a point [m, D], and how many balls hold each point [m]."""
    holds = torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    counts = [torch.zeros(0, dtype=torch.int64, device=centres.device)]
    for block in points.split(max(1, BLOCK_ELEMENTS // len(centres))):
        within = torch.cdist(block, centres) < radii
        holds |= within.any(0)
        counts.append(within.sum(1))
    return holds, torch.cat(counts)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to rows (n, D) and (m, D).

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½), as in the FID (Heusel et al., NeurIPS 2017).
    """
    a, b = evenly(a), evenly(b)
    first, second = (np.cov(rows, rowvar=False, bias=True, dtype=np.float64) for rows in (a, b))
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    shift = np.square(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)).sum()
    return max(0.0, float(shift + np.trace(first) + np.trace(second) - 2 * cross))
