"""What a release promises, derived from its settings, facts, rows and decoder.

Whoever makes a bundle can write anything into it. So nothing is taken from a datasheet that can
be computed: its sentences follow from here, and numbers that contradict each other are refused.
What only the originals could show is named as stated.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer, Sampled
from src.anonymizers.dp import accounting, budgets, keys
from src.anonymizers.dp.accounting import Mechanism
from src.anonymizers.dp.dpcvae import PIXELS
from src.core.errors import DataError
from src.database import EmbeddingSet
from src.networks.cvae import Decoder

FACTS = ("epsilon", "delta", "neighbours", "accountant", "noise")  # that a guarantee states
NEIGHBOURS = "one row added or removed"
PARTS = ("class_counts", "scaling", "gradients")  # of a budget
DEVICES = ("cpu", "cuda")  # whose noise depends on all bits of the key, and on 64
NOISE = (0.01, 1e12)  # multipliers, wider than any fit has them
ROUNDED = 1e-3  # share of ε by which machines may differ
EPSILON = "epsilon follows from the noise, sampling rate and steps of all mechanisms"
NONE = "None. How much the release gives away can be measured, but nothing bounds it."


class Promise(NamedTuple):
    """What is guaranteed, what of it a bundle shows, and what it can only state."""

    guarantee: str
    shown: list[str]
    stated: list[str]


def derive(anonymizer: Anonymizer, rows: EmbeddingSet, decoder: Decoder | None) -> Promise:
    """The promise of a release that this anonymizer made.

    Args:
        rows: the released rows, with the facts of their fit in `meta`.

    Raises:
        DataError: facts, rows and decoder contradict each other or the settings.
    """
    facts = rows.meta.get("facts")
    if not isinstance(facts, dict):
        raise DataError("has no facts of the release")
    if not _is_ordered(rows):
        raise DataError(
            "has rows in another order than a release's: by label, then by value; run "
            "anonymize.py again"
        )
    if isinstance(anonymizer, Sampled):
        if decoder is None:
            raise DataError("has no decoder, but its rows were drawn from one")
        _check_decoder(anonymizer, rows, decoder)
        if isinstance(anonymizer, methods.DPCVAE):
            return _private(anonymizer, rows, decoder)
        shown = ["each class has as many rows as the decoder counts"]
        return Promise(NONE, shown, ["that this decoder drew the rows", *_facts(facts)])
    if decoder is not None:
        raise DataError("has a decoder, but its rows were not drawn from one")
    if isinstance(anonymizer, methods.KSame):
        return _ksame(anonymizer, rows)
    if isinstance(anonymizer, methods.LatentKSame | methods.LatentLinear | methods.Plan):
        return _latent(anonymizer, rows)
    if anonymizer.private:
        raise DataError(f"was made by {anonymizer.name}, whose guarantee cannot be checked")
    return Promise(NONE, [], _facts(facts))


def _is_ordered(rows: EmbeddingSet) -> bool:
    """Whether rows are sorted by label, then by their values, as `base.ordered` leaves them."""
    above, below = rows.embeddings[:-1], rows.embeddings[1:]
    pairs, feature = np.arange(len(above)), (above != below).argmax(1)  # the first that differs
    rises = above[pairs, feature] <= below[pairs, feature]
    step = np.diff(rows.labels)
    return bool(((step > 0) | ((step == 0) & rises)).all())


def _facts(facts: Mapping[str, Any], *checked: str) -> list[str]:
    """The facts that nothing was compared with."""
    return [f"fact: {name}" for name in sorted(facts.keys() - {*checked})]


def _require(name: str, stated: object, derived: object, source: str) -> None:
    if type(stated) is not type(derived) or stated != derived:
        raise DataError(f"states {name} {stated!r:.80}, but {source} {derived!r:.80}")


def _ksame(anonymizer: methods.KSame, rows: EmbeddingSet) -> Promise:
    """The promise of k-Same, whose rows must occur k times.

    Raises:
        DataError: they do not.
    """
    k, facts = anonymizer.k, rows.meta["facts"]
    labels = rows.labels if anonymizer.per_class else np.zeros_like(rows.labels)
    pairs = zip(labels.tolist(), rows.embeddings, strict=True)
    occurs = Counter((label, row.tobytes()) for label, row in pairs)
    odd = [count for count in occurs.values() if count % k]
    if odd:
        raise DataError(
            f"states k = {k}, but a released row occurs {odd[0]} times, no multiple of it"
        )
    _require("groups", facts.get("groups"), len(rows) // k, "its rows make")
    if "dropped_by_class" in facts:
        dropped = sum(facts["dropped_by_class"].values())
        _require("dropped_rows", facts.get("dropped_rows"), dropped, "its classes give")
    where = " within its class" if anonymizer.per_class else ""
    return Promise(
        _merged(k, "row is an average"),
        [f"each released row occurs {k} times or a multiple of that{where}"],
        [f"that each is the mean of {k} real rows", *_facts(facts, "groups")],
    )


def _latent(
    anonymizer: methods.LatentKSame | methods.LatentLinear | methods.Plan, rows: EmbeddingSet
) -> Promise:
    """The promise of a release from a latent space.

    Raises:
        DataError: its rows are not as many as its groups or paths give.
    """
    k, facts = anonymizer.k, rows.meta["facts"]
    if isinstance(anonymizer, methods.LatentKSame):
        name, made, how = "groups", len(rows), "the groups"
    else:
        between = anonymizer.path_points - 2
        counts = np.bincount(rows.labels).tolist()
        name, made, how = "paths", sum(-(-n // between) for n in counts), "the paths"
    _require(name, facts.get(name), made, "its rows make")
    return Promise(
        f"{_merged(k, 'row is decoded from averages')} The decoder was fitted to all training "
        "rows.",
        [f"there are as many rows as {how} give"],
        [f"that the averages are of {k} real rows", *_facts(facts, name)],
    )


def _merged(k: int, how: str) -> str:
    return (
        f"No differential privacy. Groups of {k} real rows are merged: a released {how} of {k} "
        "rows, which may all be of one person; who knows the others of a group learns about the "
        "last one."
    )


def _check_decoder(anonymizer: Sampled, rows: EmbeddingSet, decoder: Decoder) -> None:
    """Raise DataError where a decoder is not one of these settings that counted these rows."""
    if len(decoder.minimum) != rows.dim:
        raise DataError("goes with a decoder of other dimensions than the rows")
    if decoder.num_classes < rows.num_classes:
        raise DataError("goes with a decoder of fewer classes than the rows")
    counts = np.bincount(rows.labels, minlength=decoder.num_classes)
    if decoder.class_weights.long().tolist() != counts.tolist():
        raise DataError("goes with a decoder that counts other rows of a class than there are")
    assert isinstance(anonymizer, methods.CVAE | methods.DPCVAE)
    if isinstance(anonymizer, methods.DPCVAE):
        noise = anonymizer.observation_std
    else:
        noise = anonymizer.observation_noise
    hidden = decoder.layers[0]
    assert isinstance(hidden, torch.nn.Linear)
    _require("hidden_dim", anonymizer.hidden_dim, hidden.out_features, "its decoder has")
    _require("latent_dim", anonymizer.latent_dim, decoder.latent_dim, "its decoder has")
    _require("the noise on rows", noise, decoder.observation_noise, "its decoder has")


# Differential privacy.


def _private(anonymizer: methods.DPCVAE, rows: EmbeddingSet, decoder: Decoder) -> Promise:
    """The promise of a private release, whose ε `check_epsilon` computes again.

    Raises:
        DataError: its facts are not those of its settings.
    """
    facts = rows.meta["facts"]
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise DataError(f"states no guarantee: '{missing[0]}' is missing")
    expected = {
        "neighbours": NEIGHBOURS,
        "sampling_rate": anonymizer.sampling_rate,
        "steps": max(1, round(anonymizer.epochs / anonymizer.sampling_rate)),
        "max_grad_norm": anonymizer.max_grad_norm,
        "validation_rows": "not used",
        "public": budgets.PUBLIC,
        "not_covered": budgets.NOT_COVERED,
        **({} if anonymizer.delta is None else {"delta": anonymizer.delta}),
    }
    for name, value in expected.items():
        _require(name, facts.get(name), value, "its settings give")
    epsilon, delta = _number(facts, "epsilon"), _number(facts, "delta")
    if epsilon > anonymizer.epsilon:
        raise DataError(f"states epsilon {epsilon}, more than the {anonymizer.epsilon} allowed")
    if delta >= 1 or (anonymizer.delta is None and delta != 10.0 ** round(math.log10(delta))):
        raise DataError(f"states delta {delta}, which is no power of ten below 1")
    if not re.fullmatch(
        re.escape(accounting.ACCOUNTANT) + r" \(opacus [\w.+]{1,40}\)", str(facts["accountant"])
    ):
        raise DataError(f"states an unknown accountant: {facts['accountant']!r:.80}")
    sources = [keys.source(key, torch.device(kind)) for key in ("", "x") for kind in DEVICES]
    if facts["noise"] not in sources:
        raise DataError(f"states an unknown source of noise: {facts['noise']!r:.80}")
    mechanisms(anonymizer, rows)
    _check_bounds(anonymizer, rows, decoder)
    return Promise(
        f"({math.ceil(1e4 * epsilon) / 1e4:g}, {delta:g})-differential privacy of the training "
        f"rows (neighbours: {facts['neighbours']}; accountant: {facts['accountant']}; "
        f"noise from {facts['noise']}). Other releases made from the same rows add up with it.",
        [
            EPSILON,
            "each class has as many rows as the decoder counts",
        ],
        [
            "that the noise was drawn as stated, with a key that stays secret",
            "that delta is below 1 / (training rows)",
            "that this decoder drew the rows",
            *_facts(facts, *FACTS, *expected, "noise_multiplier", "budget"),
        ],
    )


def _number(facts: Mapping[str, Any], name: str) -> float:
    """A fact that is a number above 0.

    Raises:
        DataError: it is not.
    """
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DataError(f"states {name} {value!r:.80}, which is no number above 0")
    return float(value)


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
    public = given or rows.meta.get("backbone") == PIXELS
    if public:
        bounds = [anonymizer.feature_min, anonymizer.feature_max] if given else [0.0, 1.0]
        _require("public_bounds", budget["scaling"].get("public_bounds"), bounds, "they are")
    elif "public_bounds" in budget["scaling"]:
        raise DataError("states public bounds of features, which its settings do not have")
    noise = {
        name: _number(budget[name], "noise_multiplier")
        for name in PARTS
        if not (public and name == "scaling")
    }
    _require("noise_multiplier", facts.get("noise_multiplier"), noise["gradients"], "its budget")
    for name, value in noise.items():
        if not NOISE[0] <= value <= NOISE[1]:
            raise DataError(f"states {name} with noise {value:g}, which no fit has")
    gradients = Mechanism(noise.pop("gradients"), facts["sampling_rate"], facts["steps"])
    steps = {"class_counts": 1, "scaling": budgets.SCALING_QUERIES}
    made = {name: Mechanism(value, steps=steps[name]) for name, value in noise.items()}
    return {**made, "gradients": gradients}


def _check_bounds(anonymizer: methods.DPCVAE, rows: EmbeddingSet, decoder: Decoder) -> None:
    """Raise DataError where bounds that are public are not those of the decoder."""
    bounds = rows.meta["facts"]["budget"]["scaling"].get("public_bounds")
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
        alone = _number(facts["budget"][name], "epsilon_alone")
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
