"""What fresh rows of a class are drawn from, whatever the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Sampler(nn.Module, ABC):
    """A class → embeddings. Its tensors are all that a bundle needs to draw rows.

    Attributes:
        class_weights: [C], rows of each class (any positive multiple will do).
        num_classes: C.
        latent_dim: random numbers that a row takes.
    """

    class_weights: Tensor
    num_classes: int
    latent_dim: int

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are, and where rows are drawn."""
        return self.class_weights.device

    def sample_labels(self, rows: int, generator: torch.Generator) -> Tensor:
        """Labels [rows] drawn from the class distribution."""
        return torch.multinomial(self.class_weights, rows, replacement=True, generator=generator)

    @abstractmethod
    def sample(
        self, labels: Tensor, generator: torch.Generator, block_rows: int = 8192
    ) -> Iterator[Tensor]:
        """One embedding for each label [N] int64, in blocks [block_rows, D] float32."""
