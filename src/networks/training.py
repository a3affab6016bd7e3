"""One fit loop for every model: batches, early stopping, best weights, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core import threads
from src.core.errors import InputError
from src.core.progress import bar
from src.core.threads import Team


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


class Course:
    """How one model's fit goes: its losses, its learning rate, whether it is over.

    Attributes:
        optimizer: torch's Adam; it has the settings, which the schedule changes, and takes no
            step: its bookkeeping takes as long as a small step does.
    """

    def __init__(self, schedule: Schedule, description: str) -> None:
        self.schedule, self.description = schedule, description
        self.best_epoch, self.best_loss = 0, math.inf
        self.losses: list[float] = []
        self.optimizer = torch.optim.Adam([torch.zeros(1)], lr=schedule.learning_rate)
        self._plateau = schedule.plateau(self.optimizer) if schedule.plateau else None
        self._started = time.perf_counter()

    def note(self, value: float) -> bool:
        """Note the validation loss after an epoch → whether it is the best so far.

        Raises:
            InputError: it is not finite (training diverged).
        """
        epoch, rate = len(self.losses) + 1, self.schedule.learning_rate
        if not math.isfinite(value):
            raise InputError(
                f"{self.description} diverged: validation loss {value} in epoch {epoch} at "
                f"learning rate {rate:g}; {self.schedule.remedy}"
            )
        self.losses.append(value)
        if better := value < self.best_loss:
            self.best_loss, self.best_epoch = value, epoch
        if self._plateau is not None and not self.over:
            self._plateau.step(value)
        return better

    @property
    def over(self) -> bool:
        """Whether no epoch follows."""
        epochs, most = len(self.losses), self.schedule.num_epochs
        return epochs >= most or epochs - self.best_epoch >= self.schedule.patience

    def fit(self) -> Fit:
        """How it went."""
        seconds = time.perf_counter() - self._started
        return Fit(len(self.losses), self.best_epoch, self.best_loss, seconds, tuple(self.losses))


class Adam:
    """Adam (Kingma and Ba, ICLR 2015), one fused call per step.

    Args:
        parameters, gradients: tensors that it reads at each step; it moves the former.
    """

    def __init__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        means, squares = (list(map(torch.zeros_like, parameters)) for _ in range(2))
        self.tensors = parameters, gradients, means, squares
        self.count = torch.zeros((), device=parameters[0].device)  # of steps

    def step(self, courses: Sequence[Course]) -> None:
        """Move the parameters; of several models, each tensor has a first dimension for them."""
        self.count.add_(1)
        groups = [course.optimizer.param_groups[0] for course in courses]
        if all(group["lr"] == groups[0]["lr"] for group in groups):
            self._move(self.tensors, groups[0])
            return
        for i, group in enumerate(groups):
            self._move([[tensor[i] for tensor in kind] for kind in self.tensors], group)

    def _move(self, tensors: Iterable[list[Tensor]], group: Mapping[str, Any]) -> None:
        parameters, gradients, means, squares = tensors
        torch._fused_adam_(
            *(parameters, gradients, means, squares, [], [self.count] * len(parameters)),
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            weight_decay=0,
            amsgrad=False,
            maximize=False,
        )


def fit(
    model: nn.Module,
    schedule: Schedule,
    *,
    batches: Callable[[Team], Iterable[tuple[Tensor, ...]]],
    gradients: Callable[..., object],
    validation_loss: Callable[[Team], Tensor],
    description: str = "fit",
) -> Fit:
    """Train `model` with Adam until the validation loss stops falling; keep the best weights.

    All callables are given the team of threads that they may share their work with.

    Args:
        batches: gives one epoch's batches at each call.
        gradients: of a team and a batch; sets the gradients of the loss to minimise, in place.
        validation_loss: → the scalar that early stopping and the schedule watch.

    Raises:
        InputError: the validation loss is not finite (training diverged).
    """
    parameters = [p.detach() for p in model.parameters()]
    adam = Adam(parameters, [p.grad for p in model.parameters() if p.grad is not None])
    best = [p.clone() for p in parameters]
    course = Course(schedule, description)
    epochs = bar(range(schedule.num_epochs), desc=description, unit="epoch")
    with threads.team(parameters[0].device) as team, torch.no_grad():
        for _ in epochs:
            for batch in batches(team):
                with team.step(len(batch[0])):
                    gradients(team, *batch)
                adam.step([course])
            if course.note(float(validation_loss(team))):  # the one wait for a GPU per epoch
                torch._foreach_copy_(best, parameters)
            if course.over:
                break
        torch._foreach_copy_(parameters, best)
    return course.fit()
