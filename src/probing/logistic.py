"""Multinomial logistic regression whose L2 strength is chosen by validation loss.

The usual linear probe of this field. It draws no random number, so that a figure is the
release's and not the fit's.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from src.core import progress
from src.core.errors import InputError

STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # C, the inverse of the L2 penalty
TOLERANCE, MOST_STEPS = 1e-4, 1000  # of L-BFGS: the gradient at which it stops
ABSENT = -30.0  # logit of a class without rows


class Logistic(NamedTuple):
    """A fitted regression."""

    weight: np.ndarray  # (C, D) float32
    bias: np.ndarray  # (C,) float32
    strength: float  # C, of STRENGTHS
    loss: float  # mean cross-entropy on the validation rows
    steps: int  # of L-BFGS, over all strengths


class Labelled(NamedTuple):
    """Standardised features (n, D) float32 and labels (n,) int64."""

    x: np.ndarray
    labels: np.ndarray


def fit(rows: Labelled, held_out: Labelled, num_classes: int) -> Logistic:
    """Minimise mean cross-entropy + ‖W‖² / (2·C·n) for each C, keep the best on held-out rows.

    Each fit is scikit-learn's own, from zero, so that it depends on its C alone; of two classes
    W has one row. Equal losses go to the smaller C. Classes without rows are never predicted.
    In float32 L-BFGS would stop above TOLERANCE, where the loss no longer changes. One thread:
    these products are too small to be shared, and the bytes then do not depend on the number of
    threads.

    Raises:
        InputError: all rows are of one class, or held-out features are infinite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if np.ptp(rows.labels) == 0:
        raise InputError("a logistic head needs rows of two classes; all of these are of one")
    x, unseen = rows.x.astype(np.float64), held_out.x.astype(np.float64)
    if not np.isfinite(unseen).all():
        raise InputError(
            "validation rows are too far from the rows that standardise them: float32 overflows; "
            "--clip 10 limits them"
        )
    regression = LogisticRegression(tol=TOLERANCE, max_iter=MOST_STEPS)
    best, steps = None, 0
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # MOST_STEPS is the definition
        for strength in progress.bar(STRENGTHS, desc="logistic head", unit="strength"):
            regression.set_params(C=strength).fit(x, rows.labels)
            steps += int(regression.n_iter_.max())
            weight, bias = _per_class(regression, num_classes)
            loss = cross_entropy(unseen @ weight.T + bias, held_out.labels)
            if best is None or loss < best.loss:
                best = Logistic(weight, bias, strength, loss, 0)
    assert best is not None
    return best._replace(steps=steps)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (n, C) against labels (n,), in float64."""
    return float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels)))


def _per_class(regression: object, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, D) and biases (C,); scikit-learn has one row for two classes."""
    coefficients, intercept = regression.coef_, regression.intercept_  # type: ignore[attr-defined]
    if len(coefficients) == 1:
        coefficients = np.concatenate((np.zeros_like(coefficients), coefficients))
        intercept = np.concatenate((np.zeros_like(intercept), intercept))
    weight = np.zeros((num_classes, coefficients.shape[1]), np.float32)
    bias = np.full(num_classes, ABSENT, np.float32)
    classes = regression.classes_  # type: ignore[attr-defined]
    weight[classes], bias[classes] = coefficients, intercept
    return weight, bias
