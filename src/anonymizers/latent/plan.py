"""PLAN in the embedding space: rows from latent walks that keep clear of every identity.

Pennisi et al., *A Privacy-Preserving Walk in the Latent Space of Generative Models for Medical
Applications*, MICCAI 2023 (arXiv 2307.02984), with a CVAE's decoder in the place of their GAN.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from src.anonymizers.base import Rows
from src.anonymizers.latent import classifiers, lines, walks
from src.anonymizers.latent.lines import Lines
from src.anonymizers.latent.walks import Networks
from src.anonymizers.settings import WalkSettings
from src.core.devices import Resources
from src.database import EmbeddingSet
from src.networks.heads import Classifier

WEAK = 0.9  # below this share of rows identified, the privacy loss is pointless
# Identity logits of a batch of paths. A constant: how paths are batched shows in their last bits,
# and those must not depend on how much memory is free.
LOGITS = 1 << 26

log = logging.getLogger(__name__)


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: WalkSettings,
    *,
    seed: int,
    resources: Resources,
) -> Rows:
    """As many points of each class as the training set has rows of it, sorted by class.

    Raises:
        InputError: a class has too few groups for as many points.
    """
    pairs = lines.lines(train, val, settings, seed=seed, resources=resources)
    identity, task = _classifiers(train, val, settings, seed=seed, resources=resources)
    known = _known(identity, train, settings.identity_jitter, seed)
    networks = Networks(pairs.decoder.embed, identity, task)
    walked = walk(pairs, networks, settings, identity.outputs)
    straight = walks.linear(pairs.starts, pairs.ends, settings.path_points)
    released = lines.draw(walked, pairs, train, settings.observation_noise, seed=seed)
    facts = {
        **released.facts,
        "identity_accuracy": known,
        "task_accuracy": classifiers.task_accuracy(task, val),
        "straight_losses": _mean_losses(straight, pairs.labels, networks, identity.outputs),
        "walked_losses": _mean_losses(walked, pairs.labels, networks, identity.outputs),
    }
    return released._replace(facts=facts)


def _known(identity: Classifier, train: EmbeddingSet, jitter: float, seed: int) -> float:
    """The share of rows that the identity classifier knows under held-out jitter, said."""
    known = classifiers.identity_accuracy(identity, train, jitter=jitter, seed=seed)
    log.info("identity classifier: %.1f %% of rows identified under held-out jitter", 100 * known)
    if known < WEAK:
        log.warning(
            "the identity classifier is weak (%.1f %% of rows identified, %g %% wanted), so the "
            "privacy loss means little; a smaller --identity_jitter than %g may help",
            *(100 * known, 100 * WEAK, jitter),
        )
    return known


def _classifiers(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: WalkSettings,
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


def walk(pairs: Lines, networks: Networks, settings: WalkSettings, identities: int) -> Tensor:
    """The optimised paths (P, T, Z) between the lines' ends."""
    return walks.walk(
        pairs.starts,
        pairs.ends,
        pairs.labels,
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
            walks.path_losses(some, own, networks)
            for some, own in zip(torch.split(points, size), torch.split(labels, size), strict=True)
        ]
    names = walks.PathLosses._fields
    return {
        name: float(torch.cat(losses).mean())
        for name, losses in zip(names, zip(*parts, strict=True), strict=True)
    }


def _batch(path_points: int, identities: int) -> int:
    """Paths whose identity logits are held at once."""
    return max(1, LOGITS // (identities * path_points))
