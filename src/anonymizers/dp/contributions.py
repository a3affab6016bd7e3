"""Sums over rows that pass in blocks, to which each person (or row) contributes by at most 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.anonymizers.dp import persons
from src.anonymizers.dp.sums import OCTAVES, wide
from src.core.arrays import drop_pages
from src.database import EmbeddingSet

ELEMENTS = 1 << 22  # of a block: 32 MiB in float64
PARTS = 4  # bins per octave of a norm
BINS = len(OCTAVES) * PARTS
STANDS_OUT = 4.0  # deviations of the noise, above which a bin is believed to hold rows


class Block(NamedTuple):
    """Some rows on the device, in the type that sums are taken in."""

    rows: Tensor  # [b, D]
    labels: Tensor  # [b] int64
    weights: Tensor  # [b]

    def by_class(self, vectors: Tensor, classes: int) -> Tensor:
        """The weighted sum of vectors [b, k] of each class [classes, k]."""
        total = vectors.new_zeros(classes, vectors.shape[1])
        return total.index_add_(0, self.labels, vectors * self.weights[:, None])

    def octaves(self, rows: Tensor) -> Tensor:
        """A histogram of the norms of rows [b, D]: the weight in each part of an octave [BINS].

        What is not finite counts as 0, and 0 is in the first bin.
        """
        place = (torch.linalg.vector_norm(rows, dim=1).log2() - OCTAVES[0]) * PARTS
        place = place.floor().nan_to_num(nan=0, posinf=0, neginf=0).clamp(0, BINS - 1)
        return self.weights.new_zeros(BINS).index_add_(0, place.long(), self.weights)


class Blocks:
    """The training rows, in blocks, with what each weighs."""

    def __init__(
        self, train: EmbeddingSet, device: torch.device, elements: int = ELEMENTS
    ) -> None:
        self.train, self.device = train, device
        self.step = max(1, elements // train.dim)
        self.weights = persons.weights_of(train.persons, len(train))

    def __iter__(self) -> Iterator[Block]:
        precise = wide(self.device)
        for start in range(0, len(self.train), self.step):
            part = slice(start, start + self.step)
            rows, labels, weights = (
                torch.from_numpy(np.array(array[part])).to(self.device)
                for array in (self.train.embeddings, self.train.labels, self.weights)
            )
            yield Block(rows.to(precise), labels, weights.to(precise))
            drop_pages(self.train.embeddings)

    def sum(self, contribution: Callable[[Block], Tensor]) -> Tensor:
        """The sum of what each block contributes, which is a weighted sum over its rows."""
        blocks = iter(self)
        total = contribution(next(blocks))
        for block in blocks:
            total += contribution(block)
        return total


def limited(rows: Tensor, radius: float) -> Tensor:
    """Rows [b, D] over `radius`, shortened to norm 1 where they are longer; 0 if not finite."""
    lengths = torch.linalg.vector_norm(rows, dim=1).clamp(min=radius)
    return (rows / lengths[:, None]).nan_to_num(nan=0, posinf=0, neginf=0)


def norm_quantile(histogram: Tensor, noise_multiplier: float, level: float) -> float:
    """A quantile of norms by a noisy histogram of `octaves`, rounded up to the end of its bin.

    Bins that the noise alone could have filled are left out, except for the fullest.
    """
    believed = torch.where(histogram < STANDS_OUT * noise_multiplier, 0, histogram)
    fullest = int(histogram.argmax())
    believed[fullest] = max(1.0, float(histogram[fullest]))
    passed = believed.cumsum(0)
    place = int((passed < level * passed[-1]).sum())
    return float(2.0 ** (OCTAVES[0] + (place + 1) / PARTS))
