"""What a head's result says: utility of its scores, and distance of its rows to the originals."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch

from src.core import seeding
from src.core.distances import moments, nearest, standardize
from src.database import EmbeddingSet

log = logging.getLogger(__name__)

MOST_PAIRS = 4 * 10**8  # rows times originals; beyond, some of the rows stand for all
DRAWN = 10_000  # rows that stand for all


class Scores(NamedTuple):
    """Utility of predictions, each in percent."""

    auc: float
    accuracy: float
    balanced_accuracy: float


class Distance(NamedTuple):
    """A mean distance, and of how many rows drawn at random; None where it is that of all."""

    mean: float
    rows: int | None = None


def average_mindistance(
    rows: EmbeddingSet, originals: EmbeddingSet, device: torch.device
) -> Distance:
    """Mean Euclidean distance of rows to the nearest original.

    Each side is standardised by its own statistics (Di Salvo et al., BMVC 2024). Beyond
    MOST_PAIRS the mean is that of DRAWN rows, the same ones for every head of a release, so that
    time grows with the number of rows and not with its square.
    """
    sides = (data.tensors(device)[0] for data in (rows, originals))
    (ours, own), (theirs, its) = ((side, moments(side)) for side in sides)
    drawn = len(rows) > DRAWN and len(rows) * len(originals) > MOST_PAIRS
    if drawn:
        generator = seeding.generator(0, "rows that the distance is measured of")
        chosen = torch.randperm(len(rows), generator=generator)[:DRAWN].sort().values
        ours = ours[chosen.to(device)]
        log.info("distance to the originals: of %d of %d rows, drawn at random", DRAWN, len(rows))
    found = nearest(standardize(ours, *own), standardize(theirs, *its))
    mean = float(found.distances.cpu().double().mean())  # MPS lacks float64
    return Distance(mean, DRAWN if drawn else None)


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
