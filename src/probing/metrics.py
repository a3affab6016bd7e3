"""What a head's result says: utility of its scores, and distance of its rows to the originals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from src.core.distances import moments, nearest, standardize
from src.database import EmbeddingSet


class Scores(NamedTuple):
    """Utility of predictions, each in percent."""

    auc: float
    accuracy: float
    balanced_accuracy: float


def average_mindistance(
    rows: EmbeddingSet, originals: EmbeddingSet, device: torch.device
) -> float:
    """Mean Euclidean distance of rows to the nearest original.

    Each side is standardised by its own statistics (Di Salvo et al., BMVC 2024).
    """
    sides = (data.tensors(device)[0] for data in (rows, originals))
    ours, theirs = (standardize(side, *moments(side)) for side in sides)
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
