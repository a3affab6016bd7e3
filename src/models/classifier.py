"""A classifier of embeddings with one hidden layer: module and objective."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from src.metrics import moments, standardize


class Classifier(nn.Module):
    """Embeddings [N, D] in their own units → logits [N, outputs].

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
