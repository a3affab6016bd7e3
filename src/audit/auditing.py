"""The audit of one release: who is attacked, with what, and beside which controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from src.anonymizers.base import Anonymizer
from src.audit import attacks, promises
from src.audit.measures import MEASURES
from src.audit.scenarios import Metrics, Scenario, Shadows, measure, random_stream
from src.audit.settings import AuditSettings
from src.audit.statistics import Estimate
from src.audit.tables import Comparison, Report
from src.audit.verdicts import verdict
from src.core import progress, seeding
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet, Splits

FEWEST = 100  # rows that H and the references need each: fewer do not resolve 1 % FPR
FEWEST_NON_MEMBERS = 10  # with fewer, no metric means anything

Refit = Callable[[EmbeddingSet, int], EmbeddingSet]  # rows and a seed → their release


@dataclass(frozen=True)
class _Setup:
    """What the attacks on the release and on the two controls have in common."""

    non_members: EmbeddingSet
    references: EmbeddingSet | None
    shadows: int
    seed: int
    device: torch.device

    def scenario(self, release: EmbeddingSet, members: EmbeddingSet, refit: Refit) -> Scenario:
        """A release and the members who are attacked with it.

        Raises:
            InputError: half of the rows cannot be released, as a shadow needs it.
        """
        distinct = attacks.distinct(release)
        shadows = self._shadows(members, refit) if self.shadows else None
        return Scenario(distinct, members, self.non_members, self.references, shadows)

    def _shadows(self, members: EmbeddingSet, refit: Refit) -> Shadows:
        everyone = attacks.together(members, self.non_members)
        inside = attacks.shadow_memberships(
            everyone.labels, self.shadows, random_stream(self.seed, "shadows")
        )
        scores = []
        for number, half in enumerate(progress.bar(inside, desc="shadows", unit="release")):
            seed = seeding.stream_seed(self.seed, f"audit/shadow {number}")
            with progress.silenced():
                release = attacks.distinct(refit(attacks.subset(everyone, half), seed))
            scores.append(attacks.nearest_neighbour_scores(everyone, release, self.device))
        return Shadows(np.stack(scores), inside)


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
        seed: of the audit's own draws: halves, references, bootstrap, shadows.

    Raises:
        InputError: the test split has too few rows that are not copies of training rows.
    """
    members = splits.train
    non_members, references, notes = _test_rows(splits, seed)
    # MPS lacks the float64 that coverage and density need
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    setup = _Setup(non_members, references, options.shadows, seed, device)
    refit = _refit(anonymizer, splits.val, resources)
    try:
        attacked = setup.scenario(released, members, refit)
    except InputError as error:
        notes.append(f"shadow attack left out, as half of the rows cannot be released: {error}")
        setup = replace(setup, shadows=0)
        attacked = setup.scenario(released, members, refit)
    scenarios = (attacked, *_controls(setup, members))
    value, ceiling, chance = (
        measure(scenario, seed=seed, repetitions=options.bootstrap, device=device)
        for scenario in progress.bar(scenarios, desc="attacks", unit="release")
    )
    metrics = _compare(value, ceiling, chance, len(non_members))
    notes += promises.check(released, anonymizer, metrics, len(non_members))
    sizes = _sizes(attacked, released)
    return Report(metrics, value.curves, sizes, notes, promises.guarantee(released))


def _test_rows(splits: Splits, seed: int) -> tuple[EmbeddingSet, EmbeddingSet | None, list[str]]:
    """The test split as non-members and, where it is large enough, references; and notes."""
    notes = []
    left = attacks.unlike(splits.test, splits.train)
    copied = len(splits.test) - len(left)
    if copied:
        notes.append(f"{copied} test rows left out, as they are copies of training rows")
    if len(left) < FEWEST_NON_MEMBERS:
        raise InputError(
            f"the test split has {len(left)} rows that are not copies of training rows; "
            f"an audit needs at least {FEWEST_NON_MEMBERS}"
        )
    third = attacks.every(left.labels, 3, random_stream(seed, "references"))
    if third.sum() >= FEWEST:
        return attacks.subset(left, ~third), attacks.subset(left, third), notes
    notes.append(
        f"calibrated attack left out: it needs {3 * FEWEST} test rows, two thirds as non-members "
        f"and one as the attacker's references; only {len(left)} are available"
    )
    return left, None, notes


def _refit(anonymizer: Anonymizer, val: EmbeddingSet, resources: Resources) -> Refit:
    """The anonymizer as a function of rows and seed; its fits are not kept."""
    unkept = replace(resources, ckpt_folder=None)

    def refit(rows: EmbeddingSet, seed: int) -> EmbeddingSet:
        known = attacks.subset(val, np.isin(val.labels, rows.labels))
        return anonymizer.anonymize(rows, known, seed=seed, resources=unkept)

    return refit


def _controls(setup: _Setup, members: EmbeddingSet) -> tuple[Scenario, Scenario]:
    """The ceiling, members released as they are; and chance, half of them against the others."""

    def as_they_are(rows: EmbeddingSet, seed: int) -> EmbeddingSet:
        return rows

    half = attacks.every(members.labels, 2, random_stream(setup.seed, "chance"))
    unrelated = attacks.subset(members, half)
    others = attacks.unlike(attacks.subset(members, ~half), unrelated)
    return (
        setup.scenario(members, members, as_they_are),
        setup.scenario(unrelated, others, as_they_are),
    )


def _compare(
    value: Metrics, ceiling: Metrics, chance: Metrics, non_members: int
) -> dict[str, Comparison]:
    """The metrics of the release beside those of the controls, in the order of MEASURES."""
    compared, nothing = {}, Estimate(None)
    for key in (key for key in MEASURES if key in value.estimates):
        ours, highest, lowest = (
            part.estimates.get(key, nothing) for part in (value, ceiling, chance)
        )
        said = verdict(key, ours, highest, chance.estimates, non_members=non_members)
        compared[key] = Comparison(ours, highest, lowest, said)
    return compared


def _sizes(scenario: Scenario, released: EmbeddingSet) -> dict[str, int]:
    return {
        "members": len(scenario.members),
        "non_members": len(scenario.non_members),
        "references": len(scenario.references) if scenario.references else 0,
        "released_rows": len(released),
        "distinct_released_rows": len(scenario.release),
    }
