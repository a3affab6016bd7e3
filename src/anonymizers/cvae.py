"""Conditional VAE: fit on real embeddings, release draws of its decoder.

Di Salvo et al., BMVC 2024. One fit serves the released rows (offline), the head that is trained
on fresh draws (online) and the latent walks: its checkpoint is reused wherever data, settings,
seed, device and library versions are the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.anonymizers.base import sort
from src.anonymizers.settings import FitSettings
from src.core import seeding, threads
from src.core.devices import Resources
from src.core.distances import moments
from src.core.provenance import versions
from src.core.threads import Team
from src.database import EmbeddingSet
from src.networks import checkpoints, training
from src.networks.cvae import CVAE, Objective, kl_to_prior
from src.networks.sampling import Sampler
from src.networks.training import Fit

BLOCK = 8192  # rows encoded and decoded at once
COLLAPSED = 0.01  # nats; a latent that is in use has a tenth of a nat and more

log = logging.getLogger(__name__)


def draws(decoder: Sampler, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m, D) float32 and labels (m,) int64, of each class as many as the decoder counted.

    In the order of a release, which can so be drawn again from its decoder.
    """
    counts = decoder.class_weights.long()
    labels = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    generator = seeding.generator(seed, "cvae/release", counts.device)
    rows, first = np.empty((len(labels), decoder.dim), np.float32), 0  # held once
    with threads.one():
        for block in decoder.sample(labels, generator):
            rows[first : first + len(block)] = block.cpu()
            first += len(block)
    found = labels.cpu().numpy()
    sort(rows, found)
    return rows, found


def fit(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: FitSettings,
    *,
    seed: int,
    resources: Resources,
) -> CVAE:
    """The fitted, frozen model on the device, from its checkpoint where that matches.

    Raises:
        InputError: training diverged.
    """
    depends_on = {
        "train": train.fingerprint,
        "val": val.fingerprint,
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "device": resources.device.type,
        "versions": versions(),
    }
    with seeding.global_seed(seed, "cvae/init"):
        model = CVAE(train.dim, train.num_classes, settings.hidden_dim, settings.latent_dim)
    model.to(resources.device)
    path = None
    if resources.ckpt_folder is not None:
        name = "-".join(["cvae", *settings.tags, f"s{seed}"])
        path = resources.ckpt_folder / f"{name}.safetensors"
    checkpoints.restore_or_fit(
        model, path, depends_on, lambda: _train(model, train, val, settings, seed)
    )
    if latent_information(model, train, settings.prior_variance).max() < COLLAPSED:
        log.warning(
            "the CVAE's latents carry nothing of the rows: all draws of a class are nearly the "
            "same row; a smaller --kl_weight than %g may help",
            settings.kl_weight,
        )
    return model.eval().requires_grad_(False)


@torch.no_grad()
def latent_information(model: CVAE, train: EmbeddingSet, prior_variance: float) -> Tensor:
    """Mean KL [latent_dim], nats, of each latent from its prior, over the first BLOCK rows.

    Where it is 0 the posterior is the prior whatever the row (posterior collapse).
    """
    rows, labels = (tensor[:BLOCK] for tensor in train.tensors(model.decoder.minimum.device))
    y = F.one_hot(labels, train.num_classes).float()
    mean, log_std = model.posterior(model.scale(rows), y)
    each = kl_to_prior(mean.reshape(-1, 1), log_std.reshape(-1, 1), prior_variance)
    return each.view_as(mean).mean(0)


def _train(
    model: CVAE, train: EmbeddingSet, val: EmbeddingSet, settings: FitSettings, seed: int
) -> Fit:
    buffers = model.decoder
    device = buffers.minimum.device
    embeddings, labels = train.tensors(device)
    known = val.labels < train.num_classes  # a named class may have validation rows alone
    held_out, held_out_labels = (part[known] for part in val.tensors(device))
    mean, std = moments(embeddings)
    if settings.clip is not None:
        held_out = held_out.clamp(mean - settings.clip * std, mean + settings.clip * std)
    buffers.minimum.copy_(embeddings.amin(0))
    buffers.extent.copy_((embeddings.amax(0) - embeddings.amin(0)) * (std > 0))
    buffers.class_weights.copy_(torch.from_numpy(np.bincount(train.labels)))
    generator = seeding.generator(seed, "cvae/fit", device)
    y = F.one_hot(labels, train.num_classes).float()
    xy = torch.cat((model.scale(embeddings), y), 1)
    unseen = model.scale(held_out), F.one_hot(held_out_labels, train.num_classes).float()
    weights = {"kl_weight": settings.kl_weight, "prior_variance": settings.prior_variance}
    objective = Objective(model, **weights)

    def noise(rows: int) -> Tensor:
        return torch.randn(rows, settings.latent_dim, generator=generator, device=device)

    def batches(_: Team) -> Iterator[tuple[Tensor, ...]]:
        for (rows,) in training.shuffled(len(xy), settings.batch_size, generator, xy):
            yield rows, noise(len(rows))

    went = training.fit(
        model,
        training.Schedule(settings.learning_rate, settings.num_epochs, settings.patience),
        batches=batches,
        gradients=objective,
        validation_loss=lambda team: objective.loss(team, *unseen, noise(len(unseen[0]))),
        description="CVAE",
    )
    with threads.one():
        buffers.noise_scale.copy_(residual_deviations(model, embeddings, y))
    return went


@torch.no_grad()
def residual_deviations(model: CVAE, embeddings: Tensor, y: Tensor) -> Tensor:
    """Root mean squared residual of each feature [D] over rows [N, D], one-hot labels [N, C]."""
    squares = [
        model.residuals(rows, labels).square().sum(0)
        for rows, labels in zip(embeddings.split(BLOCK), y.split(BLOCK), strict=True)
    ]
    return (torch.stack(squares).sum(0) / len(embeddings)).sqrt()
