"""k-Same on a CVAE's latents, within each class: n // k decoded centroids are the release.

The shrinking data set that PLAN (Pennisi et al., MICCAI 2023) sets out to mend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.anonymizers import Release, Resources, cvae, ksame
from src.anonymizers.settings import CVAESettings, KSameSettings, LatentKSameSettings
from src.database import EmbeddingSet
from src.models.cvae import Decoder


class Centroids(NamedTuple):
    """Group means of latents, class after class, and the frozen decoder they belong to."""

    decoder: Decoder
    latents: Tensor  # (m, Z)
    labels: Tensor  # (m,) int64


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: LatentKSameSettings,
    *,
    seed: int,
    resources: Resources,
) -> Release:
    """The decoded centroids; the last rows of a class that fill no group have no part in them.

    Raises:
        InputError: k is larger than the number of rows of a class.
    """
    decoder, latents, labels = centroids(train, val, settings, seed=seed, resources=resources)
    with torch.no_grad():
        rows = decoder.embed(latents, labels)
    return Release(rows.cpu().numpy(), labels.cpu().numpy(), {"groups": len(labels)})


def centroids(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: LatentKSameSettings,
    *,
    seed: int,
    resources: Resources,
) -> Centroids:
    """Encoder means of the training rows, grouped by k within each class and averaged."""
    model = cvae.fit(train, val, settings.part(CVAESettings), seed=seed, resources=resources)
    rows = torch.from_numpy(train.embeddings).to(resources.device)
    classes = torch.from_numpy(train.labels).to(resources.device)
    with torch.no_grad():
        y = F.one_hot(classes, train.num_classes).float()
        means = model.posterior(model.scale(rows), y)[0].cpu().numpy()
    members = ksame.groups(
        EmbeddingSet(means, train.labels, train.meta),
        KSameSettings(k=settings.k, per_class=True),
        resources,
    )
    latents = means[members].mean(axis=1, dtype=np.float64).astype(np.float32)
    return Centroids(
        model.decoder,
        torch.from_numpy(latents).to(resources.device),
        classes[torch.from_numpy(members[:, 0]).to(resources.device)],
    )
