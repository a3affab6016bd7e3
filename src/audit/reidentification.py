"""Finding persons in a release by a further row of theirs, which nothing has seen.

Whose a released row is: that of the person whose training row is nearest to it. So the same
question can be asked of every release, also of rows that were made from nobody in particular.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from src.audit import attacks, units
from src.database import EmbeddingSet

FEWEST = 10  # persons to look for: with fewer, a rate means little


class Queries(NamedTuple):
    """What is searched, and by which rows."""

    gallery: EmbeddingSet  # the released rows
    real: EmbeddingSet  # the training rows that they were made from
    known: EmbeddingSet  # a further row of persons who are among those, one each
    unknown: EmbeddingSet  # a row of persons who are not, one each


def held_out(members: EmbeddingSet, rng: np.random.Generator) -> np.ndarray:
    """A row of every person with another one, as truth values (n,) bool.

    A row with an exact copy is not held out: its copy would still be in training.
    """
    numbers = attacks.copies(members, labels=False)
    whose = units.of(members).whose
    single = np.bincount(numbers)[numbers] == 1
    able = np.flatnonzero(single & (np.bincount(whose)[whose] > 1))
    held = np.zeros(len(members), dtype=bool)
    held[able[units.of(attacks.subset(members, able)).one_each(rng)]] = True
    return held


def found(queries: Queries, device: torch.device) -> np.ndarray:
    """Whether the released row nearest to a known person's row is theirs (u,) bool."""
    nearest = attacks.closest(queries.known.embeddings, queries.gallery.embeddings, device)
    matches = queries.gallery.embeddings[nearest.indices]
    owners = attacks.closest(matches, queries.real.embeddings, device).indices
    return units.persons(queries.real)[owners] == units.persons(queries.known)


def scores(queries: Queries, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Minus the distance to the nearest released row, of known and of unknown persons."""
    known, unknown = (
        -attacks.closest(rows.embeddings, queries.gallery.embeddings, device).distances
        for rows in (queries.known, queries.unknown)
    )
    return known, unknown
