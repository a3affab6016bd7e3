"""What a release of private Gaussians promises, from its settings and the noise of its sums."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from src.anonymizers import methods
from src.anonymizers.dp import analytic, budgets, dpgaussian, noisy_sums
from src.bundle import privacy
from src.bundle.facts import Promise, number, require
from src.core.errors import DataError
from src.database import EmbeddingSet
from src.networks.gaussians import Gaussians

ROUNDED = 1e-6  # share by which machines may differ
EPSILON = "epsilon follows from the noise of all sums, and the noise of the decoder's is that"
PART = ("sensitivity", "noise_multiplier", "share", "epsilon_alone")


class Stated(NamedTuple):
    """What the facts of a release state and its settings do not contradict."""

    names: set[str]  # of the facts that were held against something
    noise: list[float]  # multipliers of the sums in a file, as `noisy_sums.OF_NOISE`
    radius: float


def promise(anonymizer: methods.DPGaussian, rows: EmbeddingSet, decoder: Gaussians) -> Promise:
    """The promise of a release whose sums' noise gives the ε that it states.

    Raises:
        DataError: its facts contradict its settings, its decoder or each other.
    """
    stated = checked(anonymizer, rows.meta, rows.dim)
    for name, ours, theirs in zip(
        noisy_sums.OF_NOISE, stated.noise, decoder.sums.noise.tolist(), strict=True
    ):
        require_near(f"{name} with noise", ours, theirs, "its decoder has")
    require_near("the radius", stated.radius, float(decoder.sums.radius))
    return privacy.sentences(rows, EPSILON, stated.names)


def checked(anonymizer: methods.DPGaussian, meta: Mapping[str, Any], dim: int) -> Stated:
    """What the facts in `meta` state, after they were held against the settings.

    Raises:
        DataError: they contradict the settings or each other.
    """
    facts = meta["facts"]
    expected = {"counts_are_of": f"{meta['unit']}s"}
    names = privacy.check_facts(anonymizer, meta, expected, re.escape(dpgaussian.ACCOUNTANT))
    pixels = meta.get("backbone") == budgets.PIXELS
    noise = _noise(facts, anonymizer.shares(pixels=pixels))
    require_near("epsilon", facts["epsilon"], _epsilon(noise.values(), facts["delta"]))
    bounds = facts.get("norm_bounds")
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise DataError(f"states norm_bounds {bounds!r:.80}, which are not two numbers")
    named = dict(zip(("bound", "radius"), bounds, strict=True))
    bound, radius = (number(named, name) for name in named)
    public = anonymizer.norm_bound(dim, pixels=pixels)
    if public is not None:
        require_near("a public norm", bound, public, "its settings give")
    names |= {"budget", "norm_bounds"}
    return Stated(names, [noise[name] for name in noisy_sums.OF_NOISE], radius)


def _noise(facts: Mapping[str, Any], shares: Mapping[str, float]) -> dict[str, float]:
    """The noise multiplier of each mechanism, from facts that agree with the settings' shares.

    Raises:
        DataError: they do not.
    """
    budget, delta = facts.get("budget"), facts["delta"]
    if not isinstance(budget, dict) or budget.keys() != shares.keys():
        raise DataError(f"has no budget of {', '.join(shares)}")
    noise = {}
    for name, part in budget.items():
        if not isinstance(part, dict) or part.keys() != {*PART}:
            raise DataError(f"has a budget whose part {name} has unknown or missing items")
        require(f"the sensitivity of {name}", part["sensitivity"], 1.0, "its bound gives")
        noise[name] = number(part, "noise_multiplier")
        if not privacy.NOISE[0] <= noise[name] <= privacy.NOISE[1]:
            raise DataError(f"states {name} with noise {noise[name]:g}, which no fit has")
        require_near(f"the share of {name}", number(part, "share"), shares[name], "its settings")
        alone = number(part, "epsilon_alone")
        require_near(f"epsilon of {name}", alone, _epsilon([noise[name]], delta))
    whole = analytic.composed(noise.values())
    for name, multiplier in noise.items():
        used = (whole / multiplier) ** 2
        require_near(f"the share of {name}", shares[name], used, "its noise gives")
    return noise


def _epsilon(multipliers: Any, delta: float) -> float:
    return analytic.epsilon(analytic.composed(multipliers), delta)


def require_near(
    name: str, stated: float, derived: float, source: str = "its mechanisms cost"
) -> None:
    """Raise DataError where a number is not what follows, up to what machines differ by."""
    if not math.isclose(stated, derived, rel_tol=ROUNDED):
        raise DataError(f"states {name} {stated:.6g}, but {source} {derived:.6g}")
