"""The audit of one release: who is attacked, with what, and beside which controls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from src import anonymizers, progress, seeding
from src.anonymizers import Anonymizer, Resources
from src.anonymizers.settings import KSameSettings, Settings
from src.audit import attacks, results
from src.audit.measures import FPRS, MEASURES
from src.audit.report import Guarantee, Report, Row
from src.audit.results import AuditSettings
from src.audit.scenario import Figures, Scenario, Shadows, measure, random_stream
from src.audit.statistics import Estimate, expected_fpr, tpr_bound
from src.audit.verdicts import shifted, verdict
from src.database import EmbeddingSet, Splits
from src.errors import InputError

FEWEST = 100  # rows that H and the references need each: fewer do not resolve 1 % FPR
FEWEST_NON_MEMBERS = 10  # with fewer no figure means anything

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
        """A release of members, who are attacked.

        Raises:
            InputError: a shadow's half cannot be released.
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
    settings: Settings,
    *,
    seed: int,
    options: AuditSettings,
    resources: Resources,
) -> Report:
    """Attack a release, and with the same attacks the two controls.

    Args:
        released: what anonymizer and settings made of the training split.
        seed: of the audit's own draws: halves, references, bootstrap, shadows.

    Raises:
        InputError: the test split has too few rows that are no copies of training rows.
    """
    members = splits.train
    non_members, references, notes = _test_rows(splits, seed)
    # MPS lacks the float64 that coverage and density need
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    setup = _Setup(non_members, references, options.shadows, seed, device)
    refit = _refit(anonymizer, settings, splits.val, resources)
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
    rows = _rows(value, ceiling, chance, len(non_members))
    guarantee = _guarantee(released)
    notes += _promises(released, settings, rows, guarantee, len(non_members))
    return Report(rows, value.curves, _sizes(attacked, released), notes, guarantee)


def audit_to_file(
    path: Path,
    splits: Splits,
    released: EmbeddingSet,
    anonymizer: Anonymizer,
    settings: Settings,
    *,
    dataset: str,
    backbone: str,
    seed: int,
    options: AuditSettings,
    resources: Resources,
) -> Report:
    """Audit a release and write the figures to `path`; arguments and errors as `audit`'s."""
    started = time.perf_counter()
    report = audit(
        splits, released, anonymizer, settings, seed=seed, options=options, resources=resources
    )
    results.write(
        path,
        results.identity(splits, released, anonymizer, settings, seed=seed, audit=options),
        report,
        dataset=dataset,
        backbone=backbone,
        device=resources.device.type,
        seconds=time.perf_counter() - started,
    )
    return report


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


def _test_rows(splits: Splits, seed: int) -> tuple[EmbeddingSet, EmbeddingSet | None, list[str]]:
    """The test split as non-members and, where it is large enough, references; and notes."""
    notes = []
    left = attacks.unlike(splits.test, splits.train)
    copied = len(splits.test) - len(left)
    if copied:
        notes.append(f"{copied} test rows left out: copies of training rows are no non-members")
    if len(left) < FEWEST_NON_MEMBERS:
        raise InputError(
            f"the test split has {len(left)} rows that are no copies of training rows; "
            f"an audit needs at least {FEWEST_NON_MEMBERS}"
        )
    third = attacks.every(left.labels, 3, random_stream(seed, "references"))
    if third.sum() >= FEWEST:
        return attacks.subset(left, ~third), attacks.subset(left, third), notes
    notes.append(
        f"calibrated attack left out: {len(left)} test rows are too few to be non-members and "
        f"the attacker's references both; it takes {3 * FEWEST}"
    )
    return left, None, notes


def _refit(
    anonymizer: Anonymizer, settings: Settings, val: EmbeddingSet, resources: Resources
) -> Refit:
    """The anonymizer as a function of rows and seed; no fit of it is kept."""
    unkept = replace(resources, ckpt_folder=None)

    def refit(rows: EmbeddingSet, seed: int) -> EmbeddingSet:
        known = attacks.subset(val, np.isin(val.labels, rows.labels))
        return anonymizers.anonymize(
            anonymizer, settings, rows, known, seed=seed, resources=unkept
        )

    return refit


def _rows(value: Figures, ceiling: Figures, chance: Figures, non_members: int) -> dict[str, Row]:
    """The table's rows, in the order of MEASURES."""
    rows, nothing = {}, Estimate(None)
    for key in (key for key in MEASURES if key in value.estimates):
        ours, highest, lowest = (
            part.estimates.get(key, nothing) for part in (value, ceiling, chance)
        )
        said = verdict(key, ours, highest, chance.estimates, non_members=non_members)
        rows[key] = Row(ours, highest, lowest, said)
    return rows


def _sizes(scenario: Scenario, released: EmbeddingSet) -> dict[str, int]:
    return {
        "members": len(scenario.members),
        "non_members": len(scenario.non_members),
        "references": len(scenario.references) if scenario.references else 0,
        "released_rows": len(released),
        "distinct_released_rows": len(scenario.release),
    }


def _guarantee(released: EmbeddingSet) -> Guarantee | None:
    """The differential privacy promise that the release's file states."""
    facts = released.meta.get("facts", {})
    return Guarantee(facts["epsilon"], facts["delta"]) if "epsilon" in facts else None


def _promises(
    released: EmbeddingSet,
    settings: Settings,
    rows: dict[str, Row],
    guarantee: Guarantee | None,
    non_members: int,
) -> list[str]:
    """What the release promises, and whether it was seen to be kept."""
    notes = []
    if isinstance(settings, KSameSettings):
        rarest = int(np.bincount(attacks.copies(released, labels=False)).min())
        state = "kept" if rarest >= settings.k else "BROKEN"
        notes.append(
            f"promise {state}: every released row occurs at least k = {settings.k} times "
            f"(the rarest one {rarest} times)"
        )
    if guarantee:
        notes += [_promise(guarantee, rate, rows, non_members) for rate in FPRS]
    return notes


def _promise(guarantee: Guarantee, rate: float, rows: dict[str, Row], non_members: int) -> str:
    """Whether the attacks' true positives at a false-positive rate keep within the promise."""
    # H's few rows place a threshold at a higher rate than they show; that one bounds the attack
    actual = expected_fpr(rate, non_members)
    bound, exceeded = (float(tpr_bound(np.array(r), *guarantee)) for r in (rate, actual))
    found = [
        row
        for key, row in rows.items()
        if key.endswith(f"tpr_at_{rate:g}") and row.value.low is not None
    ]
    if shifted({key: row.chance for key, row in rows.items()}):
        # the bound is for two candidates of one distribution
        state = "cannot be judged, as train and test differ"
    elif not found:
        state = "not measured"
    elif any((row.value.low or 0) > max(exceeded, row.chance.high or 0) for row in found):
        state = "BROKEN"
    else:
        state = "not contradicted"
    return (
        f"promise {state}: with ε = {guarantee.epsilon:.3g}, δ = {guarantee.delta:.3g} no "
        f"attack finds more than {bound:.1%} of members at {100 * rate:g}% FPR"
    )
