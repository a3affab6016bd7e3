"""All metrics of one release, or of one of the controls beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from src.audit import (
    attacks,
    battery,
    copies,
    exposure,
    fidelity,
    looks,
    reidentification,
    statistics,
    units,
)
from src.audit.attacks import Halving
from src.audit.battery import Scenario
from src.audit.looks import Look
from src.audit.measures import ATTACKS, FPRS, OUTSIDE, QUANTILE
from src.audit.reidentification import Queries
from src.audit.statistics import Bootstrap, Estimate, Roc
from src.core import seeding

COUNTS = ("copied", "linked")  # attacks whose scores are counts and mostly 0


class Metrics(NamedTuple):
    """What could be measured, the ROC curves, and the looks that a summary is made of."""

    estimates: dict[str, Estimate]  # by the keys of MEASURES
    curves: dict[str, Roc]  # by the keys of ATTACKS
    looks: dict[str, Look]  # by the keys of MEASURES that are an AUC
    classes: dict[tuple[str, int], Look]  # the same by class
    exposed: dict[str, Look]  # of the records that releases made again expose most


def measure(scenario: Scenario, *, seed: int, repetitions: int, device: torch.device) -> Metrics:
    """All metrics of a scenario.

    Args:
        repetitions: of the bootstrap.
    """
    bootstrap = Bootstrap(repetitions, random_stream(seed, "bootstrap"))
    scores = battery.membership_scores(scenario, device)
    estimates, curves = _membership(scenario, scores, bootstrap)
    halvings = battery.halvings(scenario.release.dim, random_stream(seed, "dimensions"))
    estimates |= _linkability(scenario, halvings, bootstrap, device)
    estimates |= _copying(scenario, bootstrap, device)
    estimates |= _fidelity(scenario, bootstrap, device)
    scores |= battery.other_scores(scenario, halvings, device)
    found, classes = _looks(scenario, scores, seed)
    if scenario.queries is not None:
        estimates |= _reidentification(scenario.queries, bootstrap, device)
        found |= _looks_at_queries(scenario.queries, seed, device)
    exposed = _exposed(scenario, seed)
    alone = {key: look.estimate() for key, look in (found | exposed).items()}
    if classes:
        width = looks.width(list(classes.values()), 1 - statistics.LEVEL)
        alone["worst_class_auc"] = classes[looks.farthest(classes)].estimate(width)
    return Metrics(alone | estimates, curves, found, classes, exposed)


def random_stream(seed: int, name: str) -> np.random.Generator:
    """The audit's stream of random numbers with that name."""
    return np.random.default_rng(seeding.stream_seed(seed, f"audit/{name}"))


def _membership(
    scenario: Scenario, scores: Mapping[str, np.ndarray], bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], dict[str, Roc]]:
    """The metrics and curves of every membership attack."""
    estimates: dict[str, Estimate] = {}
    curves = {}
    attacked = units.of(scenario.everyone)
    members = len(units.of(scenario.members))
    for attack in (name for name in ATTACKS if name in scores):
        sides = np.split(attacked.means(scores[attack]), [members])
        found = statistics.membership(*sides, fprs=FPRS, bootstrap=bootstrap)
        estimates[f"{attack}_auc"] = found.auc
        estimates |= {f"{attack}_tpr_at_{rate:g}": tpr for rate, tpr in found.tpr.items()}
        estimates[f"{attack}_balanced_accuracy"] = found.balanced_accuracy
        curves[attack] = statistics.roc(*sides)
        if attacked.several:
            sides = np.split(attacked.largest(scores[attack]), [members])
            found = statistics.membership(*sides, fprs=(), bootstrap=bootstrap)
            estimates[f"{attack}_max_auc"] = found.auc
    return estimates, curves


def _looks(
    scenario: Scenario, scores: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, Look], dict[tuple[str, int], Look]]:
    """The AUC of every attack by person (row), overall and by class.

    Counts are left to rows: with many rows a person is hit at all more often than with few.
    """
    attacked = units.of(scenario.everyone)
    by_unit = {
        f"{name}_auc": attacked.means(values)
        for name, values in scores.items()
        if not (attacked.several and name.endswith(COUNTS))
    }
    members = len(units.of(scenario.members))
    return looks.of_scores(by_unit, members, attacked.labels, random_stream(seed, "looks"))


