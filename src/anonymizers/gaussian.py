"""One Gaussian per class, as simple as a generative release can be: a reference for the audit."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import OAS
from threadpoolctl import threadpool_limits

from src.anonymizers.base import Rows
from src.core import progress, seeding
from src.core.distances import moments
from src.core.errors import InputError
from src.database import EmbeddingSet


def release(train: EmbeddingSet, *, seed: int) -> Rows:
    """As many draws of each class as the training set has rows of it, sorted by class.

    The covariance is shrunk towards a multiple of the identity, so that it has full rank where a
    class has fewer rows than dimensions (oracle approximating shrinkage; Chen et al., 2010).

    Raises:
        InputError: the rows of a class are one or equal, so that it would be released as it is.
    """
    classes, counts = np.unique(train.labels, return_counts=True)
    for label in classes:
        _require_spread(train, int(label))
    draws = []
    with threadpool_limits(1):  # the rounding of a factorisation depends on the number of threads
        for label, count in progress.bar(
            list(zip(classes, counts, strict=True)), desc="Gaussians"
        ):
            fitted = OAS().fit(train.embeddings[train.labels == label].astype(np.float64))
            rng = np.random.default_rng(seeding.stream_seed(seed, f"gaussian/{label}"))
            rows = rng.multivariate_normal(
                fitted.location_, fitted.covariance_, count, method="cholesky"
            )
            draws.append(rows.astype(np.float32))
    return Rows(np.concatenate(draws), np.repeat(classes, counts), {})


def _require_spread(train: EmbeddingSet, label: int) -> None:
    """Raise InputError where a class has no two rows that differ by more than rounding."""
    rows = train.embeddings[train.labels == label]
    if moments(torch.from_numpy(rows))[1].any():
        return
    what = "1 training row" if len(rows) == 1 else f"{len(rows)} training rows that are equal"
    raise InputError(
        f"class {train.class_names[label]} has {what}, which gaussian would release; it needs at "
        "least 2 different rows of each class: leave the class out, or gather more of it"
    )
