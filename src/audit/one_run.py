"""What one fit proves: a lower bound on ε from rows that were put into training at random.

Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run" (NeurIPS 2023). Each of m
candidates is put into training independently with probability 1/2, before the fit. Whoever sees
the release then guesses who is in. If fitting is (ε, δ)-differentially private, few guesses can
be right; so many right ones show that ε is larger. No test split takes part: what differs between
train and test can neither hide a leak nor look like one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from src.anonymizers.base import Anonymizer
from src.audit import attacks, canaries, density, promises, units
from src.audit.scenarios import random_stream
from src.audit.settings import OneRunSettings
from src.audit.shadows import Maker
from src.audit.summary import Summary
from src.audit.tables import Guarantee
from src.core import distances
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import PERSON, EmbeddingSet, Splits

LEVEL = 0.05  # of all looks together, so that the bound holds with 95 % confidence
SHARES = (0.45, 0.125, 0.03)  # of the candidates, called "in" at the top and "out" at the bottom
LARGEST = 50.0  # ε; what float64 tells from infinity is below 40
TINY = attacks.TINY


class Look(NamedTuple):
    """One way to guess, fixed before anything is fitted, and what came of it."""

    score: str
    guesses: int  # half of them "in", half of them "out"
    right: int
    epsilon_lower: float
    epsilon_ceiling: float  # had every guess been right


class OneRun(NamedTuple):
    """The outcome of a one-run audit."""

    unit: str  # of what is in or out, PERSON or ROW
    candidates: int  # m persons (rows), of which each was in with probability 1/2
    inside: int  # how many were
    canaries: int  # how many of the candidates are rows that were made for this
    rows: dict[str, int]  # numbers of rows: of the candidates, in training, released
    delta: float
    look: Look  # the one that shows most
    epsilon_ceiling: float  # the largest of all looks
    looks: tuple[Look, ...]
    guarantee: Guarantee | None  # what the release of these rows states

    @property
    def leak(self) -> bool:
        """Whether ε is above 0 with 95 % confidence."""
        return self.look.epsilon_lower > 0

    @property
    def contradicted(self) -> bool | None:
        """Whether ε is above what is stated with 95 % confidence; None: nothing is stated."""
        stated = self.guarantee
        return None if stated is None else self.look.epsilon_lower > stated.epsilon

    def content(self) -> dict[str, Any]:
        """What the JSON file says of the outcome."""
        return {
            "unit": self.unit,
            "epsilon_lower": round(self.look.epsilon_lower, 6),
            "epsilon_ceiling": round(self.epsilon_ceiling, 6),
            "guesses": self.look.guesses,
            "right": self.look.right,
            "delta": self.delta,
            "confidence": 1 - LEVEL,
            "candidates": self.candidates,
            "inside": self.inside,
            "canaries": self.canaries,
            "rows": self.rows,
            "score": self.look.score,
            "looks": [look._asdict() for look in self.looks],
            "leak": self.leak,
            "guarantee": self.guarantee._asdict() if self.guarantee else None,
            "contradicted": self.contradicted,
        }

    def text(self) -> str:
        """The outcome in a few sentences."""
        look, whom = self.look, "canaries" if self.canaries else f"{self.unit}s"
        shown = f"LEAK: ε is at least {look.epsilon_lower:.3f}"
        sure = f"with {1 - LEVEL:.0%} confidence (δ = {self.delta:.3g})"
        said = [
            f"{shown}, {sure}." if self.leak else f"No leak shown: no ε above 0 {sure}.",
            f"One run: {self.candidates:,} {whom}, each put into training with probability 1/2 "
            f"before the fit; {self.inside:,} were in.",
            f"By {look.score}, the best of {len(self.looks)} looks, {look.right:,} of "
            f"{look.guesses:,} guesses are right; with every guess right the bound would be "
            f"{look.epsilon_ceiling:.3f}, and {self.epsilon_ceiling:.3f} at most.",
        ]
        if self.guarantee:
            state = "CONTRADICTED" if self.contradicted else "not contradicted"
            stated = f"ε = {self.guarantee.epsilon:.3g}, δ = {self.guarantee.delta:.3g}"
            said.append(f"The stated guarantee, {stated}, is {state}.")
        return "\n".join(said)


def run(
    splits: Splits,
    anonymizer: Anonymizer,
    options: OneRunSettings,
    *,
    seed: int,
    resources: Resources,
) -> OneRun:
    """Put each candidate into training with probability 1/2, fit once, guess who is in.

    Args:
        seed: of what is drawn here, and of the fit.

    Raises:
        InputError: there are too few candidates, or the rows that are in cannot be released.
    """
    unit = units.chosen(splits, options.unit)
    rng = random_stream(seed, "one run")
    everyone, candidate = _candidates(splits.train, options, unit, rng)
    people = units.of(attacks.subset(everyone, candidate).by(unit))
    looks = _sizes(len(people))
    inside = rng.random(len(people)) < 0.5
    trained = ~candidate
    trained[candidate] = people.rows(inside)
    release = Maker(anonymizer, splits.val, seed, resources).release(
        attacks.subset(everyone, trained), "one run"
    )
    stated = promises.guarantee(release, several=unit == PERSON and people.several)
    delta = stated.delta if stated else options.delta
    # MPS lacks the float64 that some distances need
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    scores = _scores(everyone, candidate, release, unit, device)
    found = tuple(
        _look(name, people.means(values), inside, each, delta, LEVEL / (len(looks) * len(scores)))
        for name, values in scores.items()
        for each in looks
    )
    return OneRun(
        unit=unit,
        candidates=len(people),
        inside=int(inside.sum()),
        canaries=options.number if options.canaries else 0,
        rows={
            "candidates": int(candidate.sum()),
            "training": int(trained.sum()),
            "released": len(release),
        },
        delta=delta,
        look=max(found, key=lambda look: (look.epsilon_lower, look.right / look.guesses)),
        epsilon_ceiling=max(look.epsilon_ceiling for look in found),
        looks=found,
        guarantee=stated,
    )


def beside(summary: Summary, content: Mapping[str, Any]) -> Summary:
    """An audit's summary, with what one run says of how such releases are made.

    Where the audit shows no leak, or cannot tell, a bound above 0 is one. Canaries do not count:
    they say what the worst row can expect.

    Args:
        content: of a one-run audit's record.
    """
    if summary.leak or content["canaries"]:
        return summary
    lower, ceiling = content["epsilon_lower"], content["epsilon_ceiling"]
    if lower > 0:
        first = "LEAK: one run tells rows that were in training from rows that were not."
        last = f"By one run ε is at least {lower:.3f}, with 95% confidence; at most {ceiling:.3f} "
        return summary._replace(leak=True, said=(first, summary.said[1], f"{last}could be shown."))
    if summary.leak is False:
        return summary
    last = f"One run shows no leak; an ε of up to {ceiling:.3f} could be shown."
    return summary._replace(said=(*summary.said[:2], last))


def p_value(epsilon: float, delta: float, *, candidates: int, guesses: int, right: int) -> float:
    """How likely that many guesses or more are right if fitting is (ε, δ)-private, at most.

    Theorem 5.2 of Steinke et al.: with q = e^ε / (1 + e^ε) and X ~ Bin(r, q) it is
    P[X ≥ v] + 2mδ · max over i = 1..v of P[v > X ≥ v - i] / i.

    Args:
        candidates: m.
        guesses: r, those for which "in" or "out" is said.
        right: v of them.
    """
    from scipy.stats import binom

    q = 1 / (1 + np.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, q))
    if not delta or not right:
        return min(1.0, tail)
    i = np.arange(1, right + 1)
    below = binom.cdf(right - 1, guesses, q) - binom.cdf(right - 1 - i, guesses, q)
    return min(1.0, tail + 2 * candidates * delta * float((below / i).max()))


def lower_bound(
    delta: float, *, candidates: int, guesses: int, right: int, level: float = LEVEL
) -> float:
    """The largest ε that so many right guesses rule out (p < level); 0 where they rule out none.

    Args:
        level: one minus the confidence.
    """

    def ruled_out(epsilon: float) -> bool:
        return level > p_value(epsilon, delta, candidates=candidates, guesses=guesses, right=right)

    low, high = 0.0, LARGEST
    if not ruled_out(low):
        return low
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if ruled_out(middle) else (low, middle)
    return low


def _candidates(
    train: EmbeddingSet, options: OneRunSettings, unit: str, rng: np.random.Generator
) -> tuple[EmbeddingSet, np.ndarray]:
    """All rows that may be trained on, and which of them are candidates' (n,) bool.

    With canaries those alone are the candidates, and the real rows are all in.
    """
    if options.canaries:
        made = canaries.made(train, options.canaries, options.number, rng)
        return canaries.joined(train, made), np.arange(len(train) + len(made)) >= len(train)
    people = units.of(train.by(unit))
    number = options.candidates or len(people)
    if number > len(people):
        raise InputError(f"--candidates {number} is more than the {len(people)} {unit}s there are")
    chosen = np.zeros(len(people), dtype=bool)
    chosen[rng.permutation(len(people))[:number]] = True
    return train, people.rows(chosen)


def _sizes(candidates: int) -> list[int]:
    """How many are called "in" and as many "out", once for each look of a score.

    Raises:
        InputError: there are so few candidates that not even all right guesses show anything.
    """
    sizes = [int(share * candidates) for share in SHARES]
    able = [each for each in sizes if 0.5 ** (2 * each) < LEVEL / (2 * len(SHARES))]
    if not able:
        raise InputError(f"--one_run: {candidates} candidates are too few; at least 10 are needed")
    return able


def _scores(
    everyone: EmbeddingSet,
    candidate: np.ndarray,
    release: EmbeddingSet,
    unit: str,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """How much nearer candidates are to the release than to all that may be in it (n,) each.

    Whoever guesses knows all rows, and not which are in. Both scores are logarithms of a ratio:
    of distances to the nearest row of the label, and of Mahalanobis distances within the label.
    """
    rows = attacks.subset(everyone, candidate)
    seen = -attacks.nearest_neighbour_scores(rows, release, device)
    expected = _to_others(everyone, candidate, unit, device)
    fitted, usual = (-density.scores(rows, data).mahalanobis for data in (release, everyone))
    return {"distance": _ratio(expected, seen), "density": _ratio(usual, fitted)}


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Logarithm of a quotient of distances; where the release lacks the label, the lowest."""
    most = np.finfo(np.float32).max
    above, below = (np.log(np.clip(values, TINY, most)) for values in (over, under))
    return np.asarray(above - below)


