"""Rows that are made to be remembered: what they risk, hardly any real row exceeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from src.audit import attacks
from src.audit.settings import MISLABELLED
from src.core.errors import InputError
from src.database import EmbeddingSet

FLATTEST = 0.25  # share of the directions of a class, those of least variance


def made(train: EmbeddingSet, kind: str, number: int, rng: np.random.Generator) -> EmbeddingSet:
    """That many canaries, of the classes in turn; each is a person of its own.

    Args:
        kind: of CANARIES.

    Raises:
        InputError: there is one class only, so that no label is wrong.
    """
    classes = np.unique(train.labels)
    if kind == MISLABELLED and len(classes) < 2:
        raise InputError("--canaries mislabelled: the training split has one class only")
    labels = classes[np.arange(number) % len(classes)]
    rows = _mislabelled if kind == MISLABELLED else _displaced
    embeddings = np.empty((number, train.dim), dtype=np.float32)
    for label in np.unique(labels):
        own = labels == label
        embeddings[own] = rows(train, int(label), int(own.sum()), rng)
    persons = None if train.persons is None else train.persons.max() + 1 + np.arange(number)
    return EmbeddingSet(embeddings, labels, train.meta, persons)


def _mislabelled(
    train: EmbeddingSet, label: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of other classes, drawn from the tenth that is farthest from this class's mean.

    A little of another such row is mixed in, as the row itself has its true label in training.
    """
    others = train.embeddings[train.labels != label]
    away = np.linalg.norm(others - train.embeddings[train.labels == label].mean(0), axis=1)
    far = others[np.argsort(-away, kind="stable")[: max(number, len(others) // 10)]]
    chosen = far[rng.choice(len(far), number, replace=number > len(far))]
    mixed = far[rng.integers(len(far), size=number)]
    return np.asarray(0.8 * chosen + 0.2 * mixed, dtype=np.float32)


def _displaced(
    train: EmbeddingSet, label: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of the class, moved where it varies least, as far as its rows are from their mean."""
    rows = train.embeddings[train.labels == label].astype(np.float64)
    centred = rows - rows.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]  # [d, D], variances descending
    flat = directions[-max(1, int(FLATTEST * len(directions))) :]
    moves = rng.normal(size=(number, len(flat))) @ flat
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    radius = np.linalg.norm(centred, axis=1).mean() or 1.0
    chosen = rng.integers(len(rows), size=number)
    return np.asarray(rows[chosen] + radius * moves, dtype=np.float32)


def joined(train: EmbeddingSet, canaries: EmbeddingSet) -> EmbeddingSet:
    """The training rows, and after them the canaries."""
    return replace(attacks.together(train, canaries), meta=train.meta)
