"""Classifiers of embeddings: modules and objectives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from src.core.distances import moments, standardize


class LinearHead(nn.Linear):
    """Standardised features [N, D] → logits [N, C]."""

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of x [N, D] against labels [N] int64."""
        return F.cross_entropy(self(x), labels)


class Classifier(nn.Module):
    """One hidden layer: embeddings [N, D] in their own units → logits [N, outputs].

    Buffers:
        mean, std: [D], those of the rows it is trained on; they standardise its input.
    """

    mean: Tensor
    std: Tensor
    outputs: int

    def __init__(self, rows: Tensor, outputs: int, hidden_dim: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.layers = nn.Sequential(
            nn.Linear(rows.shape[1], hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, outputs)
        )
        for name, value in zip(("mean", "std"), moments(rows), strict=True):
            self.register_buffer(name, value)

    def forward(self, rows: Tensor) -> Tensor:
        """Embeddings [N, D] → logits [N, outputs]."""
        logits: Tensor = self.layers(standardize(rows, self.mean, self.std))
        return logits

    def loss(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of embeddings [N, D] against labels [N] int64."""
        return F.cross_entropy(self(rows), labels)
