"""Conditional VAE with differential privacy: release draws of a decoder fitted with DP-SGD.

The stated (ε, δ) covers all that a release depends on in the training rows:

1. class counts: one Gaussian mechanism on the histogram of labels. Their sum stands for the number
   of rows wherever one is needed, so that not even that is taken as known;
2. the scaling of features: public bounds, or three Gaussian mechanisms (`sums.private_bounds`);
3. DP-SGD (Abadi et al., CCS 2016): Poisson samples, the gradient of each row clipped, a number of
   steps that is fixed beforehand, the accountant read after the last one.

Neighbouring datasets differ by one person with all their rows, or by one row where persons are not
known (or `--unit row`): a person contributes the mean of their rows to the first two, and one row
of theirs, drawn at random, to a step of the third. Public are the settings, the number of
features, the set of classes (their names in `meta`; the largest label only where it has none, or
too few) and the number of digits of n.
Validation rows are not used at all.

Why that holds for arbitrary rows: each mechanism adds its noise to a sum that one row changes by
at most the stated sensitivity, also where the row is huge, subnormal or not finite (`sums`,
`gradients`). All else is computed from the noisy sums. Whether a fit ends, how many steps it
takes and what it says depends on no row: what must be finite is made so by limits that are the
same for all rows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.anonymizers.dp import accounting, budgets, gradients, keys, sums
from src.anonymizers.dp.budgets import Budget
from src.anonymizers.dp.persons import Persons
from src.anonymizers.settings import PrivateSettings
from src.core import progress, seeding
from src.core.devices import Resources
from src.core.provenance import versions
from src.database import EmbeddingSet
from src.networks.cvae import CVAE, Decoder

CLASS_GAIN = 6.0  # on the decoder's initial class weights: noise then hides the class less
AVERAGE_DECAY = 0.98  # of the running mean of weights, which costs no privacy
LARGEST_WEIGHT = 1e4  # in size; no useful fit comes near, and finite rows are decoded below it
ALGORITHM = 2  # raised where the same inputs give other numbers, so that those get other noise


class Data(NamedTuple):
    """What a model is fitted to."""

    x: Tensor  # [n, D] in 0..1
    y: Tensor  # [n, C] one-hot
    persons: Persons | None = None

    def drawn(self, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The rows of a Poisson sample, or of each person in one a row that is as good as another.

        Whatever row it is, a person changes a sum over the sample by at most what one row does.
        """
        units = len(self.x) if self.persons is None else len(self.persons.first)
        precise = sums.wide(self.x.device)  # for chances far below float32's grid in 0..1

        def uniform() -> Tensor:
            return torch.rand(units, generator=generator, device=self.x.device, dtype=precise)

        drawn = uniform() < rate
        if self.persons is None:
            return self.x[drawn], self.y[drawn]
        rows, first, sizes, _ = self.persons
        one = torch.minimum((uniform() * sizes).long(), sizes - 1)
        picked = rows[(first + one)[drawn]]
        return self.x[picked], self.y[picked]


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
    train = train.by(settings.unit)
    protects, count = budgets.protected(train)
    delta = budgets.delta(settings, count, protects)
    bounds = public_bounds(train, settings)
    budget = budgets.allot(settings, delta, public=bounds is not None)
    key = keys.secret(resources.ckpt_folder)
    given = dataclasses.asdict(settings.for_fit())
    del given["unit"]  # whose the rows are says it
    origin = {
        **keys.identity(train),
        "settings": given,
        "delta": delta,
        "bounds": bounds,
        "mechanisms": budget.parts,
        "sensitivities": budgets.sensitivities(settings),
        "algorithm": [ALGORITHM, resources.device.type, versions()["torch"]],
    }
    generator = keys.generator(key, origin, seed=seed, device=resources.device)
    rows, labels = train.tensors(resources.device)
    y = F.one_hot(labels, len(train.class_names)).float()
    persons = Persons.of(train.persons, resources.device)
    weights = None if persons is None else persons.weights.float()
    counts = sums.noisy_sum(y, budget.counts.noise_multiplier, generator, weights)
    counts = counts.round().clamp(min=1)  # no class is empty, whatever the noise
    if bounds is None:
        assert budget.scaling is not None
        multiplier = budget.scaling.noise_multiplier
        number = float(counts.sum())
        low, high = sums.private_bounds(rows, number, multiplier, generator, weights)
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
    x = model.scale(rows).clamp(0, 1).nan_to_num(nan=0)  # ∞ / ∞, of a row that is not finite
    model, spent = _train(model, Data(x, y, persons), settings, budget, generator)
    facts = budgets.facts(settings, budget, spent, delta, bounds, protects)
    facts["noise"] = keys.source(key, generator.device)
    return PrivateFit(model.decoder.eval().requires_grad_(False), facts)


def public_bounds(train: EmbeddingSet, settings: PrivateSettings) -> tuple[float, float] | None:
    """The bounds of all features, where they are known without looking at rows."""
    if settings.feature_min is not None and settings.feature_max is not None:
        return settings.feature_min, settings.feature_max
    return (0.0, 1.0) if budgets.is_pixels(train) else None


def _train(
    model: CVAE,
    data: Data,
    settings: PrivateSettings,
    budget: Budget,
    generator: torch.Generator,
) -> tuple[CVAE, Any]:
    """DP-SGD → the mean of the last weights, the accountant.

    Sums of gradients are divided by the expected batch size, sampling rate · noisy number of rows
    (persons), whatever the size of a sample, which may be 0. Weights that noise alone has driven
    far out are limited, so that what is decoded is finite.

    Args:
        model: its decoder's class weights are the noisy counts.
    """
    multiplier, rate, steps = budget.gradients
    unit = settings.max_grad_norm / (rate * float(model.decoder.class_weights.sum()))
    with torch.no_grad():
        first = next(model.decoder.parameters())  # [hidden, latent + C]
        first[:, settings.latent_dim :] *= CLASS_GAIN
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    spent = accounting.accountant((budget.counts, *filter(None, [budget.scaling])))
    for _ in progress.bar(range(steps), desc="DP-CVAE", unit="step"):
        x, y = data.drawn(rate, generator)
        losses = functools.partial(_losses, model, x, y, settings, generator)
        clipped = gradients.clipped_sum(model, losses, settings.max_grad_norm)
        for weights in model.parameters():
            weights.grad = unit * sums.add_noise(clipped[weights], multiplier, generator)
        spent.step(noise_multiplier=multiplier, sample_rate=rate)
        optimizer.step()
        with torch.no_grad():
            for weights in model.parameters():
                weights.clamp_(-LARGEST_WEIGHT, LARGEST_WEIGHT)
        averaged.update_parameters(model)
    mean: CVAE = averaged.module  # type: ignore[assignment]
    return mean, spent


def _losses(
    model: CVAE, x: Tensor, y: Tensor, settings: PrivateSettings, generator: torch.Generator
) -> Tensor:
    """The objective of each row [m] with fresh latent noise."""
    noise = torch.randn(len(x), settings.latent_dim, generator=generator, device=x.device)
    kl_weight, prior_variance = settings.kl_weight, settings.prior_variance
    return model.loss_rows(x, y, noise, kl_weight=kl_weight, prior_variance=prior_variance)
