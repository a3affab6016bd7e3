"""Differential privacy in closed form: draws of a Gaussian per class that noisy sums give.

Each sum is one Gaussian mechanism (`noisy_sums`); the class means, the covariance and the number
of rows are computed from them (`src.networks.gaussians`). Neighbours differ by one person with all
their rows, or by one row. Public are the settings, the number of features, the classes and the
number of digits of n. Validation rows are not used.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from src.anonymizers.dp import analytic, budgets, keys, noisy_sums
from src.anonymizers.dp.contributions import Blocks
from src.anonymizers.settings import SumSettings
from src.core.devices import Resources
from src.core.provenance import versions
from src.database import EmbeddingSet
from src.networks.gaussians import Gaussians

ALGORITHM = 1  # raised where the same inputs give other numbers, so that those get other noise
ACCOUNTANT = "analytic Gaussian mechanism, composed exactly"


class Fit(NamedTuple):
    """The Gaussians and what a reader of their release should know (JSON values)."""

    sampler: Gaussians
    facts: dict[str, Any]


def fit(train: EmbeddingSet, settings: SumSettings, *, seed: int, resources: Resources) -> Fit:
    """Take the noisy sums within the budget.

    Raises:
        InputError: delta is not below 1/n, or the budget is out of reach.
        OutputError: the secret key cannot be written or read.
    """
    pixels = budgets.is_pixels(train)
    bound = settings.norm_bound(train.dim, pixels=pixels)
    rows = train.by(settings.unit)
    protects, count = budgets.protected(rows)
    delta = budgets.delta(settings, count, protects)
    shares = settings.shares(pixels=pixels)
    whole = analytic.noise_multiplier(settings.epsilon, delta)
    noise = {name: whole / math.sqrt(share) for name, share in shares.items()}
    key = keys.secret(resources.ckpt_folder)
    origin = {
        **keys.identity(rows),
        "settings": dataclasses.asdict(settings),
        "delta": delta,
        "bound": bound,
        "mechanisms": noise,
        "algorithm": [ALGORITHM, resources.device.type, versions()["torch"]],
    }
    generator = keys.generator(key, origin, seed=seed, device=resources.device)
    blocks = Blocks(rows, resources.device)
    sums, bounds = noisy_sums.take(blocks, len(train.class_names), noise, bound, generator)
    sampler = Gaussians(sums).to(resources.device)
    facts = {
        "epsilon": analytic.epsilon(analytic.composed(noise.values()), delta),
        "delta": delta,
        "neighbours": budgets.NEIGHBOURS[protects],
        "accountant": ACCOUNTANT,
        "budget": {name: _part(noise[name], shares[name], delta) for name in noise},
        "noise": keys.source(key, generator.device),
        "counts_are_of": f"{protects}s",
        "norm_bounds": bounds,
        "kept": kept(sampler),
        "validation_rows": "not used",
        "public": budgets.public_knowledge(protects),
        "not_covered": budgets.NOT_COVERED,
    }
    return Fit(sampler, facts)


def _part(noise_multiplier: float, share: float, delta: float) -> dict[str, float]:
    """What the facts say of a mechanism, whose sum is divided by the bound of a contribution."""
    return {
        "sensitivity": 1.0,
        "noise_multiplier": noise_multiplier,
        "share": share,
        "epsilon_alone": analytic.epsilon(noise_multiplier, delta),
    }


def kept(sampler: Gaussians) -> dict[str, Any]:
    """How much of the noisy sums the release is made of."""
    model = sampler.model
    return {
        "directions": model.kept_directions,
        "of_directions": sampler.dim,
        "variance_share": model.kept_variance,
        "class_means": model.kept_means.tolist(),
    }
