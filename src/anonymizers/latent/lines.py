"""Points of straight lines between latent k-Same centroids of one class: PLAN's baseline.

Pennisi et al., MICCAI 2023. `plan` shares the lines' ends and the draw of rows: with the same
seed both release points at the same places of the same pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.anonymizers.base import Rows
from src.anonymizers.latent import centroids, walks
from src.anonymizers.settings import FitSettings, LineSettings, part
from src.core import seeding
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet
from src.networks.cvae import Decoder


class Lines(NamedTuple):
    """The ends of P paths, class after class, and the frozen decoder they belong to."""

    decoder: Decoder
    starts: Tensor  # (P, Z)
    ends: Tensor  # (P, Z)
    labels: Tensor  # (P,) int64


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: LineSettings,
    *,
    seed: int,
    resources: Resources,
) -> Rows:
    """As many points of each class as the training set has rows of it, sorted by class.

    Raises:
        InputError: a class has too few groups for as many points.
    """
    pairs = lines(train, val, settings, seed=seed, resources=resources)
    straight = walks.linear(pairs.starts, pairs.ends, settings.path_points)
    return draw(straight, pairs, train, settings.observation_noise, seed=seed)


def lines(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: LineSettings,
    *,
    seed: int,
    resources: Resources,
) -> Lines:
    """Random pairs of centroids of one class, no pair twice, all centroids used equally often.

    There are as many pairs as it takes for the points between the ends to make up the class.

    Raises:
        InputError: a class has too few groups for as many points.
    """
    _require_two_groups(train, settings.k)
    decoder, latents, labels = centroids.centroids(
        train, val, part(settings, FitSettings), settings.k, seed=seed, resources=resources
    )
    generator = seeding.generator(seed, "paths/pairs")
    between = settings.path_points - 2
    chosen = []
    for label, rows in zip(*np.unique(train.labels, return_counts=True), strict=True):
        own = (labels.cpu() == int(label)).nonzero()[:, 0]
        possible = len(own) * (len(own) - 1) // 2
        if possible * between < rows:
            raise InputError(
                f"--k {settings.k} with --path_points {settings.path_points}: the {rows} rows of "
                f"class {train.class_names[label]} make {len(own)} groups, so {possible} paths "
                f"of {between} points between the ends, fewer than the rows; take "
                + (f"{-(-rows // possible) + 2} points" if possible else "a smaller k")
            )
        mixed = own[torch.randperm(len(own), generator=generator)]
        chosen.append(_pairs(mixed, -(-int(rows) // between)))
    first, second = torch.cat(chosen).to(labels.device).unbind(1)
    return Lines(decoder, latents[first], latents[second], labels[first])


def _require_two_groups(train: EmbeddingSet, k: int) -> None:
    """Raise InputError, before any fit, where a class is too small for the ends of one path."""
    counts = np.bincount(train.labels)
    rows = int(counts[counts > 0].min())
    if rows >= 2 * k:
        return
    name = train.class_names[int(np.flatnonzero(counts == rows)[0])]
    possible = f"k up to {rows // 2} is possible"
    if rows < 4:  # k is 2 at least
        possible = "no k is possible: leave the class out, or gather more of it"
    raise InputError(
        f"--k {k}: the {rows} rows of class {name} make {rows // k} groups, and a path needs two; "
        f"{possible}"
    )


def _pairs(items: Tensor, count: int) -> Tensor:
    """The first pairs (count, 2) of a tournament in which every two items (m,) ≥ 0 meet once.

    By the circle method: one seat stays, the others move on by one a round, and opposite seats
    meet; an odd number of items is given an empty seat.
    """
    seats = torch.cat([items, items.new_full((len(items) % 2,), -1)])
    half = len(seats) // 2
    rounds = []
    for turn in range(min(-(-count // (len(items) // 2)), len(seats) - 1)):
        seated = torch.cat([seats[:1], seats[1:].roll(turn)])
        rounds.append(torch.stack([seated[:half], seated.flip(0)[:half]], 1))
    pairs = torch.cat(rounds)
    return pairs[(pairs >= 0).all(1)][:count]


def draw(
    walked: Tensor, pairs: Lines, train: EmbeddingSet, observation_noise: float, *, seed: int
) -> Rows:
    """Decode points of paths (P, T, Z), none twice, class counts as in training.

    The ends are left out: they are centroids, which several paths share.
    """
    points = walked[:, 1:-1]
    labels = pairs.labels.repeat_interleave(points.shape[1])
    generator = seeding.generator(seed, "paths/rows")
    kept = []
    for label, rows in zip(*np.unique(train.labels, return_counts=True), strict=True):
        own = (labels.cpu() == int(label)).nonzero()[:, 0]
        kept.append(own[torch.randperm(len(own), generator=generator)[: int(rows)]])
    places = torch.cat(kept).to(labels.device)
    latents, classes = points.flatten(0, 1)[places], labels[places]
    rows = centroids.decoded(pairs.decoder, latents, classes, observation_noise, seed=seed)
    return Rows(rows, classes.cpu().numpy(), {"paths": len(walked)})
