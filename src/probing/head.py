"""A linear head: standardise, fit on a release or on fresh draws, evaluate on real test rows.

Di Salvo et al., BMVC 2024. Shapes: x [N, D] features, labels [N] int64.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core import seeding, threads
from src.core.distances import moments, standardize
from src.core.errors import InputError
from src.core.threads import Team
from src.database import EmbeddingSet, Splits
from src.networks import linear, training
from src.networks.heads import LinearHead
from src.networks.sampling import Sampler
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


class Sought(NamedTuple):
    """A head to be fitted on rows of its own."""

    rows: EmbeddingSet
    settings: HeadSettings
    seed: int


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

    Raises:
        InputError: the fit diverged, or a logistic head cannot be fitted.
    """
    (found,) = fit_many([Sought(rows, settings, seed)], splits, device=device)
    if isinstance(found, InputError):
        raise found
    return found


def fit_many(
    sought: Sequence[Sought], splits: Splits, *, device: torch.device
) -> list[Head | InputError]:
    """The heads that `fit` would give, to the byte on a CPU, those of equal shapes together.

    Returns:
        In the order of `sought`; an error in place of a head that cannot be fitted.
    """
    found: dict[int, Head | InputError] = {}
    logistic_heads: dict[tuple[int, float | None], Head | InputError] = {}
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, (rows, settings, _) in enumerate(sought):
        if settings.head != LOGISTIC:
            alike.setdefault((rows.dim, len(rows), settings.batch_size), []).append(i)
            continue
        key = id(rows), settings.clip  # no seed: it draws no random number
        if key not in logistic_heads:
            logistic_heads[key] = _logistic_or_error(rows, splits, settings, device)
        found[i] = logistic_heads[key]
    for (dim, _, batch_size), group in alike.items():
        most = linear.at_once(dim, batch_size)
        for chosen in (group[begin : begin + most] for begin in range(0, len(group), most)):
            heads = _fit_together([sought[i] for i in chosen], splits, device)
            found |= dict(zip(chosen, heads, strict=True))
    return [found[i] for i in range(len(sought))]


def _logistic_or_error(
    rows: EmbeddingSet, splits: Splits, settings: HeadSettings, device: torch.device
) -> Head | InputError:
    x, labels = rows.tensors(device)
    scale = _scale(x, settings)
    try:
        return _fit_logistic((scale(x), labels), splits, scale)
    except InputError as error:
        return error


def _fit_together(
    sought: Sequence[Sought], splits: Splits, device: torch.device
) -> list[Head | InputError]:
    """Heads on equally many rows of as many features, in batches of one size."""
    made: dict[tuple[int, float | None], tuple[_Scale, Tensor, Tensor]] = {}
    cases, scales, sources = [], [], []
    for rows, settings, seed in sought:
        key = id(rows), settings.clip
        if key not in made:
            x, _ = rows.tensors(device)
            scale = _scale(x, settings)
            held_out = scale(splits.val.tensors(device)[0])
            made[key] = scale, linear.padded(scale(x)), held_out
        scale, x, held_out = made[key]
        generator = seeding.generator(seed, "head/fit", device)
        sources.append(linear.Source(x, rows.tensors(device)[1], generator))
        cases.append(_case(held_out, splits, settings, seed))
        scales.append(scale)
    return _fit(cases, scales, linear.shuffled(sources, sought[0].settings.batch_size))


