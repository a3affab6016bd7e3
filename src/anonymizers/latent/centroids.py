"""k-Same on a CVAE's latents, within each class: n // k decoded centroids are the release.

The shrunken dataset that PLAN (Pennisi et al., MICCAI 2023) sets out to fill up again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.anonymizers import cvae, ksame
from src.anonymizers.base import Rows
from src.anonymizers.settings import FitSettings
from src.core import seeding
from src.core.devices import Resources
from src.database import EmbeddingSet
from src.networks.cvae import Decoder


class Centroids(NamedTuple):
    """Group means of latents, class after class, and the frozen decoder they belong to."""

    decoder: Decoder
    latents: Tensor  # (m, Z)
    labels: Tensor  # (m,) int64


def release(found: Centroids, observation_noise: float, *, seed: int) -> Rows:
    """The decoded centroids; the last rows of a class that fill no group have no part in them."""
    decoder, latents, labels = found
    rows = decoded(decoder, latents, labels, observation_noise, seed=seed)
    return Rows(rows, labels.cpu().numpy(), {"groups": len(labels)})


def decoded(
    decoder: Decoder, latents: Tensor, labels: Tensor, observation_noise: float, *, seed: int
) -> np.ndarray:
    """Latents (m, Z) with labels (m,) → released rows (m, D) float32."""
    decoder.observation_noise = observation_noise
    generator = seeding.generator(seed, "latent/observation", latents.device)
    with torch.no_grad():
        return decoder.add_noise(decoder.embed(latents, labels), generator).cpu().numpy()


def centroids(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: FitSettings,
    k: int,
    *,
    seed: int,
    resources: Resources,
) -> Centroids:
    """Encoder means of the training rows, grouped by k within each class and averaged.

    Where `train.persons` is known, each centroid is of k different persons.

    Raises:
        InputError: k is larger than the number of rows, or of persons, of a class.
    """
    model = cvae.fit(train, val, settings, seed=seed, resources=resources)
    rows = torch.from_numpy(train.embeddings).to(resources.device)
    classes = torch.from_numpy(train.labels).to(resources.device)
    with torch.no_grad():
        y = F.one_hot(classes, train.num_classes).float()
        means = model.posterior(model.scale(rows), y)[0].cpu().numpy()
    encoded = EmbeddingSet(means, train.labels, train.meta, train.persons)
    members = ksame.groups(encoded, k, per_class=True, resources=resources)
    latents = means[members].mean(axis=1, dtype=np.float64).astype(np.float32)
    return Centroids(
        model.decoder,
        torch.from_numpy(latents).to(resources.device),
        classes[torch.from_numpy(members[:, 0]).to(resources.device)],
    )
