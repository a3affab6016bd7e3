"""Finding persons in a release by a further row of theirs, which nothing has seen.

Whose a released row is, nobody can say of most releases. It counts as that of the person whose
real row is nearest to it, among the training rows and further rows of persons outside. So the
same can be asked of every release, and of both kinds of persons. A release with a row near
everybody leads to the right one often, whoever it was made from: a leak is that persons in it are
found more often than persons outside.
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
    real: EmbeddingSet  # by which it is said whose those are
    known: EmbeddingSet  # a further row of persons whose other rows were released, one each
    unknown: EmbeddingSet  # a row of persons outside, one each; of some no other row is known


def held_out(data: EmbeddingSet, rng: np.random.Generator) -> np.ndarray:
    """A row of every person with another one, as truth values (n,) bool.

    A row with an exact copy is not held out: its copy would stay.
    """
    numbers = attacks.copies(data, labels=False)
    whose = units.of(data).whose
    single = np.bincount(numbers)[numbers] == 1
    able = np.flatnonzero(single & (np.bincount(whose)[whose] > 1))
    held = np.zeros(len(data), dtype=bool)
    held[able[units.of(attacks.subset(data, able)).one_each(rng)]] = True
    return held


def outside(non_members: EmbeddingSet, rng: np.random.Generator) -> np.ndarray:
    """The row of each person outside by which they are looked for, as truth values (n,) bool.

    One that is held out; where no person has another row, still one each.
    """
    held = held_out(non_members, rng)
    if not held.any():
        held[units.of(non_members).one_each(rng)] = True
    return held


def found(queries: Queries, rows: EmbeddingSet, device: torch.device) -> np.ndarray:
    """Whether the released row that is nearest to a row is that person's (u,) bool.

    Args:
        rows: one of each person; those without another row that says whose they are do not count.
    """
    whose = units.persons(queries.real)
    rows = attacks.subset(rows, np.isin(units.persons(rows), whose))
    nearest = attacks.closest(rows.embeddings, queries.gallery.embeddings, device).indices
    matches = queries.gallery.embeddings[nearest]
    owners = attacks.closest(matches, queries.real.embeddings, device).indices
    return whose[owners] == units.persons(rows)


def scores(queries: Queries, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Minus the distance to the nearest released row, of known and of unknown persons."""
    known, unknown = (
        -attacks.closest(rows.embeddings, queries.gallery.embeddings, device).distances
        for rows in (queries.known, queries.unknown)
    )
    return known, unknown