def _looks_at_queries(queries: Queries, seed: int, device: torch.device) -> dict[str, Look]:
    """The AUC by which a further row tells persons in the release from persons outside."""
    known, unknown = reidentification.scores(queries, device)
    labels = np.concatenate((queries.known.labels, queries.unknown.labels))
    scores = {"reidentification_auc": np.concatenate((known, unknown))}
    return looks.of_scores(scores, len(known), labels, random_stream(seed, "looks"))[0]


def _exposed(scenario: Scenario, seed: int) -> dict[str, Look]:
    """The AUC of the records (persons) that stand out most among shadow releases."""
    if scenario.shadows is None:
        return {}
    people = units.of(scenario.everyone)
    return exposure.exposed(*scenario.shadows, people, random_stream(seed, "exposed"))


def _linkability(
    scenario: Scenario, halvings: list[Halving], bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """Linkability by two halves of the dimensions."""
    if not halvings:
        return {}
    linked = (
        units.of(rows).means(attacks.linked(rows, scenario.release, *halvings[0], device))
        for rows in (scenario.members, scenario.non_members)
    )
    excess = statistics.of_means(attacks.excess_linkability, *linked, bootstrap=bootstrap)
    return {"linkability": excess}


def _copying(
    scenario: Scenario, bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """How often released rows lie nearer to members than to non-members, and very near."""
    release, members, non_members = scenario.release, scenario.training, scenario.non_members
    shown = attacks.subset(release, scenario.shown)
    to_members, to_non_members, expected = (
        attacks.closest(rows.embeddings, others.embeddings, device)
        for rows, others in ((shown, members), (shown, non_members), (non_members, members))
    )
    hits = attacks.nearest_real_rows(to_members, to_non_members, len(members), len(non_members))
    ours, theirs = units.of(members), units.of(non_members)
    rates = ours.means(hits.members), theirs.means(hits.non_members)
    exact, near = copies.shares(release, members, scenario.shown, to_members.distances, device)
    return {
        "exact_copies": exact,
        "near_copies": near,
        "copying_share": statistics.of_means(attacks.copying_share, *rates, bootstrap=bootstrap),
        "very_near": statistics.share_below_quantile(
            to_members.distances,
            expected.distances,
            QUANTILE,
            whose=theirs.whose,
            bootstrap=bootstrap,
        ),
    }


def _fidelity(
    scenario: Scenario, bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """Coverage, density and Fréchet distance of the release to the members."""
    release, members = scenario.release, attacks.distinct(scenario.training)
    sampled = len(scenario.members) < len(scenario.training)
    centres = attacks.distinct(scenario.members) if sampled else members
    found = fidelity.manifold(release, members, device, centres)
    covered = units.of(attacks.subset(centres, found.rows)).means(found.coverage)
    estimates = {
        name: statistics.of_means(lambda mean: mean, values, bootstrap=bootstrap)
        for name, values in (("coverage", covered), ("density", found.density))
        if len(values)
    }
    distance = fidelity.frechet_distance(release.embeddings, members.embeddings)
    return {**estimates, "frechet_distance": Estimate(distance)}


def _reidentification(
    queries: Queries, bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """How often persons are found by a further row, and whether it says that they are there."""
    known, unknown = reidentification.scores(queries, device)
    inside, outside = (
        reidentification.found(queries, rows, device) for rows in (queries.known, queries.unknown)
    )
    nothing = Estimate(None)
    return {
        "reidentification_rank1": statistics.share(inside, bootstrap=bootstrap),
        OUTSIDE: statistics.share(outside, bootstrap=bootstrap) if len(outside) else nothing,
        "reidentification_auc": statistics.membership(
            known, unknown, fprs=(), bootstrap=bootstrap
        ).auc,
    }
