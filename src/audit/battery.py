"""All attacks that score candidates, on one release or on one of the controls beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from src.audit import attacks, density, exposure, views
from src.audit.attacks import Halving
from src.audit.measures import HALVINGS
from src.audit.reidentification import Queries
from src.audit.views import View
from src.database import EmbeddingSet

HALVINGS_OF_VIEWS = 2  # of the coordinates of a view


class Shadows(NamedTuple):
    """Scores against releases made from known halves of members and non-members."""

    scores: np.ndarray  # (s, n) float64, nearest-neighbour scores; members first
    inside: np.ndarray  # (s, n) bool, whether the row was in that half


class Scenario(NamedTuple):
    """A release and the persons who are attacked with it; rows without persons are rows alone."""

    release: EmbeddingSet  # without exact copies
    training: EmbeddingSet  # all that the release was made from
    members: EmbeddingSet  # of these, those who are attacked
    non_members: EmbeddingSet
    references: EmbeddingSet | None  # the attacker's own rows
    shadows: Shadows | None
    queries: Queries | None
    shown: np.ndarray  # (n,) bool, released rows from which real rows are looked for

    @property
    def everyone(self) -> EmbeddingSet:
        """Members, then non-members."""
        return attacks.together(self.members, self.non_members)

    @property
    def real(self) -> EmbeddingSet:
        """Members, non-members, then the attacker's own rows where there are any."""
        others = self.references
        return self.everyone if others is None else attacks.together(self.everyone, others)


def membership_scores(scenario: Scenario, device: torch.device) -> dict[str, np.ndarray]:
    """Scores of the attacks whose curves are drawn, per row (n,), members first."""
    everyone = scenario.everyone
    nearest = attacks.nearest_neighbour_scores(everyone, scenario.release, device)
    scores = {"nearest": nearest}
    if scenario.references is not None:
        scores["calibrated"] = attacks.calibrated_scores(
            everyone, scenario.release, scenario.references, device
        )
    if scenario.shadows is not None:
        scores["shadow"] = attacks.likelihood_ratios(nearest, *scenario.shadows)
        scores["rmia"] = exposure.relative_likelihoods(nearest, scenario.shadows.scores)
    return scores


def other_scores(
    scenario: Scenario, halvings: list[Halving], device: torch.device
) -> dict[str, np.ndarray]:
    """Scores of the attacks that look at the release in other ways, likewise."""
    release, everyone, real = scenario.release, scenario.everyone, scenario.real
    density_scores = density.scores(everyone, release)
    scores = {
        "linked": attacks.often_linked(everyone, release, halvings, device),
        "copied": attacks.hits(everyone, release, device),
        "density": density.within_labels(density_scores.mahalanobis, everyone.labels),
        "span": density.within_labels(density_scores.span, everyone.labels),
        "values": attacks.value_scores(everyone, release),
        "paired": attacks.nearest_neighbour_scores(
            everyone, views.midpoints(release, scenario.shown, device), device
        ),
        "shape": _shape_scores(everyone, release, device),
    }
    for name, view in (
        ("standardised", views.standardised(release, real)),
        ("whitened", views.whitened(release, real)),
    ):
        if view is not None:
            scores |= _in_view(name, scenario, view, device)
    return scores


def _shape_scores(rows: EmbeddingSet, release: EmbeddingSet, device: torch.device) -> np.ndarray:
    """Nearest-neighbour scores of the shapes, seen one label at a time to save memory (n,)."""
    scores = np.full(len(rows), -np.inf)
    for label in np.intersect1d(rows.labels, release.labels):
        ours, theirs = rows.labels == label, release.labels == label
        view = views.shapes(attacks.subset(release, theirs), attacks.subset(rows, ours))
        scores[ours] = attacks.nearest_neighbour_scores(view.real, view.release, device)
    return scores


def _in_view(
    name: str, scenario: Scenario, view: View, device: torch.device
) -> dict[str, np.ndarray]:
    """The distance attacks in other coordinates."""
    count = len(scenario.everyone)
    everyone = attacks.subset(view.real, np.arange(count))
    halves = halvings(view.release.dim, np.random.default_rng(0))[:HALVINGS_OF_VIEWS]
    scores = {
        name: attacks.nearest_neighbour_scores(everyone, view.release, device),
        f"{name}_linked": attacks.often_linked(everyone, view.release, halves, device),
        f"{name}_copied": attacks.hits(everyone, view.release, device),
    }
    if scenario.references is not None:
        references = attacks.subset(view.real, np.arange(count, len(view.real)))
        scores[f"{name}_calibrated"] = attacks.calibrated_scores(
            everyone, view.release, references, device
        )
    return scores


def halvings(dim: int, rng: np.random.Generator) -> list[Halving]:
    """Random halves of the dimensions, as two parties may hold them; none of a single one."""
    if dim < 2:
        return []
    return [Halving(*np.array_split(rng.permutation(dim), 2)) for _ in range(HALVINGS)]
