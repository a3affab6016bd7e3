"""Utility of a head's scores and distances between sets of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_BYTES = 32 << 20  # of a block of the distance matrix: small enough for a processor's cache
SPARE = 4  # candidates kept beyond the k nearest, whose order rounding may have mixed up


class Nearest(NamedTuple):
    """The nearest references of each query, ascending by distance."""

    distances: Tensor  # [m, k] float32, Euclidean
    indices: Tensor  # [m, k] int64


class Scores(NamedTuple):
    """Utility of predictions, each in percent."""

    auc: float
    accuracy: float
    balanced_accuracy: float


def standardize(rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(rows - mean) / std for rows [n, D]; a constant feature (std 0) is divided by 1."""
    return (rows - mean) / torch.where(std > 0, std, 1.0)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each feature of rows [n, D], in float64 inside."""
    wide = rows.double() if rows.device.type != "mps" else rows
    mean = wide.mean(0)
    constant = (rows == rows[:1]).all(0)  # exactly so: rounding of the mean must not count
    std = torch.where(constant, 0.0, wide.std(0, correction=0))
    return mean.to(rows.dtype), std.to(rows.dtype)


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
    rows = max(1, BLOCK_BYTES // (4 * widest))
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


def average_mindistance(rows: Tensor, originals: Tensor) -> float:
    """Mean distance of rows [m, D] to the nearest of originals [n, D].

    Each side is standardised by its own statistics (Di Salvo et al., BMVC 2024).
    """
    ours = standardize(rows, *moments(rows))
    theirs = standardize(originals, *moments(originals))
    return float(nearest(ours, theirs).distances.cpu().double().mean())  # MPS lacks float64


def scores(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Macro one-vs-rest AUROC, accuracy and balanced accuracy, in percent.

    Args:
        probabilities: (n, C) float, rows sum to 1.
        labels: (n,) int64. Classes that never or always occur have no AUROC and are left out.
    """
    from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

    occurring = [c for c in np.unique(labels) if 0 < (labels == c).mean() < 1]
    aucs = [roc_auc_score(labels == c, probabilities[:, c]) for c in occurring]
    predicted = probabilities.argmax(1)
    return Scores(
        auc=100 * float(np.mean(aucs)) if aucs else float("nan"),
        accuracy=100 * float(accuracy_score(labels, predicted)),
        balanced_accuracy=100
        * float(recall_score(labels, predicted, labels=np.unique(labels), average="macro")),
    )
