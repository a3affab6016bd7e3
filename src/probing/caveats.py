"""What makes a result look better, or worse, than it is: counted, and said in a line each."""

from __future__ import annotations

import logging

import numpy as np

from src.core.copies import among
from src.database import EmbeddingSet, Splits
from src.probing.head import Head, extreme_rows
from src.probing.results import Caveats

HELD_OUT = ("test", "val")

log = logging.getLogger(__name__)


def of(head: Head, splits: Splits, originals: EmbeddingSet | None) -> Caveats:
    """Test rows far from the release, copies of training rows, and persons seen before.

    Args:
        originals: the real training rows; None where they are not known, as with a bundle.
    """
    people = {name: data.persons for name, data in vars(splits).items()}
    people["train"] = originals.persons if originals else None
    return Caveats(
        extreme=extreme_rows(head, splits.test),
        copies=None if originals is None else _copies(splits, originals),
        persons=_persons({name: whose for name, whose in people.items() if whose is not None}),
    )


def _copies(splits: Splits, originals: EmbeddingSet) -> dict[str, int]:
    """How many rows of test and val equal a training row; features alone count, not labels."""
    sizes = {name: len(getattr(splits, name)) for name in HELD_OUT}
    found = {
        name: int(among(getattr(splits, name).embeddings, originals.embeddings).sum())
        for name in HELD_OUT
    }
    if any(found.values()):
        log.warning(
            "%s equal a training row: this result is better than one of new rows; create_db.py "
            "--drop_copies removes them from train",
            " and ".join(f"{found[name]} of {sizes[name]} {name} rows" for name in HELD_OUT),
        )
    return found


def _persons(people: dict[str, np.ndarray]) -> dict[str, int] | None:
    """How many persons are in each split (n,) int64, and in train and another one."""
    sets = {name: np.unique(whose) for name, whose in people.items()}
    found = {name: len(whose) for name, whose in sets.items()}
    if "train" not in sets:
        return found or None
    again = {name: len(np.intersect1d(sets[name], sets["train"])) for name in HELD_OUT}
    if any(again.values()):
        log.warning(
            "%s are in train too: the evaluation is not of new people; create_db.py --split "
            "person makes splits by person",
            " and ".join(f"{again[name]} of {found[name]} persons in {name}" for name in HELD_OUT),
        )
    return {**found, **{f"{name}_in_train": count for name, count in again.items()}}
