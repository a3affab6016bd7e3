"""The audit of one release: who is attacked, with what, and beside which controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from src.anonymizers.base import Anonymizer
from src.audit import (
    attacks,
    copies,
    promises,
    reidentification,
    sampling,
    sides,
    summary,
    units,
)
from src.audit.battery import Scenario, Shadows
from src.audit.copies import Copied
from src.audit.measures import MEASURES
from src.audit.reidentification import Queries
from src.audit.sampling import Sample
from src.audit.scenarios import Metrics, measure, random_stream
from src.audit.settings import AuditSettings
from src.audit.shadows import Maker, memberships
from src.audit.sides import Sides
from src.audit.statistics import Estimate
from src.audit.tables import Comparison, Report
from src.audit.verdicts import verdict
from src.core import progress
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import PERSON, ROW, EmbeddingSet, Splits


class _Target(NamedTuple):
    """A release, those who are attacked with it, and how such a release is made."""

    release: EmbeddingSet
    members: EmbeddingSet
    attacked: np.ndarray  # (n,) bool, which of the members are
    maker: Maker
    seen: bool = True  # whether the release was made from the members


@dataclass(frozen=True)
class _Setup:
    """What the attacks on the release and on the two controls have in common."""

    unit: str
    sides: Sides
    shadows: int
    fewest: int  # persons that must be looked for; 0: none are
    sample: Sample
    device: torch.device

    @property
    def seed(self) -> int:
        """Of the audit."""
        return self.sample.seed

    def shadows_of(self, target: _Target) -> Shadows | None:
        """Scores against releases made from halves of the persons (rows).

        Raises:
            InputError: half of them cannot be released.
        """
        if not self.shadows:
            return None
        others = self.sides.non_members
        everyone = attacks.together(target.members, others)
        chosen = np.concatenate((target.attacked, np.ones(len(others), dtype=bool)))
        candidates = sampling.some(everyone, chosen)
        by_unit = everyone.by(self.unit)
        inside = memberships(by_unit, self.shadows, random_stream(self.seed, "shadows"))

        def score(release: EmbeddingSet) -> np.ndarray:
            return attacks.nearest_neighbour_scores(candidates, release, self.device)

        scores = np.stack(target.maker.shadows(everyone, inside, score))
        return Shadows(scores, inside[:, chosen])

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
        known = self.sample.drawn(known, "queries")
        if target.seen and not len(again):
            gallery = target.maker.release(real, "queries")
        else:
            gallery = attacks.distinct(target.release)
        others = self.sides.non_members
        held = reidentification.outside(others, rng)
        everyone = attacks.together(real, attacks.subset(others, ~held))
        return Queries(gallery, everyone, known, attacks.subset(others, held))


def audit(
    splits: Splits,
    released: EmbeddingSet,
    anonymizer: Anonymizer | None,
    options: AuditSettings,
    *,
    seed: int,
    resources: Resources,
) -> Report:
    """Attack a release, and the two controls with the same attacks.

    Args:
        released: what the anonymizer made of the training split.
        anonymizer: None where nobody knows how the release was made; none is made again then.
        seed: of the audit's own draws: halves, references, queries, bootstrap, shadows.

    Raises:
        InputError: the test split has too few rows (persons) that training has not seen, or
            persons are asked for and not known.
    """
    unit = units.chosen(splits, options.unit)
    several = unit == PERSON and units.of(splits.train).several
    sample = Sample(options.most_rows, seed)
    parts, notes = sides.split(splits, unit, random_stream(seed, "references"), sample)
    # MPS lacks the float64 that coverage and density need
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    fewest = reidentification.FEWEST if several or len(parts.again) else 0
    setup = _Setup(unit, parts, options.shadows, fewest, sample, device)
    maker = Maker(anonymizer, splits.val, seed, resources)
    chosen = sample.of(splits.train.by(unit), "members")
    target = _Target(released, splits.train, chosen, maker)
    attacked, said = _scenario(setup, target)
    scenarios = (attacked, *_controls(setup, attacked, target))
    measured, proof = _measured(scenarios, released, splits.test.by(unit), options, setup)
    non_members = len(units.of(attacked.non_members))
    found = summary.judge(*measured, proof, splits.train.class_names)
    metrics = _compare(*measured, non_members, found.leak is True)
    notes += [*_without_members(splits.train), *_sampled(attacked, proof, unit), *said]
    promised = promises.of_groups(released, anonymizer, splits.train, resources)
    promised += promises.of_privacy(released, metrics, non_members, several=several)
    stated = promises.guarantee(released, several=several)
    sizes, curves = _sizes(attacked, released, unit), measured[0].curves
    maker.forget()
    notes += promised
    return Report(unit, found, metrics, curves, sizes, notes, len(promised), stated, proof)


def _measured(
    scenarios: tuple[Scenario, ...],
    released: EmbeddingSet,
    test: EmbeddingSet,
    options: AuditSettings,
    setup: _Setup,
) -> tuple[tuple[Metrics, Metrics, Metrics], Copied]:
    """The metrics of a release, of the ceiling and of chance, and the release's copies."""
    value, ceiling, chance = (
        measure(scenario, seed=setup.seed, repetitions=options.bootstrap, device=setup.device)
        for scenario in progress.bar(scenarios, desc="attacks", unit="release")
    )
    rows = (released, *(control.release for control in scenarios[1:]))
    proof, *others = (
        copies.search(release, scenario.training, test, setup.device, sample=setup.sample)
        for release, scenario in zip(rows, scenarios, strict=True)
    )
    for part, found in zip((value, ceiling, chance), (proof, *others), strict=True):
        part.estimates[summary.PROOF] = found.share
    return (value, ceiling, chance), proof


