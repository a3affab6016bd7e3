"""Conditional VAE: fit on real embeddings, release draws of its decoder.

Di Salvo et al., BMVC 2024. One fit serves the released rows (offline), the head that is trained
on fresh draws (online) and the latent walks: its checkpoint is reused wherever data, settings,
seed, device and library versions are the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src import checkpoints, seeding, training
from src.anonymizers import Release, Resources
from src.anonymizers.settings import CVAESettings
from src.database import EmbeddingSet
from src.models.cvae import CVAE, Decoder
from src.provenance import versions


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: CVAESettings,
    *,
    seed: int,
    resources: Resources,
) -> Release:
    """As many draws of each class as the training set has rows of it, sorted by class."""
    fitted = decoder(train, val, settings, seed=seed, resources=resources)
    return Release(*draws(fitted, settings.variance, seed=seed), {})


def draws(decoder: Decoder, variance: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m, D) float32 and labels (m,) int64, of each class as many as the decoder counted.

    A release can so be drawn again from its decoder.
    """
    counts = decoder.class_weights.long()
    labels = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    generator = seeding.generator(seed, "cvae/release", counts.device)
    rows = torch.cat(list(decoder.sample(labels, variance, generator)))
    return rows.cpu().numpy(), labels.cpu().numpy()


def decoder(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: CVAESettings,
    *,
    seed: int,
    resources: Resources,
) -> Decoder:
    """The frozen decoder of the fitted model."""
    return fit(train, val, settings, seed=seed, resources=resources).decoder


def fit(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: CVAESettings,
    *,
    seed: int,
    resources: Resources,
) -> CVAE:
    """The fitted, frozen model on the device, from its checkpoint where that matches.

    Raises:
        InputError: training diverged.
    """
    fitted = settings.for_fit()
    made_from = {
        "train": train.fingerprint,
        "val": val.fingerprint,
        "settings": dataclasses.asdict(fitted),
        "seed": seed,
        "device": resources.device.type,
        "versions": versions(),
    }
    with seeding.global_seed(seed, "cvae/init"):
        model = CVAE(
            train.embeddings.shape[1], train.num_classes, settings.hidden_dim, settings.latent_dim
        )
    model.to(resources.device)
    path = None
    if resources.ckpt_folder is not None:
        path = (
            resources.ckpt_folder / f"{'-'.join(['cvae', *fitted.tags, f's{seed}'])}.safetensors"
        )
    checkpoints.restore_or_fit(
        model, path, made_from, lambda: _train(model, train, val, settings, seed)
    )
    return model.eval().requires_grad_(False)


def _train(
    model: CVAE, train: EmbeddingSet, val: EmbeddingSet, settings: CVAESettings, seed: int
) -> None:
    buffers = model.decoder
    device = buffers.minimum.device
    embeddings = torch.from_numpy(train.embeddings).to(device)
    buffers.minimum.copy_(embeddings.amin(0))
    buffers.extent.copy_(embeddings.amax(0) - embeddings.amin(0))
    buffers.class_weights.copy_(torch.from_numpy(np.bincount(train.labels)))
    generator = seeding.generator(seed, "cvae/fit", device)

    def tensors(data: EmbeddingSet) -> tuple[Tensor, Tensor]:
        rows = model.scale(torch.from_numpy(data.embeddings).to(device))
        labels = torch.from_numpy(data.labels).to(device)
        return rows, F.one_hot(labels, train.num_classes).float()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        noise = torch.randn(len(x), settings.latent_dim, generator=generator, device=device)
        rows = model.loss_rows(
            x, y, noise, kl_weight=settings.kl_weight, prior_variance=settings.prior_variance
        )
        return rows.sum()

    x, y = tensors(train)
    held_out = tensors(val)
    training.fit(
        model,
        batches=lambda: training.shuffled(len(x), settings.batch_size, generator, x, y),
        loss=loss,
        validation_loss=lambda: loss(*held_out),
        learning_rate=settings.learning_rate,
        num_epochs=settings.num_epochs,
        patience=settings.patience,
        description="CVAE",
    )
