"""Conditional VAE with differential privacy: release draws of a decoder fitted with DP-SGD.

The stated (ε, δ) covers all that a release depends on in the training rows:

1. class counts: one Gaussian mechanism on the histogram of labels. Their sum stands for the number
   of rows wherever one is needed, so that not even that is taken as known;
2. the scaling of features: public bounds, or three Gaussian mechanisms (`sums.private_bounds`);
3. DP-SGD (Abadi et al., CCS 2016): Poisson samples, the gradient of each row clipped, a number of
   steps that is fixed beforehand, the accountant read after the last one.

Neighbouring datasets differ by one row, added or removed. Public are the settings, the number
of features, the set of classes (their names in `meta`; the largest label only where it has none,
or too few) and, only where delta is not given, the number of digits of n.
Validation rows are not used at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.anonymizers.dp import accounting, budgets, keys, sums
from src.anonymizers.dp.accounting import Mechanism
from src.anonymizers.dp.budgets import Budget
from src.anonymizers.settings import PrivateSettings
from src.core import progress, seeding
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet
from src.networks.cvae import CVAE, Decoder

PIXELS = "pixels"  # the backbone whose features are between 0 and 1 by definition
CLASS_GAIN = 6.0  # on the decoder's initial class weights: noise then hides the class less
AVERAGE_DECAY = 0.98  # of the running mean of weights, which costs no privacy


class PrivateFit(NamedTuple):
    """A fitted, frozen decoder and what a reader of its release should know (JSON values)."""

    decoder: Decoder
    facts: dict[str, Any]


def fit(
    train: EmbeddingSet, settings: PrivateSettings, *, seed: int, resources: Resources
) -> PrivateFit:
    """Fit the model within the budget.

    Raises:
        InputError: delta is not below 1/n, or the budget is out of reach.
        MissingPackageError: opacus is not installed.
        OutputError: the secret key cannot be written or read.
    """
    delta = budgets.delta(settings, len(train))
    bounds = public_bounds(train, settings)
    budget = budgets.allot(settings, delta, public=bounds is not None)
    key = keys.secret(resources.ckpt_folder)
    generator = keys.generator(key, train, settings, seed, resources.device)
    rows = torch.from_numpy(train.embeddings).to(resources.device)
    labels = torch.from_numpy(train.labels).to(resources.device)
    classes = len(train.class_names)  # not by the largest label: it is private
    y = F.one_hot(labels, classes).float()

    counts = sums.noisy_sum(y, budget.counts.noise_multiplier, generator)
    counts = counts.round().clamp(min=1)  # no class is empty, whatever the noise
    if bounds is None:
        assert budget.scaling is not None
        multiplier = budget.scaling.noise_multiplier
        low, high = sums.private_bounds(rows, float(counts.sum()), multiplier, generator)
    else:
        low, high = (torch.full_like(rows[0], bound) for bound in bounds)
    with seeding.global_seed(seed, "cvae/init"):
        model = CVAE(rows.shape[1], y.shape[1], settings.hidden_dim, settings.latent_dim)
    model.to(resources.device)
    model.decoder.minimum.copy_(low)
    model.decoder.extent.copy_(high - low)
    model.decoder.class_weights.copy_(counts)
    model.decoder.noise_scale.copy_(high - low)
    model.decoder.variance = settings.variance
    model.decoder.observation_noise = settings.observation_std
    x = model.scale(rows).clamp(0, 1)
    model, spent = _train(model, x, y, settings, budget, generator)
    noise = keys.source(key, generator.device)
    facts = budgets.facts(settings, budget, spent, delta, bounds, noise)
    return PrivateFit(model.decoder.eval().requires_grad_(False), facts)


def public_bounds(train: EmbeddingSet, settings: PrivateSettings) -> tuple[float, float] | None:
    """The bounds of all features, where they are known without looking at rows."""
    if settings.feature_min is not None and settings.feature_max is not None:
        return settings.feature_min, settings.feature_max
    return (0.0, 1.0) if train.meta.get("backbone") == PIXELS else None


def _train(
    model: CVAE,
    x: Tensor,
    y: Tensor,
    settings: PrivateSettings,
    budget: Budget,
    generator: torch.Generator,
) -> tuple[CVAE, Any]:
    """DP-SGD on x [n, D] in 0..1, y [n, C] → the mean of the last weights, the accountant.

    Sums of gradients are divided by the expected batch size, sampling rate · noisy number of rows,
    whatever the size of a sample, which may be 0.

    Args:
        model: its decoder's class weights are the noisy counts.

    Raises:
        InputError: training diverged.
    """
    _, rate, steps = budget.gradients
    with torch.no_grad():
        first = next(model.decoder.parameters())  # [hidden, latent + C]
        first[:, settings.latent_dim :] *= CLASS_GAIN
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    backward, optimizer = _private_steps(model, settings, budget.gradients, generator)
    spent = accounting.accountant((budget.counts, *filter(None, [budget.scaling])))
    optimizer.attach_step_hook(spent.get_optimizer_hook_fn(rate))
    for _ in progress.bar(range(steps), desc="DP-CVAE", unit="step"):
        drawn = torch.rand(len(x), generator=generator, device=x.device) < rate
        backward(_losses(model, x[drawn], y[drawn], settings, generator))
        optimizer.step()
        averaged.update_parameters(model)
    mean: CVAE = averaged.module  # type: ignore[assignment]
    if not all(bool(weights.isfinite().all()) for weights in mean.parameters()):
        raise InputError(
            f"DP-CVAE diverged; a smaller --learning_rate than {settings.learning_rate:g} may help"
        )
    return mean, spent


def _private_steps(
    model: CVAE, settings: PrivateSettings, gradients: Mechanism, generator: torch.Generator
) -> tuple[Callable[[Tensor], None], Any]:
    """A backward pass for losses of rows [m] that clips each row's gradient, and its optimizer.

    Ghost clipping (Li et al., ICLR 2022): one pass for the norm of each row's gradient, one for
    the clipped sum, so that no row's gradient is ever held.
    """
    ghost = accounting.opacus("utils.fast_gradient_clipping_utils")
    clipped = ghost.GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=settings.max_grad_norm
    )
    optimizer = ghost.DPOptimizerFastGradientClipping(
        torch.optim.Adam(model.parameters(), lr=settings.learning_rate),
        noise_multiplier=gradients.noise_multiplier,
        max_grad_norm=settings.max_grad_norm,
        expected_batch_size=gradients.sampling_rate * float(model.decoder.class_weights.sum()),
        generator=generator,
    )

    def backward(losses: Tensor) -> None:
        ghost.DPTensorFastGradientClipping(clipped, optimizer, losses, "sum").backward()

    return backward, optimizer


def _losses(
    model: CVAE, x: Tensor, y: Tensor, settings: PrivateSettings, generator: torch.Generator
) -> Tensor:
    """The objective of each row [m] with fresh latent noise."""
    noise = torch.randn(len(x), settings.latent_dim, generator=generator, device=x.device)
    kl_weight, prior_variance = settings.kl_weight, settings.prior_variance
    x.requires_grad_()  # unused, but torch warns where hooks on gradients meet inputs without
    return model.loss_rows(x, y, noise, kl_weight=kl_weight, prior_variance=prior_variance)