def _to_others(
    everyone: EmbeddingSet, candidate: np.ndarray, unit: str, device: torch.device
) -> np.ndarray:
    """Candidates' distance to the nearest row of the label that is another's (n,); inf: none."""
    found = np.full(len(everyone), np.inf)
    whose = units.of(everyone.by(unit)).whose
    for label in np.unique(everyone.labels[candidate]):
        others = np.flatnonzero(everyone.labels == label)
        own = others[candidate[others]]
        most = np.bincount(np.unique(whose[others], return_inverse=True)[1]).max()
        x, y = (torch.from_numpy(everyone.embeddings[rows]).to(device) for rows in (own, others))
        near = distances.nearest(x, y, min(int(most) + 1, len(y)))
        foreign = whose[others][near.indices.cpu().numpy()] != whose[own][:, None]
        found[own] = np.where(foreign, near.distances.cpu().numpy(), np.inf).min(1)
    return found[candidate]


def _look(
    name: str, scores: np.ndarray, inside: np.ndarray, each: int, delta: float, level: float
) -> Look:
    """Call the highest scores "in" and the lowest "out"."""
    order = np.argsort(-scores, kind="stable")
    right = int(inside[order[:each]].sum() + (~inside[order[-each:]]).sum())
    bound, ceiling = (
        lower_bound(delta, candidates=len(inside), guesses=2 * each, right=v, level=level)
        for v in (right, 2 * each)
    )
    return Look(name, 2 * each, right, bound, ceiling)
