"""A linear head: standardise, fit on a release or on fresh draws, evaluate on real test rows.

Di Salvo et al., BMVC 2024. Shapes: x [N, D] features, labels [N] int64.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core import seeding
from src.core.distances import moments, standardize
from src.core.errors import InputError
from src.database import EmbeddingSet, Splits
from src.networks import training
from src.networks.cvae import Decoder
from src.networks.heads import LinearHead
from src.probing import logistic, metrics
from src.probing.settings import LOGISTIC, HeadSettings

ONLINE_EPOCH = 10  # an online epoch has this many times the rows of the training set
BLOCK_BATCHES = 64  # online batches decoded at once
EXTREME = 100.0  # standard deviations that no test row should be away from the release

PLATEAU = partial(ReduceLROnPlateau, factor=0.1, patience=5, min_lr=1e-5)


log = logging.getLogger(__name__)


class Head(NamedTuple):
    """A fitted head, what its features are standardised with, and how the fit went."""

    linear: LinearHead
    mean: Tensor  # [D]
    std: Tensor  # [D]
    fit: training.Fit  # of a logistic head: steps of L-BFGS, and seconds
    clip: float | None = None  # limit of standardised features
    strength: float | None = None  # the C that validation chose; of a logistic head alone


def fit(
    rows: EmbeddingSet,
    splits: Splits,
    settings: HeadSettings,
    *,
    seed: int,
    device: torch.device,
) -> Head:
    """Fit the head on rows, standardised by their own statistics.

    Args:
        splits: of which the validation rows stop the fit or choose the strength.
    """
    x, labels = rows.tensors(device)
    mean, std = moments(x)
    x = standardize(x, mean, std, settings.clip)
    if settings.head == LOGISTIC:
        return _fit_logistic((x, labels), splits, (mean, std), settings)
    generator = seeding.generator(seed, "head/fit", device)
    batches = partial(training.shuffled, len(x), settings.batch_size, generator, x, labels)
    return _fit(batches, splits, (mean, std), settings, seed)


def fit_online(
    decoder: Decoder,
    reference: EmbeddingSet,
    splits: Splits,
    settings: HeadSettings,
    *,
    seed: int,
) -> Head:
    """Fit the head on batches that are freshly drawn from the frozen decoder.

    Args:
        reference: rows that features are standardised by; an epoch has ten times as many draws.
        splits: of which the validation rows stop the fit or choose the strength.
    """
    device = decoder.minimum.device
    mean, std = moments(reference.tensors(device)[0])
    generator = seeding.generator(seed, "head/fit", device)
    if settings.head == LOGISTIC:  # one epoch's draws, the same for every step
        labels = decoder.sample_labels(ONLINE_EPOCH * len(reference), generator)
        rows = torch.cat(list(decoder.sample(labels, generator)))
        x = standardize(rows, mean, std, settings.clip)
        return _fit_logistic((x, labels), splits, (mean, std), settings)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        labels = decoder.sample_labels(ONLINE_EPOCH * len(reference), generator)
        block = BLOCK_BATCHES * settings.batch_size
        drawn = decoder.sample(labels, generator, block)
        for rows, classes in zip(drawn, labels.split(block), strict=True):
            x = standardize(rows, mean, std, settings.clip)
            yield from zip(
                x.split(settings.batch_size), classes.split(settings.batch_size), strict=True
            )

    return _fit(batches, splits, (mean, std), settings, seed)


def draw(decoder: Decoder, count: int, *, seed: int) -> EmbeddingSet:
    """Rows as an online head sees them, to take their distance to the originals."""
    generator = seeding.generator(seed, "head/distance", decoder.minimum.device)
    labels = decoder.sample_labels(count, generator)
    rows = torch.cat(list(decoder.sample(labels, generator)))
    return EmbeddingSet(rows.cpu().numpy(), labels.cpu().numpy())


def evaluate(head: Head, test: EmbeddingSet, sigma: float = 0.0, *, seed: int) -> metrics.Scores:
    """Utility on real test rows, with N(0, sigma²) noise on their standardised features.

    One seed draws the same noise for every sigma, only scaled; it is not limited by `clip`.

    Raises:
        InputError: a test row is so far from the release that its logits overflow.
    """
    device = head.mean.device
    x = standardize(test.tensors(device)[0], head.mean, head.std, head.clip)
    generator = seeding.generator(seed, "test/noise", device)
    noise = torch.randn(x.shape, generator=generator, device=device)
    with torch.inference_mode():
        logits = head.linear(x + sigma * noise).cpu()  # MPS lacks float64
    if not logits.isfinite().all():
        raise InputError(
            "test rows are too far from the rows that standardise them: float32 overflows; "
            "--clip 10 limits them"
        )
    return metrics.scores(logits.double().softmax(1).numpy(), test.labels)


def extreme_rows(head: Head, test: EmbeddingSet) -> int:
    """Test rows with a feature more than 100 of the release's deviations away from its mean.

    Where they occur, the release hardly varies in a feature in which real rows do: their logits
    are that feature's. Where no limit is set, their number is also logged.
    """
    z = standardize(test.tensors(head.mean.device)[0], head.mean, head.std)
    count = int((z.abs() > EXTREME).any(1).sum())
    if count and head.clip is None:
        log.warning(
            "%d of %d test rows are beyond %g standard deviations of the rows that standardise "
            "them, up to %.3g; --clip 10 limits them",
            *(count, len(test), EXTREME, float(z.abs().max())),
        )
    return count


def _fit(
    batches: Callable[[], Iterable[tuple[Tensor, ...]]],
    splits: Splits,
    statistics: tuple[Tensor, Tensor],
    settings: HeadSettings,
    seed: int,
) -> Head:
    mean, std = statistics
    with seeding.global_seed(seed, "head/init"):
        linear = LinearHead(len(mean), splits.num_classes).to(mean.device)
    rows, labels = splits.val.tensors(mean.device)
    x = standardize(rows, mean, std, settings.clip)
    fitted = training.fit(
        linear,
        training.Schedule(settings.learning_rate, settings.num_epochs, settings.patience, PLATEAU),
        batches=batches,
        loss=linear.loss,
        validation_loss=lambda: linear.loss(x, labels),
        description="linear head",
    )
    with torch.inference_mode():
        losses = F.cross_entropy(linear(x), labels, reduction="none")
    _doubt(fitted, losses, settings)
    return Head(linear, mean, std, fitted, settings.clip)


def _doubt(fitted: training.Fit, losses: Tensor, settings: HeadSettings) -> None:
    """Say where a fit tells more of its own stopping than of its training rows.

    Args:
        losses: of the validation rows [N].
    """
    remedy = "try --head logistic" + ("" if settings.clip else " or --clip 10")
    if fitted.best_epoch == 1 < fitted.epochs:
        log.warning(
            "the linear head was best after its first epoch of %d, so that it measures its own "
            "stopping; %s",
            *(fitted.epochs, remedy),
        )
    share = float(losses.max() / losses.sum())
    if len(losses) > 2 and share > 0.5:
        log.warning(
            "one of %d validation rows makes up %.0f %% of the loss that stops the linear head; "
            "%s",
            *(len(losses), 100 * share, remedy),
        )


def _fit_logistic(
    rows: tuple[Tensor, Tensor],
    splits: Splits,
    statistics: tuple[Tensor, Tensor],
    settings: HeadSettings,
) -> Head:
    """A logistic head as a linear layer, fitted on the CPU; rows are standardised."""
    started = time.perf_counter()
    mean, std = statistics
    held_out, labels = splits.val.tensors(mean.device)
    x = standardize(held_out, mean, std, settings.clip)
    ours, theirs = (
        logistic.Labelled(*(part.cpu().numpy() for part in side)) for side in (rows, (x, labels))
    )
    found = logistic.fit(ours, theirs, splits.num_classes)
    linear = LinearHead(len(mean), splits.num_classes)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(found.weight))
        linear.bias.copy_(torch.from_numpy(found.bias))
    seconds = time.perf_counter() - started
    fitted = training.Fit(found.steps, found.steps, found.loss, seconds)
    return Head(linear.to(mean.device), mean, std, fitted, settings.clip, found.strength)
