"""Who is on which side of an audit: non-members, the attacker's own rows, and members again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from src.audit import attacks, reidentification, sampling, units
from src.audit.sampling import EVERYTHING, Sample
from src.core.errors import InputError
from src.database import PERSON, EmbeddingSet, Splits

FEWEST = 100  # persons (rows) that H and R need each: fewer do not resolve 1 % FPR
FEWEST_NON_MEMBERS = 10  # rows: with fewer, no metric means anything
FEWEST_PERSONS = 5  # whose rows those are: one interval in eight then misses, not one in twenty


class Sides(NamedTuple):
    """Test rows that are not copies of training rows, by what an audit takes them for."""

    non_members: EmbeddingSet  # H
    references: EmbeddingSet | None  # R, the attacker's own; None where they would be too few
    again: EmbeddingSet  # of persons who are in training too; empty where they are too few


def split(
    splits: Splits, unit: str, rng: np.random.Generator, sample: Sample = EVERYTHING
) -> tuple[Sides, list[str]]:
    """The sides of the test split, and notes on what is left out; no person is on two sides.

    Args:
        sample: of non-members and of references, where they are too many.

    Raises:
        InputError: there are too few non-members.
    """
    test, again, notes = _known_again(splits) if unit == PERSON else _rows_alone(splits)
    left = attacks.unlike(test, splits.train)
    copied = len(test) - len(left)
    if copied:
        notes.append(f"{copied} test rows left out, as they are copies of training rows")
    found = units.of(left.by(unit))
    if len(left) < FEWEST_NON_MEMBERS or len(found) < FEWEST_PERSONS:
        raise InputError(_too_few(len(left), len(found), unit))
    if len(found) < FEWEST_NON_MEMBERS:
        notes.append(f"intervals are too short, as only {len(found)} persons are non-members")
    third = attacks.every(found.labels, 3, rng)
    if third.sum() >= FEWEST:
        ours = found.rows(third)
        non_members, said = _drawn(attacks.subset(left, ~ours), "non-members", unit, sample)
        references, more = _drawn(attacks.subset(left, ours), "references", unit, sample)
        return Sides(non_members, references, again), [*notes, *said, *more]
    notes.append(
        f"calibrated attack left out: it needs {3 * FEWEST} test {unit}s, two thirds as "
        f"non-members and one as the attacker's references; only {len(found)} are available"
    )
    left, said = _drawn(left, "non-members", unit, sample)
    return Sides(left, None, again), [*notes, *said]


def _drawn(
    data: EmbeddingSet, name: str, unit: str, sample: Sample
) -> tuple[EmbeddingSet, list[str]]:
    """The rows of a side that are looked at, and a note where they are not all."""
    chosen = sample.of(data.by(unit), name)
    said = f"{chosen.sum():,} of {len(data):,} rows of {name}, drawn at random, take part"
    return sampling.some(data, chosen), [] if chosen.all() else [said]


def _rows_alone(splits: Splits) -> tuple[EmbeddingSet, EmbeddingSet, list[str]]:
    """All test rows, none of which is known again."""
    nothing = attacks.subset(splits.test, np.arange(0))
    one_side = (splits.train.persons is None) != (splits.test.persons is None)
    notes = ["audit by row, as only one of the training and the test split says whose rows are"]
    return splits.test, nothing, notes * one_side


def _known_again(splits: Splits) -> tuple[EmbeddingSet, EmbeddingSet, list[str]]:
    """Test rows of new persons; those of persons in training; and how many are not new."""
    test, train, notes = splits.test, splits.train, []
    again = attacks.subset(test, np.isin(units.persons(test), units.persons(train)))
    seen = [data.persons for data in (train, splits.val) if data.persons is not None]
    old = np.isin(units.persons(test), np.concatenate(seen))
    if old.any():
        people = len(units.of(attacks.subset(test, old)))
        notes.append(
            f"{people} persons ({old.sum()} test rows) left out of the non-members, as other rows "
            "of theirs are in the training or validation split"
        )
    again = attacks.unlike(again, train)
    if len(units.of(again)) < reidentification.FEWEST:
        again = attacks.subset(again, np.arange(0))
    return attacks.subset(test, ~old), again, notes


def _too_few(rows: int, people: int, unit: str) -> str:
    if unit == PERSON:
        return (
            f"the test split has {rows} rows of {people} persons whom training has not seen; an "
            f"audit by person needs at least {FEWEST_NON_MEMBERS} rows of {FEWEST_PERSONS}"
        )
    return (
        f"the test split has {rows} rows that are not copies of training rows; "
        f"an audit needs at least {FEWEST_NON_MEMBERS}"
    )
