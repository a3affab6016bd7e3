"""All metrics of one release, or of one of the controls beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from src.audit import attacks, fidelity, reidentification, statistics, units
from src.audit.measures import FPRS, OUTSIDE, QUANTILE
from src.audit.reidentification import Queries
from src.audit.statistics import Bootstrap, Estimate, Roc
from src.core import seeding
from src.database import EmbeddingSet


class Shadows(NamedTuple):
    """Scores against releases made from known halves of members and non-members."""

    scores: np.ndarray  # (s, n) float64, nearest-neighbour scores; members first
    inside: np.ndarray  # (s, n) bool, whether the row was in that half


class Scenario(NamedTuple):
    """A release and the persons who are attacked with it; rows without persons are rows alone."""

    release: EmbeddingSet  # without exact copies
    members: EmbeddingSet
    non_members: EmbeddingSet
    references: EmbeddingSet | None  # the attacker's own rows
    shadows: Shadows | None
    queries: Queries | None


class Metrics(NamedTuple):
    """What could be measured, and the ROC curves."""

    estimates: dict[str, Estimate]  # by the keys of MEASURES
    curves: dict[str, Roc]  # by the keys of ATTACKS


def measure(scenario: Scenario, *, seed: int, repetitions: int, device: torch.device) -> Metrics:
    """All metrics of a scenario.

    Args:
        repetitions: of the bootstrap.
    """
    bootstrap = Bootstrap(repetitions, random_stream(seed, "bootstrap"))
    estimates, curves = _membership(scenario, bootstrap, device)
    dimensions = random_stream(seed, "dimensions").permutation(
        scenario.release.embeddings.shape[1]
    )
    if len(dimensions) > 1:
        estimates |= _linkability(scenario, dimensions, bootstrap, device)
    estimates |= _copying(scenario, bootstrap, device)
    estimates |= _fidelity(scenario, bootstrap, device)
    if scenario.queries is not None:
        estimates |= _reidentification(scenario.queries, bootstrap, device)
    return Metrics(estimates, curves)


def random_stream(seed: int, name: str) -> np.random.Generator:
    """The audit's stream of random numbers with that name."""
    return np.random.default_rng(seeding.stream_seed(seed, f"audit/{name}"))


def _membership(scenario: Scenario, bootstrap: Bootstrap, device: torch.device) -> Metrics:
    """The metrics of every membership attack."""
    estimates: dict[str, Estimate] = {}
    curves = {}
    attacked = units.of(attacks.together(scenario.members, scenario.non_members))
    members = len(units.of(scenario.members))
    for attack, scores in _scores(scenario, device).items():
        sides = np.split(attacked.means(scores), [members])
        found = statistics.membership(*sides, fprs=FPRS, bootstrap=bootstrap)
        estimates[f"{attack}_auc"] = found.auc
        estimates |= {f"{attack}_tpr_at_{rate:g}": tpr for rate, tpr in found.tpr.items()}
        estimates[f"{attack}_balanced_accuracy"] = found.balanced_accuracy
        curves[attack] = statistics.roc(*sides)
        if attacked.several:
            sides = np.split(attacked.largest(scores), [members])
            found = statistics.membership(*sides, fprs=(), bootstrap=bootstrap)
            estimates[f"{attack}_max_auc"] = found.auc
    return Metrics(estimates, curves)


def _scores(scenario: Scenario, device: torch.device) -> dict[str, np.ndarray]:
    """The scores of every membership attack, per row (n,), members first."""
    everyone = attacks.together(scenario.members, scenario.non_members)
    nearest = attacks.nearest_neighbour_scores(everyone, scenario.release, device)
    scores = {"nearest": nearest}
    if scenario.references is not None:
        scores["calibrated"] = attacks.calibrated_scores(
            everyone, scenario.release, scenario.references, device
        )
    if scenario.shadows is not None:
        scores["shadow"] = attacks.likelihood_ratios(nearest, *scenario.shadows)
    return scores


def _linkability(
    scenario: Scenario, dimensions: np.ndarray, bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """Linkability by two halves of the dimensions, which come in random order."""
    first, second = np.array_split(dimensions, 2)
    linked = (
        units.of(rows).means(attacks.linked(rows, scenario.release, first, second, device))
        for rows in (scenario.members, scenario.non_members)
    )
    excess = statistics.of_means(attacks.excess_linkability, *linked, bootstrap=bootstrap)
    return {"linkability": excess}


def _copying(
    scenario: Scenario, bootstrap: Bootstrap, device: torch.device
) -> dict[str, Estimate]:
    """How often released rows lie nearer to members than to non-members, and very near."""
    release, members, non_members = scenario[:3]
    to_members, to_non_members, expected = (
        attacks.closest(rows.embeddings, others.embeddings, device)
        for rows, others in ((release, members), (release, non_members), (non_members, members))
    )
    hits = attacks.nearest_real_rows(to_members, to_non_members, len(members), len(non_members))
    ours, theirs = units.of(members), units.of(non_members)
    rates = ours.means(hits.members), theirs.means(hits.non_members)
    return {
        "copying_share": statistics.of_means(attacks.copying_share, *rates, bootstrap=bootstrap),
        "near_copies": statistics.share_below_quantile(
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
    release, members = scenario.release, attacks.distinct(scenario.members)
    found = fidelity.manifold(release, members, device)
    covered = units.of(attacks.subset(members, found.rows)).means(found.coverage)
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
