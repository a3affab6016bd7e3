"""One fit loop for every model: batches, early stopping, best weights, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core.errors import InputError
from src.core.progress import bar


class Schedule(NamedTuple):
    """How long and how fast to train."""

    learning_rate: float  # Adam's, at first
    num_epochs: int  # at most
    patience: int  # epochs without a better validation loss before stopping
    plateau: Callable[[torch.optim.Optimizer], ReduceLROnPlateau] | None = None  # its schedule
    remedy: str = "a smaller --learning_rate may help"  # said where training diverges


class Fit(NamedTuple):
    """How a fit went."""

    epochs: int  # run in all
    best_epoch: int  # from 1; the one whose weights the model has now
    best_loss: float  # its validation loss
    seconds: float
    losses: tuple[float, ...] = ()  # the validation loss after each epoch

    def __str__(self) -> str:
        return (
            f"{self.epochs} epochs, the best is {self.best_epoch}, "
            f"validation loss {self.best_loss:.4g}"
        )


def shuffled(
    rows: int, batch_size: int, generator: torch.Generator, *tensors: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """The tensors' rows in a fresh random order, in batches; the last one may be smaller."""
    order = torch.randperm(rows, generator=generator, device=generator.device)
    for chosen in order.split(batch_size):
        yield tuple(tensor.index_select(0, chosen) for tensor in tensors)


def fit(
    model: nn.Module,
    schedule: Schedule,
    *,
    batches: Callable[[], Iterable[tuple[Tensor, ...]]],
    loss: Callable[..., Tensor],
    validation_loss: Callable[[], Tensor],
    description: str = "fit",
) -> Fit:
    """Train `model` with Adam until the validation loss stops falling; keep the best weights.

    Args:
        batches: gives one epoch's batches at each call.
        loss: a batch → the scalar to minimise.
        validation_loss: → the scalar that early stopping and the schedule watch.

    Raises:
        InputError: the validation loss is not finite (training diverged).
    """
    started = time.perf_counter()
    parameters: list[Tensor] = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, fused=True)
    scheduler = schedule.plateau(optimizer) if schedule.plateau else None
    best = [p.detach().clone() for p in parameters]
    best_loss, best_epoch, epoch, losses = math.inf, 0, 0, []
    for epoch in bar(range(1, schedule.num_epochs + 1), desc=description, unit="epoch"):
        for batch in batches():
            optimizer.zero_grad()
            loss(*batch).backward()
            optimizer.step()
        with torch.inference_mode():
            value = float(validation_loss())  # the one host synchronisation of an epoch
        if not math.isfinite(value):
            raise InputError(
                f"{description} diverged: validation loss {value} in epoch {epoch} at learning "
                f"rate {schedule.learning_rate:g}; {schedule.remedy}"
            )
        losses.append(value)
        if value < best_loss:
            best_loss, best_epoch = value, epoch
            torch._foreach_copy_(best, [p.detach() for p in parameters])
        elif epoch - best_epoch >= schedule.patience:
            break
        if scheduler is not None:
            scheduler.step(value)
    with torch.no_grad():
        torch._foreach_copy_(parameters, best)
    return Fit(epoch, best_epoch, best_loss, time.perf_counter() - started, tuple(losses))
