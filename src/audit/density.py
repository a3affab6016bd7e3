"""Attacks on the spread of a release: how likely a candidate is under a Gaussian per class.

A Gaussian with a full covariance that was fitted to fewer rows than dimensions is flat, and every
training row lies in that flat: a distance to single released rows does not show it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from src.audit.attacks import evenly
from src.database import EmbeddingSet

FLAT = 1e-9  # of the largest variance: what is less is rounding
TINY = float(np.finfo(np.float64).tiny)


class Scores(NamedTuple):
    """Per candidate (n,), comparable within a label only; -inf where the release lacks it."""

    mahalanobis: np.ndarray  # minus the squared distance under the label's mean and covariance
    span: np.ndarray  # minus the squared distance from the released rows' span; 0 if they span all


def scores(rows: EmbeddingSet, release: EmbeddingSet) -> Scores:
    """Density scores of candidates, label by label.

    The covariance is that of the released rows, shrunk towards a multiple of the identity (OAS:
    Chen, Wiesel, Eldar, Hero, 2010), which gives directions outside the span a variance.

    Args:
        release: rows without exact copies.
    """
    found = Scores(np.full(len(rows), -np.inf), np.full(len(rows), -np.inf))
    for label in np.intersect1d(rows.labels, release.labels):
        ours = rows.labels == label
        theirs = evenly(release.embeddings[release.labels == label]).astype(np.float64)
        candidates = rows.embeddings[ours].astype(np.float64) - theirs.mean(0)
        found.mahalanobis[ours], found.span[ours] = _of_class(candidates, theirs - theirs.mean(0))
    return found


def within_labels(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of each value (n,) among those of its label, as a share, ties sharing a rank."""
    from scipy.stats import rankdata

    shares = np.zeros(len(values))
    for label in np.unique(labels):
        own = labels == label
        shares[own] = rankdata(values[own]) / own.sum()
    return shares


def _of_class(candidates: np.ndarray, centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both scores of candidates (m, D) of a label with released rows (n, D), less their mean."""
    n, dim = centred.shape
    wide = n < dim  # the n × n matrix of inner products is the smaller one
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    kept = values > FLAT * max(values[-1], TINY)
    variances = values[kept] / n
    axes = vectors[:, kept]
    if wide:
        axes = centred.T @ (axes / np.sqrt(values[kept]))
    along = np.square(candidates @ axes)
    outside = np.maximum(np.square(candidates).sum(1) - along.sum(1), 0.0)
    if len(variances) == dim:
        outside[:] = 0.0
    if not len(variances):  # a single point
        return -outside, -outside
    shrinkage = _oas(variances, n, dim)
    rest = shrinkage * variances.sum() / dim  # the variance of a direction outside the span
    inside = along @ (1 / ((1 - shrinkage) * variances + rest))
    return -(inside + outside / rest), -outside


def _oas(variances: np.ndarray, n: int, dim: int) -> float:
    """The shrinkage of a covariance with these eigenvalues and zeros, fitted to n rows."""
    square, mean = np.square(variances).sum() / dim**2, variances.sum() / dim
    divisor = (n + 1) * (square - mean**2 / dim)
    return float(min(1.0, (square + mean**2) / divisor)) if divisor > 0 else 1.0
