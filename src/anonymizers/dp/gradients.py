"""Sums of clipped gradients of rows, to which noise can be added.

Why one row changes such a sum by at most 1 in L2 norm, whatever it and the other rows are:

1. The layers map each row by itself (tests hold that), and so does their backward pass. What one
   row overflows to, it overflows to in its own place of each tensor.
2. Whether a row is kept depends on its own gradient alone. A kept row adds a vector of norm at
   most 1. A row whose gradient is not finite, or longer than LONGEST, adds 0: clipping does not
   tame an infinity, and both of its factors are set to 0, as 0 · ∞ would spoil the sum.
3. So with one row more, the sum is the same vector plus one of norm at most 1. (The rounding of
   the products is not part of this argument; see docs/dp.md on floating point.)

No row can make the computation stop, skip a step or say something, either.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.anonymizers.dp.sums import norms

LONGEST = 1e30  # gradient; float32 holds no reciprocal of much longer ones


def clipped_sum(
    model: nn.Module, losses: Callable[[], Tensor], limit: float
) -> dict[Tensor, Tensor]:
    """Σ g / max(limit, |g|) over the rows' gradients g, as one tensor per parameter.

    Each gradient is clipped to norm `limit` and divided by it. All parameters of the model are in
    linear layers, of which each is used once. There the gradient of a row is the outer product
    of what enters the layer and the slope of the loss in what leaves it: one backward pass gives
    norms and sum, and no row's gradient is ever held (the idea of Li et al., ICLR 2022, and of
    Bu et al., ICML 2023, who avoid the second pass).

    Args:
        losses: runs the model and returns the loss of each row [m].
    """
    inputs: dict[nn.Linear, Tensor] = {}
    outputs: dict[nn.Linear, Tensor] = {}

    def keep(layer: nn.Linear, entered: tuple[Tensor], left: Tensor) -> None:
        inputs[layer], outputs[layer] = entered[0].detach(), left

    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        total = losses().sum()
    finally:
        for hook in hooks:
            hook.remove()
    slopes = torch.autograd.grad(total, [outputs[layer] for layer in layers])
    return _summed(
        {layer: (inputs[layer], s) for layer, s in zip(layers, slopes, strict=True)}, limit
    )


def _summed(factors: dict[nn.Linear, tuple[Tensor, Tensor]], limit: float) -> dict[Tensor, Tensor]:
    """The clipped sum from each layer's inputs [m, i] and slopes [m, o], which it overwrites."""
    squares = [  # of the weight's and the bias's gradients; float64 holds any product of float32
        (norms(entered).square() + 1) * norms(slope).square()
        for entered, slope in factors.values()
    ]
    length = torch.stack(squares).sum(0).sqrt()
    dropped = ~(length < LONGEST)[:, None]  # NaN among them
    factor = length.clamp(min=limit).reciprocal()[:, None]
    sums: dict[Tensor, Tensor] = {}
    for layer, (entered, slope) in factors.items():
        clipped = slope.mul_(factor.to(slope.dtype)).masked_fill_(dropped, 0)
        sums[layer.weight] = clipped.T @ entered.masked_fill_(dropped, 0)
        sums[layer.bias] = clipped.sum(0)
    return sums
