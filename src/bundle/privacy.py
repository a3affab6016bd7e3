"""What a differentially private release promises, from its settings and the noise it states."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from src.anonymizers import methods
from src.anonymizers.dp import accounting, budgets, keys
from src.anonymizers.dp.accounting import Mechanism
from src.bundle.facts import Promise, number, require, unchecked
from src.core.errors import DataError
from src.database import EmbeddingSet
from src.networks.cvae import Decoder

FACTS = ("epsilon", "delta", "neighbours", "accountant", "noise")  # that a guarantee states
PARTS = ("class_counts", "scaling", "gradients")  # of a budget
BOUNDS = "public_bounds"
DEVICES = ("cpu", "cuda")  # whose noise depends on all bits of the key, and on 64
NOISE = (0.01, 1e12)  # multipliers, wider than any fit has them
ROUNDED = 1e-3  # share of ε by which machines may differ
ACCOUNTANT = re.escape(accounting.ACCOUNTANT) + r" \(opacus [\w.+]{1,40}\)"
COUNTED = "each class has as many rows as the decoder counts"
EPSILON = "epsilon follows from the noise, sampling rate and steps of all mechanisms"


def promise(anonymizer: methods.DPCVAE, rows: EmbeddingSet, decoder: Decoder) -> Promise:
    """The promise of a private release, whose ε `check_epsilon` computes again.

    Raises:
        DataError: its facts contradict its settings or its decoder.
    """
    expected = {
        "sampling_rate": anonymizer.sampling_rate,
        "steps": max(1, round(anonymizer.epochs / anonymizer.sampling_rate)),
        "max_grad_norm": anonymizer.max_grad_norm,
    }
    checked = check_facts(anonymizer, rows.meta, expected, ACCOUNTANT)
    mechanisms(anonymizer, rows)
    _check_bounds(rows, decoder)
    return sentences(rows, EPSILON, {*checked, "noise_multiplier", "budget"})


def sentences(rows: EmbeddingSet, epsilon: str, checked: set[str]) -> Promise:
    """The promise that facts state, which were checked.

    Args:
        epsilon: from what ε follows.
        checked: the names of facts that were held against something.
    """
    facts, unit = rows.meta["facts"], rows.meta["unit"]
    return Promise(
        f"({rounded_up(facts['epsilon'])}, {facts['delta']:g})-differential privacy of the "
        f"training {unit}s (neighbours: {facts['neighbours']}; accountant: "
        f"{facts['accountant']}; noise from {facts['noise']}). Other releases made from the same "
        f"{unit}s add up with it.",
        [epsilon, COUNTED],
        [*unshown(unit), *unchecked(facts, *checked)],
    )


def rounded_up(epsilon: float) -> str:
    """ε with four decimals, never less than it is."""
    return f"{math.ceil(1e4 * epsilon) / 1e4:g}"


def unshown(unit: str) -> list[str]:
    """What of a guarantee to this unit no file can show."""
    return [
        "that the noise was drawn as stated, with a key that stays secret",
        f"that delta is below 1 / (training {unit}s)",
        "that this decoder drew the rows",
    ]


def check_facts(
    anonymizer: methods.DPCVAE | methods.DPGaussian,
    meta: Mapping[str, Any],
    more: Mapping[str, object],
    accountant: str,
) -> set[str]:
    """Hold what a guarantee states against the settings; return the names of these facts.

    Args:
        meta: of the released rows.
        more: facts of this method that its settings give.
        accountant: a pattern.

    Raises:
        DataError: one is missing or says something else.
    """
    facts, unit = meta["facts"], meta["unit"]
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise DataError(f"states no guarantee: '{missing[0]}' is missing")
    expected = {
        "neighbours": budgets.NEIGHBOURS[unit],
        **more,
        "validation_rows": "not used",
        "public": budgets.public_knowledge(unit),
        "not_covered": budgets.NOT_COVERED,
        **({} if anonymizer.delta is None else {"delta": anonymizer.delta}),
    }
    for name, value in expected.items():
        require(name, facts.get(name), value, "its settings give")
    epsilon, delta = number(facts, "epsilon"), number(facts, "delta")
    if epsilon > anonymizer.epsilon:
        raise DataError(f"states epsilon {epsilon}, more than the {anonymizer.epsilon} allowed")
    if delta >= 1 or (anonymizer.delta is None and delta != 10.0 ** round(math.log10(delta))):
        raise DataError(f"states delta {delta}, which is not a power of ten below 1")
    if not re.fullmatch(accountant, str(facts["accountant"])):
        raise DataError(f"states an unknown accountant: {facts['accountant']!r:.80}")
    sources = [keys.source(key, torch.device(kind)) for key in ("", "x") for kind in DEVICES]
    if facts["noise"] not in sources:
        raise DataError(f"states an unknown source of noise: {facts['noise']!r:.80}")
    return {*FACTS, *expected}


def mechanisms(anonymizer: methods.DPCVAE, rows: EmbeddingSet) -> dict[str, Mechanism]:
    """The mechanisms of a private fit by name, from the noise that its facts state.

    Raises:
        DataError: they are not those of such a fit.
    """
    facts = rows.meta["facts"]
    budget = facts.get("budget")
    if not isinstance(budget, dict) or budget.keys() != {*PARTS}:
        raise DataError(f"has no budget of {', '.join(PARTS)}")
    if not all(isinstance(part, dict) for part in budget.values()):
        raise DataError("has a budget whose parts are not described")
    given = anonymizer.feature_min is not None
    public = given or rows.meta.get("backbone") == budgets.PIXELS
    if public:
        bounds = [anonymizer.feature_min, anonymizer.feature_max] if given else [0.0, 1.0]
        require(BOUNDS, budget["scaling"].get(BOUNDS), bounds, "they are")
    elif BOUNDS in budget["scaling"]:
        raise DataError("states public bounds of features, which its settings do not have")
    noisy = [name for name in PARTS if not (public and name == "scaling")]
    for name, part in budget.items():
        if part.keys() != ({"noise_multiplier", "epsilon_alone"} if name in noisy else {BOUNDS}):
            raise DataError(f"has a budget whose part {name} has unknown or missing items")
    noise = {name: number(budget[name], "noise_multiplier") for name in noisy}
    require("noise_multiplier", facts.get("noise_multiplier"), noise["gradients"], "its budget")
    for name, value in noise.items():
        if not NOISE[0] <= value <= NOISE[1]:
            raise DataError(f"states {name} with noise {value:g}, which no fit has")
    gradients = Mechanism(noise.pop("gradients"), facts["sampling_rate"], facts["steps"])
    steps = {"class_counts": 1, "scaling": budgets.SCALING_QUERIES}
    made = {name: Mechanism(value, steps=steps[name]) for name, value in noise.items()}
    return {**made, "gradients": gradients}


def _check_bounds(rows: EmbeddingSet, decoder: Decoder) -> None:
    """Raise DataError where bounds that are public are not those of the decoder."""
    bounds = rows.meta["facts"]["budget"]["scaling"].get(BOUNDS)
    if bounds is not None:
        low, high = (torch.full_like(decoder.minimum, bound) for bound in bounds)
        if not (torch.equal(decoder.minimum, low) and torch.equal(decoder.extent, high - low)):
            raise DataError(f"states public bounds {bounds}, but its decoder has others")
    if not torch.equal(decoder.noise_scale, decoder.extent):
        raise DataError("goes with a decoder whose noise is not a share of its range")


def check_epsilon(anonymizer: methods.DPCVAE, rows: EmbeddingSet) -> None:
    """Compute what the stated mechanisms cost, all together and each alone.

    Raises:
        DataError: the facts state other costs.
        MissingPackageError: opacus is not installed.
    """
    facts = rows.meta["facts"]
    error, delta = accounting.tolerance(anonymizer.epsilon), facts["delta"]
    parts = mechanisms(anonymizer, rows)
    whole = tuple(parts.values())
    sums = {"epsilon": (facts["epsilon"], whole)}
    for name, mechanism in parts.items():
        alone = number(facts["budget"][name], "epsilon_alone")
        sums[f"epsilon of {name}"] = alone, (mechanism,)
    for name, (stated, included) in sums.items():
        computed = min(_epsilon(part, delta, error) for part in (included, whole))
        if not abs(computed - stated) <= ROUNDED * computed:
            raise DataError(
                f"the bundle states {name} {stated:.6g}, but its mechanisms cost {computed:.6g} "
                f"at delta {delta:g}"
            )


@functools.cache
def _epsilon(included: tuple[Mechanism, ...], delta: float, error: float) -> float:
    return accounting.epsilon(accounting.accountant(included), delta, eps_error=error)
