"""The probe: standardise, fit a linear head on a release, evaluate it on real test rows.

Di Salvo et al., BMVC 2024: the head's utility on clean and on noisy test features, and the
distance of the rows it was trained on from the originals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src import metrics, seeding, training
from src.database import EmbeddingSet, Splits
from src.head import HeadSettings as HeadSettings
from src.models.cvae import Decoder
from src.models.linear import LinearHead

ONLINE_EPOCH = 10  # an online epoch has so many times the rows of the training set
BLOCK_BATCHES = 64  # online batches decoded at once

schedule = partial(ReduceLROnPlateau, factor=0.1, patience=5, min_lr=1e-5)


class Probe(NamedTuple):
    """A fitted head, what its features are standardised with, and how it came about."""

    head: LinearHead
    mean: Tensor  # [D]
    std: Tensor  # [D]
    fit: training.Fit
    average_mindistance: float | None  # of the rows it was trained on to the originals, if known


def probe_release(
    splits: Splits,
    released: EmbeddingSet,
    settings: HeadSettings,
    *,
    seed: int,
    device: torch.device,
) -> Probe:
    """Fit the head on released rows, standardised by their own statistics."""
    rows, labels = released.tensors(device)
    originals, _ = splits.train.tensors(device)
    mean, std = metrics.moments(rows)
    x = metrics.standardize(rows, mean, std)
    generator = seeding.generator(seed, "head/fit", device)
    batches = partial(training.shuffled, len(x), settings.batch_size, generator, x, labels)
    head, fit = _fit_head(splits, mean, std, batches, settings, seed, device)
    return Probe(head, mean, std, fit, metrics.average_mindistance(rows, originals))


def probe_decoder(
    splits: Splits,
    decoder: Decoder,
    variance: float,
    settings: HeadSettings,
    *,
    reference: EmbeddingSet,
    originals: EmbeddingSet | None,
    seed: int,
    device: torch.device,
) -> Probe:
    """Fit the head online: every batch is freshly drawn from the frozen decoder.

    Args:
        splits: of which the validation rows alone are used.
        reference: rows that features are standardised by; an epoch has ten times as many draws.
        originals: rows that the distance of as many fresh draws is taken to, if they are there.
    """
    mean, std = metrics.moments(reference.tensors(device)[0])
    generator = seeding.generator(seed, "head/fit", device)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        labels = decoder.sample_labels(ONLINE_EPOCH * len(reference), generator)
        block = BLOCK_BATCHES * settings.batch_size
        drawn = decoder.sample(labels, variance, generator, block)
        for rows, classes in zip(drawn, labels.split(block), strict=True):
            x = metrics.standardize(rows, mean, std)
            yield from zip(
                x.split(settings.batch_size), classes.split(settings.batch_size), strict=True
            )

    head, fit = _fit_head(splits, mean, std, batches, settings, seed, device)
    if originals is None:
        return Probe(head, mean, std, fit, None)
    fresh = seeding.generator(seed, "head/distance", device)
    labels = decoder.sample_labels(len(originals), fresh)
    rows = torch.cat(list(decoder.sample(labels, variance, fresh)))
    distance = metrics.average_mindistance(rows, originals.tensors(device)[0])
    return Probe(head, mean, std, fit, distance)


def evaluate(probe: Probe, test: EmbeddingSet, sigma: float, *, seed: int) -> metrics.Scores:
    """Utility on real test rows, with N(0, sigma²) noise on their standardised features.

    One seed draws the same noise for every sigma, only scaled.
    """
    device = probe.mean.device
    rows, _ = test.tensors(device)
    x = metrics.standardize(rows, probe.mean, probe.std)
    noise = torch.randn(
        x.shape, generator=seeding.generator(seed, "test/noise", device), device=device
    )
    with torch.inference_mode():
        logits = probe.head(x + sigma * noise).cpu()  # MPS lacks float64
    return metrics.scores(logits.double().softmax(1).numpy(), test.labels)


def _fit_head(
    splits: Splits,
    mean: Tensor,
    std: Tensor,
    batches: Callable[[], Iterable[tuple[Tensor, ...]]],
    settings: HeadSettings,
    seed: int,
    device: torch.device,
) -> tuple[LinearHead, training.Fit]:
    with seeding.global_seed(seed, "head/init"):
        head = LinearHead(len(mean), len(splits.train.class_names)).to(device)
    rows, labels = splits.val.tensors(device)
    x = metrics.standardize(rows, mean, std)
    fit = training.fit(
        head,
        batches=batches,
        loss=head.loss,
        validation_loss=lambda: head.loss(x, labels),
        learning_rate=settings.learning_rate,
        num_epochs=settings.num_epochs,
        patience=settings.patience,
        plateau=schedule,
        description="linear head",
    )
    return head, fit
