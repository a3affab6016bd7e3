"""The audit of one release: who is attacked, with what, and beside which controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from src.anonymizers.base import Anonymizer
from src.audit import attacks, promises, reidentification, sides, units
from src.audit.measures import MEASURES
from src.audit.reidentification import Queries
from src.audit.scenarios import Metrics, Scenario, Shadows, measure, random_stream
from src.audit.settings import AuditSettings
from src.audit.sides import Sides
from src.audit.statistics import Estimate
from src.audit.tables import Comparison, Report
from src.audit.verdicts import verdict
from src.core import progress, seeding
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import PERSON, EmbeddingSet, Splits

Refit = Callable[[EmbeddingSet, int], EmbeddingSet]  # rows and a seed → their release


class _Target(NamedTuple):
    """A release, those who are attacked with it, and how such a release is made."""

    release: EmbeddingSet
    members: EmbeddingSet
    refit: Refit
    seen: bool = True  # whether the release was made from the members


@dataclass(frozen=True)
class _Setup:
    """What the attacks on the release and on the two controls have in common."""

    unit: str
    sides: Sides
    shadows: int
    fewest: int  # persons that must be looked for; 0: none are
    seed: int
    device: torch.device

    def shadows_of(self, target: _Target) -> Shadows | None:
        """Scores against releases made from halves of the persons (rows).

        Raises:
            InputError: half of them cannot be released.
        """
        if not self.shadows:
            return None
        everyone = attacks.together(target.members, self.sides.non_members)
        halved = units.of(everyone.by(self.unit))
        halves = attacks.shadow_memberships(
            halved.labels, self.shadows, random_stream(self.seed, "shadows")
        )
        inside = halved.rows(halves)
        scores = []
        for number, half in enumerate(progress.bar(inside, desc="shadows", unit="release")):
            rows = attacks.subset(everyone, half)
            release = self._again(target, rows, f"audit/shadow {number}")
            scores.append(attacks.nearest_neighbour_scores(everyone, release, self.device))
        return Shadows(np.stack(scores), inside)

    def queries_of(self, target: _Target) -> Queries | None:
        """Rows by which persons are looked for: of the test split, or held out of training.

        Raises:
            InputError: persons are too few, or what is left of training cannot be released.
        """
        if not self.fewest:
            return None
        rng = random_stream(self.seed, "queries")
        real, again = target.members, self.sides.again
        if len(again):
            known = attacks.subset(again, np.isin(units.persons(again), units.persons(real)))
        else:
            held = reidentification.held_out(real, rng)
            known, real = attacks.subset(real, held), attacks.subset(real, ~held)
        known = attacks.subset(known, units.of(known).one_each(rng))
        if len(known) < self.fewest:
            raise InputError(
                f"{len(known)} persons have two different rows; {self.fewest} are needed"
            )
        if target.seen and not len(again):
            gallery = self._again(target, real, "audit/queries")
        else:
            gallery = attacks.distinct(target.release)
        others = self.sides.non_members
        held = reidentification.outside(others, rng)
        everyone = attacks.together(real, attacks.subset(others, ~held))
        return Queries(gallery, everyone, known, attacks.subset(others, held))

    def _again(self, target: _Target, rows: EmbeddingSet, name: str) -> EmbeddingSet:
        """The distinct rows of such a release of other rows."""
        with progress.silenced():
            release = target.refit(rows, seeding.stream_seed(self.seed, name))
        return attacks.distinct(release)


def audit(
    splits: Splits,
    released: EmbeddingSet,
    anonymizer: Anonymizer,
    options: AuditSettings,
    *,
    seed: int,
    resources: Resources,
) -> Report:
    """Attack a release, and the two controls with the same attacks.

    Args:
        released: what the anonymizer made of the training split.
        seed: of the audit's own draws: halves, references, queries, bootstrap, shadows.

    Raises:
        InputError: the test split has too few rows (persons) that training has not seen, or
            persons are asked for and not known.
    """
    unit = units.chosen(splits, options.unit)
    several = unit == PERSON and units.of(splits.train).several
    found, notes = sides.split(splits, unit, random_stream(seed, "references"))
    # MPS lacks the float64 that coverage and density need
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    fewest = reidentification.FEWEST if several or len(found.again) else 0
    setup = _Setup(unit, found, options.shadows, fewest, seed, device)
    target = _Target(released, splits.train, _refit(anonymizer, splits.val, resources))
    attacked, said = _scenario(setup, target)
    scenarios = (attacked, *_controls(setup, attacked, splits.train))
    value, ceiling, chance = (
        measure(scenario, seed=seed, repetitions=options.bootstrap, device=device)
        for scenario in progress.bar(scenarios, desc="attacks", unit="release")
    )
    non_members = len(units.of(attacked.non_members))
    metrics = _compare(value, ceiling, chance, non_members)
    notes += [*_without_members(splits.train), *said]
    notes += promises.of_groups(released, anonymizer, splits.train, resources)
    notes += promises.of_privacy(released, metrics, non_members, several=several)
    stated = promises.guarantee(released, several=several)
    return Report(unit, metrics, value.curves, _sizes(attacked, released, unit), notes, stated)


def _without_members(train: EmbeddingSet) -> list[str]:
    """A note on the classes that have a name and no row."""
    absent = np.setdiff1d(np.arange(len(train.class_names)), train.labels)
    names = ", ".join(train.class_names[label] for label in absent)
    return [f"no training row, so nobody is a member there: class {names}"] if names else []


def _scenario(setup: _Setup, target: _Target) -> tuple[Scenario, list[str]]:
    """A release and those who are attacked with it, and notes on what needs further releases."""
    shadows, queries, notes = None, None, []
    try:
        shadows = setup.shadows_of(target)
    except InputError as error:
        notes.append(f"shadow attack left out, as half of the rows cannot be released: {error}")
    try:
        queries = setup.queries_of(target)
    except InputError as error:
        notes.append(f"re-identification left out: {error}")
    if queries:
        held = "training row, left out of a release that was made again for this"
        how = "test row" if len(setup.sides.again) else held
        notes.append(f"re-identification looks for {len(queries.known)} persons by a {how}")
    ours, theirs = (rows.by(setup.unit) for rows in (target.members, setup.sides.non_members))
    release, references = attacks.distinct(target.release), setup.sides.references
    return Scenario(release, ours, theirs, references, shadows, queries), notes


def _refit(anonymizer: Anonymizer, val: EmbeddingSet, resources: Resources) -> Refit:
    """The anonymizer as a function of rows and seed; its fits are not kept."""
    unkept = replace(resources, ckpt_folder=None)

    def refit(rows: EmbeddingSet, seed: int) -> EmbeddingSet:
        known = attacks.subset(val, np.isin(val.labels, rows.labels))
        return anonymizer.anonymize(rows, known, seed=seed, resources=unkept)

    return refit


def _controls(
    setup: _Setup, attacked: Scenario, members: EmbeddingSet
) -> tuple[Scenario, Scenario]:
    """The ceiling, members released as they are; and chance, half of them against the others.

    Args:
        attacked: the release under attack; what it was not attacked with, these are not either.
    """

    def as_they_are(rows: EmbeddingSet, seed: int) -> EmbeddingSet:
        return rows

    divided = units.of(members.by(setup.unit))
    half = divided.rows(attacks.every(divided.labels, 2, random_stream(setup.seed, "chance")))
    unrelated = attacks.subset(members, half)
    others = attacks.unlike(attacks.subset(members, ~half), unrelated)
    setup = replace(
        setup,
        shadows=setup.shadows if attacked.shadows else 0,
        fewest=1 if attacked.queries else 0,
    )
    ceiling, chance = (
        _scenario(setup, target)[0]
        for target in (
            _Target(members, members, as_they_are),
            _Target(unrelated, others, as_they_are, seen=False),
        )
    )
    return ceiling, chance


def _compare(
    value: Metrics, ceiling: Metrics, chance: Metrics, non_members: int
) -> dict[str, Comparison]:
    """The metrics of the release beside those of the controls, in the order of MEASURES."""
    compared, nothing = {}, Estimate(None)
    for key in (key for key in MEASURES if key in value.estimates):
        ours, highest, lowest = (
            part.estimates.get(key, nothing) for part in (value, ceiling, chance)
        )
        if control := MEASURES[key].control:
            lowest = value.estimates[control]
        chances = {**chance.estimates, key: lowest}
        said = verdict(key, ours, highest, chances, non_members=non_members)
        compared[key] = Comparison(ours, highest, lowest, said)
    return compared


def _sizes(scenario: Scenario, released: EmbeddingSet, unit: str) -> dict[str, int]:
    """Numbers of rows on each side, and of persons where those are attacked."""
    nobody = attacks.subset(scenario.members, np.arange(0))
    parts = {
        "members": scenario.members,
        "non_members": scenario.non_members,
        "references": scenario.references or nobody,
    }
    persons = {
        f"{name.removesuffix('s')}_persons": len(units.of(part)) for name, part in parts.items()
    }
    return {
        **{name: len(part) for name, part in parts.items()},
        "released_rows": len(released),
        "distinct_released_rows": len(scenario.release),
        **(persons if unit == PERSON else {}),
    }
