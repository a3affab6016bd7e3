"""Classifiers that guide latent walks: whose embedding a row is, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.core import seeding
from src.core.devices import Resources
from src.core.distances import standardize
from src.core.files import number_name
from src.core.provenance import versions
from src.core.threads import Team
from src.database import EmbeddingSet
from src.networks import checkpoints, training
from src.networks.backprop import CrossEntropy
from src.networks.heads import Classifier

HIDDEN_DIM, BATCH_SIZE = 256, 256
SCHEDULE = training.Schedule(
    learning_rate=3e-3,
    num_epochs=100,
    patience=10,
    remedy="its learning rate is fixed; look for training rows far larger than the others",
)
LOGITS = 1 << 26  # held at once when held-out rows are judged


def fit_identity(
    train: EmbeddingSet, *, jitter: float, seed: int, resources: Resources
) -> Classifier:
    """A frozen classifier with one class per person, trained on freshly jittered rows.

    Where `train.persons` is not known, each row is a person of its own.

    Args:
        jitter: standard deviation of the Gaussian noise, in each feature's standard deviations.
    """
    rows, _ = train.tensors(resources.device)
    identities = _identities(train, rows.device)
    model = _initial(rows, int(identities.max()) + 1, seed, "identity")
    held_out = _jittered(
        model, rows, jitter, seeding.generator(seed, "identity/stop", rows.device)
    )
    generator = seeding.generator(seed, "identity/fit", rows.device)

    def batches(_: Team) -> Iterator[tuple[Tensor, ...]]:
        for part, own in training.shuffled(len(rows), BATCH_SIZE, generator, rows, identities):
            yield _jittered(model, part, jitter, generator), own

    inputs = {"train": train.fingerprint, "jitter": jitter, "seed": seed}
    if train.persons is not None:
        inputs["identities"] = model.outputs
    name = f"identity-jitter{number_name(jitter)}"
    return _fit(model, batches, (held_out, identities), name, inputs, resources)


def fit_task(
    train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
) -> Classifier:
    """A frozen classifier of the labels, trained on the real rows."""
    rows, labels = train.tensors(resources.device)
    model = _initial(rows, train.num_classes, seed, "task")
    generator = seeding.generator(seed, "task/fit", rows.device)

    def batches(_: Team) -> Iterable[tuple[Tensor, ...]]:
        return training.shuffled(len(rows), BATCH_SIZE, generator, rows, labels)

    inputs = {"train": train.fingerprint, "val": val.fingerprint, "seed": seed}
    known = val.labels < train.num_classes  # a named class may have validation rows alone
    x, y = val.tensors(resources.device)
    return _fit(model, batches, (x[known], y[known]), "task", inputs, resources)


def identity_accuracy(
    model: Classifier, train: EmbeddingSet, *, jitter: float, seed: int
) -> float:
    """The share of training rows whose person is found under jitter that no training has seen."""
    rows, _ = train.tensors(model.mean.device)
    generator = seeding.generator(seed, "identity/held-out", rows.device)
    unseen = _jittered(model, rows, jitter, generator)
    return _accuracy(model, unseen, _identities(train, rows.device))


def _identities(train: EmbeddingSet, device: torch.device) -> Tensor:
    """The number of each row's person, 0..persons-1 (n,) int64."""
    if train.persons is None:
        return torch.arange(len(train), device=device)
    return torch.from_numpy(np.unique(train.persons, return_inverse=True)[1]).to(device)


def task_accuracy(model: Classifier, data: EmbeddingSet) -> float:
    """The share of rows whose label is recognised."""
    return _accuracy(model, *data.tensors(model.mean.device))


def _initial(rows: Tensor, outputs: int, seed: int, name: str) -> Classifier:
    with seeding.global_seed(seed, f"{name}/init"):
        return Classifier(rows, outputs, HIDDEN_DIM).to(rows.device)


def _fit(
    model: Classifier,
    batches: Callable[[Team], Iterable[tuple[Tensor, ...]]],
    held_out: tuple[Tensor, Tensor],
    name: str,
    inputs: dict[str, Any],
    resources: Resources,
) -> Classifier:
    """Fit the model, or find its checkpoint, and freeze it."""
    cross_entropy = CrossEntropy(model.layers)

    def gradients(team: Team, rows: Tensor, labels: Tensor) -> None:
        cross_entropy(team, standardize(rows, model.mean, model.std), labels)

    def held_out_loss(_: Team) -> Tensor:
        sums = [len(rows) * model.loss(rows, labels) for rows, labels in _blocks(model, *held_out)]
        return torch.stack(sums).sum() / len(held_out[0])

    depends_on = {
        **inputs,
        "settings": {
            "learning_rate": SCHEDULE.learning_rate,
            "num_epochs": SCHEDULE.num_epochs,
            "batch_size": BATCH_SIZE,
            "patience": SCHEDULE.patience,
            "hidden_dim": HIDDEN_DIM,
        },
        "device": resources.device.type,
        "versions": versions(),
    }
    folder = resources.ckpt_folder
    checkpoints.restore_or_fit(
        model,
        folder / f"{name}-s{inputs['seed']}.safetensors" if folder else None,
        depends_on,
        lambda: training.fit(
            model,
            SCHEDULE,
            batches=batches,
            gradients=gradients,
            validation_loss=held_out_loss,
            description=f"{name} classifier",
        ),
    )
    return model.eval().requires_grad_(False)


def _jittered(
    model: Classifier, rows: Tensor, jitter: float, generator: torch.Generator
) -> Tensor:
    noise = torch.randn(rows.shape, generator=generator, device=rows.device)
    return torch.addcmul(rows, noise, jitter * model.std)


def _accuracy(model: Classifier, rows: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in _blocks(model, rows, labels)]
    return int(torch.stack(right).sum()) / len(rows)


def _blocks(model: Classifier, rows: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, LOGITS // model.outputs)
    return zip(torch.split(rows, size), torch.split(labels, size), strict=True)
