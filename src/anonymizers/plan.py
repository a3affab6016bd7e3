"""PLAN in the embedding space: rows from latent walks that keep clear of every identity.

Pennisi et al., *A Privacy-Preserving Walk in the Latent Space of Generative Models for Medical
Applications*, MICCAI 2023 (arXiv 2307.02984), with a CVAE's decoder in the place of their GAN.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from src import classifiers, paths
from src.anonymizers import Release, Resources, latent_linear
from src.anonymizers.latent_linear import Lines
from src.anonymizers.settings import PlanSettings
from src.database import EmbeddingSet
from src.models.classifier import Classifier
from src.path_figure import Example
from src.paths import Networks

WEAK = 0.9  # an identity classifier that knows fewer of the rows makes the privacy loss pointless
# Identity logits of a batch of paths. A constant: how paths are batched shows in their last bits,
# which must not depend on the memory that happens to be free.
LOGITS = 1 << 26

log = logging.getLogger(__name__)


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: PlanSettings,
    *,
    seed: int,
    resources: Resources,
) -> Release:
    """As many points of each class as the training set has rows of it, sorted by class.

    Raises:
        InputError: a class has too few groups for as many points.
    """
    lines = latent_linear.lines(train, val, settings, seed=seed, resources=resources)
    identity, task = _classifiers(train, val, settings, seed=seed, resources=resources)
    known = classifiers.identity_accuracy(
        identity, train, jitter=settings.identity_jitter, seed=seed
    )
    log.info("identity classifier: %.1f %% of rows identified under held-out jitter", 100 * known)
    if known < WEAK:
        log.warning(
            "the identity classifier is weak (%.1f %% of rows identified, %g %% wanted), so the "
            "privacy loss means little; a smaller --identity_jitter than %g may help",
            *(100 * known, 100 * WEAK, settings.identity_jitter),
        )
    networks = Networks(lines.decoder.embed, identity, task)
    walked = _walk(lines, networks, settings, len(train))
    straight = paths.linear(lines.starts, lines.ends, settings.path_points)
    released = latent_linear.draw(walked, lines, train, seed=seed)
    facts = {
        **released.facts,
        "identity_accuracy": known,
        "task_accuracy": classifiers.task_accuracy(task, val),
        "straight_losses": _mean_losses(straight, lines.labels, networks, len(train)),
        "walked_losses": _mean_losses(walked, lines.labels, networks, len(train)),
    }
    return released._replace(facts=facts)


def example(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: PlanSettings,
    *,
    seed: int,
    resources: Resources,
) -> Example:
    """The first of the release's paths, walked alone, as no path depends on the others."""
    lines = latent_linear.lines(train, val, settings, seed=seed, resources=resources)
    first = Lines(lines.decoder, lines.starts[:1], lines.ends[:1], lines.labels[:1])
    networks = Networks(
        lines.decoder.embed, *_classifiers(train, val, settings, seed=seed, resources=resources)
    )
    straight = paths.linear(first.starts, first.ends, settings.path_points)
    walked = _walk(first, networks, settings, len(train))
    labels = first.labels.expand(settings.path_points)
    with torch.no_grad():
        rows = [lines.decoder.embed(path[0], labels).cpu().numpy() for path in (straight, walked)]
    straight_rows, walked_rows = rows
    return Example(straight_rows, walked_rows, train.class_names[int(first.labels)])


def _classifiers(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: PlanSettings,
    *,
    seed: int,
    resources: Resources,
) -> tuple[Classifier, Classifier]:
    """The identity and the task classifier."""
    jitter = settings.identity_jitter
    return (
        classifiers.fit_identity(train, jitter=jitter, seed=seed, resources=resources),
        classifiers.fit_task(train, val, seed=seed, resources=resources),
    )


def _walk(lines: Lines, networks: Networks, settings: PlanSettings, identities: int) -> Tensor:
    """The optimised paths (P, T, Z) between the lines' ends."""
    return paths.walk(
        lines.starts,
        lines.ends,
        lines.labels,
        networks,
        num_points=settings.path_points,
        steps=settings.path_steps,
        lr=settings.path_lr,
        privacy_weight=settings.privacy_weight,
        batch_paths=_batch(settings.path_points, identities),
    )


def _mean_losses(
    points: Tensor, labels: Tensor, networks: Networks, identities: int
) -> dict[str, float]:
    """The three losses of paths (P, T, Z), averaged over the paths."""
    size = _batch(points.shape[1], identities)
    with torch.no_grad():
        parts = [
            paths.path_losses(some, own, networks)
            for some, own in zip(torch.split(points, size), torch.split(labels, size), strict=True)
        ]
    names = paths.PathLosses._fields
    return {
        name: float(torch.cat(losses).mean())
        for name, losses in zip(names, zip(*parts, strict=True), strict=True)
    }


def _batch(path_points: int, identities: int) -> int:
    """Paths whose identity logits are held at once."""
    return max(1, LOGITS // (identities * path_points))
