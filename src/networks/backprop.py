"""Gradients of small dense networks without autograd, in parts that several threads share.

Autograd takes about thirty operations for a step of a linear head, of which eight do something.
A step has two rounds. In the first, each part of the batch's rows goes forward and back; in the
second, gradients of weights, sums over all rows, are cut by the weights' outputs.
The operations are autograd's own in its order, so that its bytes come out, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.core import threads
from src.core.threads import Team

aten = torch.ops.aten
MEAN, NO_LABEL = 1, -100  # of `nll_loss`: its reduction, and the label that it ignores


class Room(NamedTuple):
    """What a step keeps of each layer: of all rows, or of a part of them."""

    outputs: list[Tensor]  # [n, out], after ReLU
    errors: list[Tensor]  # [n, out], the loss's derivatives by the output before ReLU

    def part(self, rows: slice) -> Room:
        """Views of some of the rows."""
        return Room([kept[rows] for kept in self.outputs], [kept[rows] for kept in self.errors])


class Dense:
    """Linear layers with ReLU between them."""

    def __init__(self, network: nn.Module) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        self.weights = [(layer.weight.detach(), layer.bias.detach()) for layer in layers]
        self.gradients = [tuple(map(torch.empty_like, pair)) for pair in self.weights]
        for layer, gradients in zip(layers, self.gradients, strict=True):
            layer.weight.grad, layer.bias.grad = gradients
        self.flop = 6 * sum(weight.numel() for weight, _ in self.weights)  # of a row's step

    def room(self, rows: int) -> Room:
        """Room for a step of so many rows."""
        outputs = [weight.new_empty(rows, len(weight)) for weight, _ in self.weights]
        return Room(outputs, [torch.empty_like(output) for output in outputs])

    def forward(self, x: Tensor, room: Room) -> Tensor:
        """Rows x [n, in] → the last layer's output [n, out]."""
        for (weight, bias), out in zip(self.weights, room.outputs, strict=True):
            if out is not room.outputs[0]:
                x.relu_()
            x = torch.addmm(bias, x, weight.t(), out=out)
        return x

    def backward(self, room: Room) -> None:
        """From the last layer's errors, which whoever has the loss writes, to the first's."""
        for i in range(len(self.weights) - 1, 0, -1):
            error = torch.mm(room.errors[i], self.weights[i][0])
            aten.threshold_backward(error, room.outputs[i - 1], 0, grad_input=room.errors[i - 1])

    def sums(self, x: Tensor, room: Room, pieces: int) -> list[Callable[[], object]]:
        """Tasks that set the gradients of weights and biases, given the step's rows x [N, in]."""
        tasks: list[Callable[[], object]] = []
        inputs = x, *room.outputs[:-1]
        for (weight, bias), before, errors in zip(
            self.gradients, inputs, room.errors, strict=True
        ):
            # Cut, a sum of columns would be rounded differently; a product is not.
            tasks.append(partial(torch.sum, errors, 0, out=bias))
            cut = min(pieces, -(-6 * weight.numel() * pieces // self.flop))
            for error, piece in (
                zip(errors.tensor_split(cut, 1), weight.tensor_split(cut), strict=True)
                if cut > 1
                else [(errors, weight)]
            ):
                tasks.append(partial(torch.mm, error.t(), before, out=piece))
        return tasks


class CrossEntropy:
    """A step of a classifier: gradients of the mean cross-entropy of a batch."""

    def __init__(self, network: nn.Module) -> None:
        self.dense = Dense(network)
        self.one = self.dense.weights[0][0].new_ones(())
        self.plans: dict[int, tuple[Tensor, Room, list[slice]]] = {}  # by number of rows

    def __call__(self, team: Team, x: Tensor, labels: Tensor) -> None:
        """Set the gradients for rows x [N, D] and labels [N] int64."""
        rows = len(x)
        if rows not in self.plans:
            cut = threads.parts(rows, self.dense.flop * rows)
            self.plans[rows] = x.new_full((), rows), self.dense.room(rows), cut
        count, room, cut = self.plans[rows]
        if len(cut) == 1:
            self._rows(x, labels, count, room)
            for task in self.dense.sums(x, room, 1):
                task()
            return
        team.run(
            [partial(self._rows, x[part], labels[part], count, room.part(part)) for part in cut]
        )
        team.run(self.dense.sums(x, room, len(cut)))

    def _rows(self, x: Tensor, labels: Tensor, count: Tensor, room: Room) -> None:
        logs = aten._log_softmax(self.dense.forward(x, room), 1, False)
        losses = aten.nll_loss_backward(self.one, logs, labels, None, MEAN, NO_LABEL, count)
        aten._log_softmax_backward_data(losses, logs, 1, x.dtype, out=room.errors[-1])
        self.dense.backward(room)
