"""The linear head of a probe: module and objective."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LinearHead(nn.Linear):
    """Standardised features [N, D] → logits [N, C]."""

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of x [N, D] against labels [N] int64."""
        return F.cross_entropy(self(x), labels)
