"""Rows of persons whose own effect is known, and digits of which each is a person of five."""

import numpy as np

from src.database import EmbeddingSet, Splits

DIM = 12


def people(n, seed, *, first=0, rows=5, effect=1.0, noise=0.5):
    """Rows of n persons in two classes: class, and person's effect, and noise; in any order."""
    rng = np.random.default_rng(seed)
    whose = rng.permutation(np.repeat(np.arange(n), rows))
    labels = whose % 2
    x = effect * rng.normal(size=(n, DIM))[whose] + noise * rng.normal(size=(len(whose), DIM))
    x += 2 * labels[:, None] * (np.arange(DIM) == 0)
    return EmbeddingSet(x.astype(np.float32), labels, persons=whose + first)


def crowd(train=60, test=60, seed=0, **values):
    """Splits of different persons."""
    return Splits(
        people(train, seed, **values),
        people(15, seed + 1, first=10_000, **values),
        people(test, seed + 2, first=20_000, **values),
    )


def fives(data, seed, *, first=0, jitter=0.02):
    """Each row five times, jittered: a person of five rows."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(data)), 5)
    x = data.embeddings[rows] + jitter * rng.normal(size=(len(rows), data.dim))
    return EmbeddingSet(x.astype(np.float32), data.labels[rows], persons=rows + first)
