"""The recorded runs: their random numbers in place of torch's, and where our results differ.

README.md beside this file says what is recorded.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src.database import EmbeddingSet, Splits
from src.networks import linear, training
from src.networks.heads import LinearHead

RECORDED = dict(np.load(Path(__file__).with_name("released.npz"), allow_pickle=False))
LAYERS = {  # of the CVAE in order of creation: the released module's name, and ours
    "encoder.encode.0": "encoder.0",
    "encoder.encode.2": "encoder.2",
    "decoder.decode.0": "decoder.layers.0",
    "decoder.decode.2": "decoder.layers.2",
}
NOISE_UNIT = 1 / 256  # of the recorded latent noise
LOSS, ROWS, WEIGHTS = {"rtol": 1e-5}, {"atol": 1e-5}, {"atol": 1e-3}
TOLERANCES = {  # by the last part of a name; what is not here is the same exactly
    "train_loss_batches": LOSS,
    "train_loss": LOSS,
    "val_loss": LOSS,
    "loss_batches": LOSS,
    "average_mindistance": LOSS,
    "rows": ROWS,
    "mean": ROWS,
    "std": ROWS,
    "weight": ROWS,
    "bias": ROWS,
    "auc": {"atol": 1e-3},  # percentage points
    "weights": WEIGHTS,  # of the CVAE, all in one: see README.md
    "median of weights": {"atol": 1e-6},
}

CPU = torch.device("cpu")


def labelled(rows: np.ndarray, labels: np.ndarray) -> EmbeddingSet:
    """Recorded rows (n, D) and labels (n,) as the project holds them."""
    return EmbeddingSet(rows, labels.astype(np.int64))


def recorded_splits() -> Splits:
    """The digits that were run on: 300 / 60 / 150 rows, D = 58, C = 10."""
    parts = ((RECORDED[f"data/{s}_x"], RECORDED[f"data/{s}_y"]) for s in ("train", "val", "test"))
    return Splits(*(labelled(*part) for part in parts))


SPLITS = recorded_splits()


def cvae_weights(moment: str) -> dict[str, np.ndarray]:
    """The CVAE's weights `initial`, `last` or `kept`, by our names."""
    return {
        f"{ours}.{kind}": RECORDED[f"cvae/{moment}/{theirs}.{kind}"]
        for theirs, ours in LAYERS.items()
        for kind in ("weight", "bias")
    }


@contextmanager
def drawn(
    *,
    weights: Iterable[np.ndarray] = (),
    orders: Iterable[np.ndarray] = (),
    normals: Iterable[np.ndarray] = (),
) -> Iterator[None]:
    """Within the block, all that torch draws is handed out from these, in order.

    Args:
        weights: weight and bias of each linear layer that is made.
        orders: permutations.
        normals: standard normal numbers.

    Raises:
        AssertionError: something else is asked for, or something is left at the end.
    """
    left = {"weights": [*weights], "orders": [*orders], "normals": [*normals]}

    def next_of(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
        assert left[kind], f"more {kind} are asked for than are recorded"
        array = left[kind].pop(0)
        assert array.shape == shape, f"{kind}: {shape} asked for, {array.shape} recorded"
        return torch.from_numpy(array)

    def reset_parameters(layer: nn.Linear) -> None:
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                parameter.copy_(next_of("weights", tuple(parameter.shape)))

    def randn(*size, **_) -> torch.Tensor:
        return next_of("normals", tuple(torch.empty(*size).shape)).float()

    def randperm(rows: int, **_) -> torch.Tensor:
        return next_of("orders", (rows,)).long()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "reset_parameters", reset_parameters)
        patch.setattr(torch, "randn", randn)
        patch.setattr(torch, "randperm", randperm)
        yield
    assert not any(left.values()), {kind: len(rest) for kind, rest in left.items()}


@dataclass
class Course:
    """What a fit did."""

    batch_losses: list[float] = field(default_factory=list)  # of each batch, before its step
    batch_rates: list[float] = field(default_factory=list)  # learning rate of each step
    val_losses: list[float] = field(default_factory=list)  # of each epoch
    last: dict[str, np.ndarray] = field(default_factory=dict)  # weights after the last epoch
    fit: training.Fit | None = None


@contextmanager
def noted() -> Iterator[Course]:
    """Note what the fit within the block does."""
    course, step = Course(), training.Adam.step

    def note(model, value):
        course.val_losses.append(value.item())
        course.last = arrays(dict(model.named_parameters()))
        return value

    def fit(model, schedule, *, gradients, validation_loss, **rest):
        def noted_gradients(team, xy, noise):
            x, y = xy.tensor_split((model.decoder.minimum.numel(),), 1)
            losses = model.loss_rows(x, y, noise, kl_weight=0.1, prior_variance=0.5)
            course.batch_losses.append(losses.sum().item())
            gradients(team, xy, noise)

        course.fit = real_fit(
            model,
            schedule,
            gradients=noted_gradients,
            validation_loss=lambda team: note(model, validation_loss(team)),
            **rest,
        )
        return course.fit

    def fit_heads(cases, batches):
        (course.fit,) = real_fit_heads(cases, batches)
        return [course.fit]

    def noted_gradients(stack, team, x, labels):
        (weight, bias), classes = stack.parameters, stack.classes
        logits = torch.nn.functional.linear(x[0], weight[0], bias[0, :classes])
        course.batch_losses.append(torch.nn.functional.cross_entropy(logits, labels[0, 0]).item())
        gradients(stack, team, x, labels)

    def noted_step(adam, courses):
        course.batch_rates.append(courses[0].optimizer.param_groups[0]["lr"])
        step(adam, courses)

    real_fit, real_fit_heads = training.fit, linear.fit
    gradients, loss = linear.Stack.gradients, LinearHead.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", fit)
        patch.setattr(linear, "fit", fit_heads)
        patch.setattr(linear.Stack, "gradients", noted_gradients)
        patch.setattr(LinearHead, "loss", lambda head, *rows: note(head, loss(head, *rows)))
        patch.setattr(training.Adam, "step", noted_step)
        yield course


def another_adam(patch: pytest.MonkeyPatch, **changed: object) -> None:
    """Give Adam other settings than its own."""
    patch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, **changed))


def arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copies of the tensors as arrays."""
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def differing(ours: dict[str, np.ndarray], released: dict[str, np.ndarray]) -> dict[str, float]:
    """The names under which the two differ by more than the tolerance, and by how much."""
    found = {}
    for name, value in ours.items():
        if np.shape(value) != np.shape(released[name]):
            found[name] = np.inf
            continue
        difference = np.abs(np.subtract(value, released[name], dtype=np.float64))
        allowed = TOLERANCES.get(name.rpartition("/")[2], {})
        limit = allowed.get("atol", 0) + allowed.get("rtol", 0) * np.abs(released[name])
        if not (difference <= limit).all():
            found[name] = float(difference.max())
    return found
