"""Latent walks: paths between latent points that keep clear of every identity.

Pennisi et al., *A Privacy-Preserving Walk in the Latent Space of Generative Models for Medical
Applications*, MICCAI 2023 (arXiv 2307.02984), "PLAN". Nothing here knows what the latents are of:
`walk` needs a differentiable generator and two classifiers, each any callable, so an image GAN's
synthesis network serves as well as this project's decoder of embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core import progress
from src.core.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm


class Networks(NamedTuple):
    """The three frozen networks of a walk, in evaluation mode; N points are N independent rows."""

    generate: Callable[[Tensor, Tensor], Tensor]  # latents (N, Z), labels (N,) → N samples
    identify: Callable[[Tensor], Tensor]  # N samples → logits (N, identities)
    classify: Callable[[Tensor], Tensor]  # N samples → logits (N, C)


class PathLosses(NamedTuple):
    """The three losses of each path, (P,) each."""

    privacy: Tensor
    equidistance: Tensor
    task: Tensor


def linear(starts: Tensor, ends: Tensor, num_points: int) -> Tensor:
    """Evenly spaced points of the straight lines, (P, Z) and (P, Z) → (P, T, Z)."""
    share = torch.linspace(0, 1, num_points, dtype=starts.dtype, device=starts.device)
    return torch.lerp(starts[:, None], ends[:, None], share[None, :, None])


def privacy_loss(logits: Tensor) -> Tensor:
    """KL(uniform ‖ softmax) of each point in nats: logits (..., identities) → (...).

    Zero where all identities are equally likely; with m identities −log m − mean(log softmax).
    """
    return -logits.log_softmax(-1).mean(-1) - math.log(logits.shape[-1])


def equidistance_loss(paths: Tensor) -> Tensor:
    """Sum of squared distances of consecutive points, end points included: (P, T, Z) → (P,).

    Least for the straight, evenly spaced line, where it is length² / (T − 1).
    """
    return paths.diff(dim=1).square().sum(-1).sum(-1)


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each point in nats: logits (N, C), labels (N,) → (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def path_losses(paths: Tensor, labels: Tensor, networks: Networks) -> PathLosses:
    """The losses of each path (P, T, Z), T ≥ 3, whose points have the labels (P,).

    The classifiers' losses are means over the T − 2 points that can move. (The paper's released
    code adds up means over chunks of four points instead, so that these two terms grow with T
    against the third and every T needs other weights.)
    """
    inner = paths[:, 1:-1]
    count, points, _ = inner.shape
    each = labels.repeat_interleave(points)
    samples = networks.generate(inner.flatten(0, 1), each)
    privacy = privacy_loss(networks.identify(samples))
    task = task_loss(networks.classify(samples), each)
    return PathLosses(
        privacy.view(count, points).mean(1),
        equidistance_loss(paths),
        task.view(count, points).mean(1),
    )


def walk(  # noqa: PLR0913 - each argument is one of the paper's
    starts: Tensor,
    ends: Tensor,
    labels: Tensor,
    networks: Networks,
    *,
    num_points: int = 10,
    steps: int = 500,
    lr: float = 0.1,
    privacy_weight: float = 1.0,
    equidistance_weight: float = 1.0,
    task_weight: float = 1.0,
    batch_paths: int | None = None,
) -> Tensor:
    """Optimise paths from `starts` to `ends` that stay private, evenly spaced and in their class.

    Each path minimises privacy_weight · L_privacy + equidistance_weight · L_equidistance +
    task_weight · L_class (the paper's objective) with Adam from the straight line; its end points
    stay. Paths do not influence each other: gradients are those of the sum over paths, and
    Adam works element by element, so weights and rate mean the same for any number of paths.
    The networks' own gradients are left alone.

    Args:
        starts: (P, Z) one end of each path.
        ends: (P, Z) the other end.
        labels: (P,) int64, the class of every point of a path.
        num_points: T, points of a path, both ends included.
        steps: optimisation steps.
        lr: Adam's learning rate, in units of the latents.
        batch_paths: most paths optimised at once, to bound memory; None: all.

    Returns:
        (P, T, Z), without gradient; [:, 0] are the starts and [:, -1] the ends.

    Raises:
        InputError: shapes that do not fit, or fewer than two points per path.
    """
    if starts.ndim != 2 or starts.shape != ends.shape or labels.shape != starts.shape[:1]:
        raise InputError(
            "paths need starts (P, Z), ends (P, Z) and labels (P,), not "
            f"{tuple(starts.shape)}, {tuple(ends.shape)} and {tuple(labels.shape)}"
        )
    if num_points < 2:
        raise InputError(f"a path needs at least 2 points, its ends, not {num_points}")
    lines = linear(starts.detach(), ends.detach(), num_points)
    if num_points == 2 or not len(lines):
        return lines
    weights = (privacy_weight, equidistance_weight, task_weight)
    size = batch_paths or len(lines)
    batches = list(zip(torch.split(lines, size), torch.split(labels, size), strict=True))
    with progress.bar(total=len(batches) * steps, desc="paths", unit="step") as bar:
        walked = []
        for part, own in batches:
            loss = partial(_total, labels=own, networks=networks, weights=weights)
            walked.append(_walk(part, loss, steps, lr, bar))
    return torch.cat(walked)


def _walk(
    lines: Tensor, loss: Callable[[Tensor], Tensor], steps: int, lr: float, bar: tqdm[NoReturn]
) -> Tensor:
    """Lower the loss of one batch of paths, (P, T, Z) → (P, T, Z); their ends stay."""
    start, inner, end = lines[:, :1], lines[:, 1:-1].clone().requires_grad_(), lines[:, -1:]
    optimizer = torch.optim.Adam([inner], lr=lr, betas=(0.9, 0.999))
    for _ in range(steps):
        (inner.grad,) = torch.autograd.grad(loss(torch.cat([start, inner, end], 1)), inner)
        optimizer.step()
        bar.update()
    return torch.cat([start, inner.detach(), end], 1)


def _total(
    paths: Tensor, labels: Tensor, networks: Networks, weights: tuple[float, float, float]
) -> Tensor:
    """The weighted losses of paths (P, T, Z), summed over the paths."""
    losses = path_losses(paths, labels, networks)
    return torch.stack([w * x.sum() for w, x in zip(weights, losses, strict=True)]).sum()