def _without_members(train: EmbeddingSet) -> list[str]:
    """A note on the classes that have a name and no row."""
    absent = np.setdiff1d(np.arange(len(train.class_names)), train.labels)
    names = ", ".join(train.class_names[label] for label in absent)
    return [f"no training row, so nobody is a member there: class {names}"] if names else []


def _sampled(scenario: Scenario, proof: Copied, unit: str) -> list[str]:
    """Notes on what is drawn at random instead of looked at in full."""
    notes = []
    members, training = len(scenario.members), len(scenario.training)
    if members < training:
        whole = ", all those of each person drawn" if unit == PERSON else ""
        notes.append(
            f"{members:,} of {training:,} members' rows, drawn at random{whole}, are attacked; "
            "their metrics are estimates for all"
        )
    if proof.sampled < proof.rows:
        notes.append(
            f"{proof.sampled:,} of {proof.rows:,} distinct released rows, drawn at random, are "
            "held against the real rows; exact copies are looked for among all"
        )
    return notes


def _scenario(setup: _Setup, target: _Target) -> tuple[Scenario, list[str]]:
    """A release and those who are attacked with it, and notes on what needs further releases."""
    shadows, queries, notes = None, None, []
    try:
        shadows = setup.shadows_of(target)
    except InputError as error:
        notes.append(f"shadow attack left out: {error}")
    try:
        queries = setup.queries_of(target)
    except InputError as error:
        notes.append(f"re-identification left out: {error}")
    if queries:
        held = "training row, left out of a release that was made again for this"
        how = "test row" if len(setup.sides.again) else held
        notes.append(f"re-identification looks for {len(queries.known)} persons by a {how}")
    training, theirs = (rows.by(setup.unit) for rows in (target.members, setup.sides.non_members))
    ours = sampling.some(training, target.attacked)
    release, references = attacks.distinct(target.release), setup.sides.references
    shown = setup.sample.of(release.by(ROW), "released")
    found = Scenario(release, training, ours, theirs, references, shadows, queries, shown)
    return found, notes


def _controls(setup: _Setup, attacked: Scenario, target: _Target) -> tuple[Scenario, Scenario]:
    """The ceiling, members released as they are; and chance, half of them against the others.

    Args:
        attacked: the release under attack; what it was not attacked with, these are not either.
    """
    members = sampling.some(target.members, target.attacked)
    as_they_are = target.maker.as_they_are()
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
            _Target(members, members, np.ones(len(members), bool), as_they_are),
            _Target(unrelated, others, np.ones(len(others), bool), as_they_are, seen=False),
        )
    )
    return ceiling, chance


def _compare(
    value: Metrics, ceiling: Metrics, chance: Metrics, non_members: int, leak: bool
) -> dict[str, Comparison]:
    """The metrics of the release beside those of the controls, in the order of MEASURES."""
    compared, nothing = {}, Estimate(None)
    for key in (key for key in MEASURES if key in value.estimates):
        ours, highest, lowest = (
            part.estimates.get(key, nothing) for part in (value, ceiling, chance)
        )
        if control := MEASURES[key].control:
            lowest = value.estimates[control]
        elif key in value.exposed:
            lowest = Estimate(*[value.exposed[key].chance] * 3)
        chances = {**chance.estimates, key: lowest}
        said = verdict(key, ours, highest, chances, non_members=non_members, leak=leak)
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
        **_drawn_from(scenario),
        **(persons if unit == PERSON else {}),
    }


def _drawn_from(scenario: Scenario) -> dict[str, int]:
    """What the members were drawn from, and how many released rows were; nothing where all are."""
    members, shown = len(scenario.members), int(scenario.shown.sum())
    return {
        **({"all_members": len(scenario.training)} if members < len(scenario.training) else {}),
        **({"drawn_released_rows": shown} if shown < len(scenario.release) else {}),
    }
