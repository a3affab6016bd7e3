"""One Gaussian per class, as simple as a generative release can be: a reference for the audit."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import OAS
from threadpoolctl import threadpool_limits

from src.anonymizers.base import Rows
from src.core import progress, seeding
from src.core.errors import InputError
from src.database import EmbeddingSet


def release(train: EmbeddingSet, *, seed: int) -> Rows:
    """As many draws of each class as the training set has rows of it, sorted by class.

    The covariance is shrunk towards a multiple of the identity, so that it has full rank where a
    class has fewer rows than dimensions (oracle approximating shrinkage; Chen et al., 2010).

    Raises:
        InputError: a class has one row, which would be released as it is.
    """
    classes, counts = np.unique(train.labels, return_counts=True)
    if counts.min() < 2:
        name = train.class_names[classes[counts.argmin()]]
        raise InputError(f"class {name} has 1 training row; gaussian needs at least 2 of each")
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