def fit_online(
    decoder: Sampler,
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
    device = decoder.device
    scale = _scale(reference.tensors(device)[0], settings)
    generator = seeding.generator(seed, "head/fit", device)
    if settings.head == LOGISTIC:  # one epoch's draws, the same for every step
        labels = decoder.sample_labels(ONLINE_EPOCH * len(reference), generator)
        with threads.one():
            rows = torch.cat(list(decoder.sample(labels, generator)))
        return _fit_logistic((scale(rows), labels), splits, scale)

    def batches(_: Sequence[int], team: Team) -> Iterator[tuple[Tensor, Tensor]]:
        labels = decoder.sample_labels(ONLINE_EPOCH * len(reference), generator)
        block = BLOCK_BATCHES * settings.batch_size
        drawn = decoder.sample(labels, generator, block)
        for rows, classes in zip(team.ahead(drawn), labels.split(block), strict=True):
            parts = linear.padded(scale(rows)), classes
            for x, y in zip(*(part.split(settings.batch_size) for part in parts), strict=True):
                yield x[None], y[None, None]

    held_out = scale(splits.val.tensors(device)[0])
    (found,) = _fit([_case(held_out, splits, settings, seed)], [scale], batches)
    if isinstance(found, InputError):
        raise found
    return found


def draw(decoder: Sampler, count: int, *, seed: int) -> EmbeddingSet:
    """Rows as an online head sees them, to take their distance to the originals."""
    generator = seeding.generator(seed, "head/distance", decoder.device)
    labels = decoder.sample_labels(count, generator)
    with threads.one():
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
    with torch.inference_mode(), threads.one():
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


class _Scale(NamedTuple):
    """How features are standardised."""

    mean: Tensor  # [D]
    std: Tensor  # [D]
    clip: float | None

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows [n, D], standardised and limited."""
        return standardize(rows, *self)


def _scale(rows: Tensor, settings: HeadSettings) -> _Scale:
    """By the statistics of rows [n, D]."""
    return _Scale(*moments(rows), settings.clip)


def _case(held_out: Tensor, splits: Splits, settings: HeadSettings, seed: int) -> linear.Case:
    """An unfitted head, with its standardised validation rows."""
    with seeding.global_seed(seed, "head/init"):
        unfitted = LinearHead(held_out.shape[1], splits.num_classes).to(held_out.device)
    return linear.Case(
        unfitted,
        held_out,
        splits.val.tensors(held_out.device)[1],
        training.Schedule(settings.learning_rate, settings.num_epochs, settings.patience, PLATEAU),
    )


def _fit(
    cases: Sequence[linear.Case], scales: Sequence[_Scale], batches: linear.Batches
) -> list[Head | InputError]:
    heads: list[Head | InputError] = []
    for case, scale, went in zip(cases, scales, linear.fit(cases, batches), strict=True):
        if isinstance(went, InputError):
            heads.append(went)
            continue
        with torch.inference_mode():
            logits = case.linear(case.held_out)
            losses = F.cross_entropy(logits, case.labels, reduction="none")
        _doubt(went, losses, scale.clip)
        heads.append(Head(case.linear, scale.mean, scale.std, went, scale.clip))
    return heads


def _doubt(fitted: training.Fit, losses: Tensor, clip: float | None) -> None:
    """Say where a fit tells more of its own stopping than of its training rows.

    Args:
        losses: of the validation rows [N].
    """
    remedy = "try --head logistic" + ("" if clip else " or --clip 10")
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


def _fit_logistic(rows: tuple[Tensor, Tensor], splits: Splits, scale: _Scale) -> Head:
    """A logistic head as a linear layer, fitted on the CPU; rows are standardised."""
    started = time.perf_counter()
    device = scale.mean.device
    held_out, labels = splits.val.tensors(device)
    x = scale(held_out)
    ours, theirs = (
        logistic.Labelled(*(part.cpu().numpy() for part in side)) for side in (rows, (x, labels))
    )
    found = logistic.fit(ours, theirs, splits.num_classes)
    fitted = LinearHead(x.shape[1], splits.num_classes)
    with torch.no_grad():
        fitted.weight.copy_(torch.from_numpy(found.weight))
        fitted.bias.copy_(torch.from_numpy(found.bias))
    seconds = time.perf_counter() - started
    went = training.Fit(found.steps, found.steps, found.loss, seconds)
    return Head(fitted.to(device), scale.mean, scale.std, went, scale.clip, found.strength)
