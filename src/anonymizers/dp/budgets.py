"""The privacy budget of a fit: its δ, the noise of each mechanism, and what was spent."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from src.anonymizers.dp import accounting
from src.anonymizers.dp.accounting import Mechanism
from src.anonymizers.settings import GuaranteeSettings, PrivateSettings
from src.core.errors import InputError
from src.database import PERSON, ROW, EmbeddingSet

SCALING_QUERIES = 3  # share the budget for scaling
NEIGHBOURS = {
    ROW: "one row added or removed",
    PERSON: "one person, with all rows of theirs, added or removed",
}
PIXELS = "pixels"  # the backbone whose features are between 0 and 1 by definition
NOT_COVERED = (
    "settings chosen by results on the rows; validation and test rows; metrics, audits and figures"
)


def public_knowledge(unit: str) -> str:
    """What a guarantee to this unit takes as known."""
    return (
        "settings, number of features, class names (without names the largest label), number of "
        f"digits of the number of {unit}s"
    )


def protected(rows: EmbeddingSet) -> tuple[str, int]:
    """Whom a guarantee is given by a fit to these rows, PERSON or ROW, and how many they are."""
    if rows.persons is None:
        return ROW, len(rows)
    return PERSON, len(np.unique(rows.persons))


def is_pixels(train: EmbeddingSet) -> bool:
    """Whether features are in one unit and between 0 and 1 without looking at rows."""
    return train.meta.get("backbone") == PIXELS


class Budget(NamedTuple):
    """The mechanisms of a fit; they depend on settings alone, never on rows."""

    counts: Mechanism
    scaling: Mechanism | None  # None where the bounds of features are public
    gradients: Mechanism

    @property
    def parts(self) -> dict[str, Mechanism]:
        """The mechanisms by name, in the order in which they are used."""
        named = {"class_counts": self.counts, "scaling": self.scaling, "gradients": self.gradients}
        return {name: mechanism for name, mechanism in named.items() if mechanism}


def allot(settings: PrivateSettings, delta: float, *, public: bool) -> Budget:
    """Noise for each part, such that all of them together are (ε, δ)-private.

    Gaussian mechanisms with noise σ_i compose like one with 1/σ² = Σ 1/σ_i² (Dong, Roth, Su,
    JRSS-B 2022, corollary 3.3). A share is one of 1/σ² of the whole budget; the gradients get
    all that is left, by exact accounting.

    Args:
        public: whether the bounds of features are public, so that scaling costs nothing.
    """
    whole = accounting.noise_multiplier(settings.epsilon, delta)
    counts = Mechanism(whole / math.sqrt(settings.count_share))
    scaling = None
    if not public:
        each = settings.scaling_share / SCALING_QUERIES
        scaling = Mechanism(whole / math.sqrt(each), steps=SCALING_QUERIES)
    steps = max(1, round(settings.epochs / settings.sampling_rate))
    multiplier = accounting.noise_multiplier(
        settings.epsilon,
        delta,
        sampling_rate=settings.sampling_rate,
        steps=steps,
        beside=tuple(filter(None, (counts, scaling))),
    )
    return Budget(counts, scaling, Mechanism(multiplier, settings.sampling_rate, steps))


def delta(settings: GuaranteeSettings, count: int, protects: str = ROW) -> float:
    """The given δ, else the largest power of ten that is at most 1 / (10 n).

    Of n only the number of digits decides whether a given δ is refused: a fit that fails would
    otherwise tell of a row.

    Args:
        count: n, of persons or rows.
        protects: whom the guarantee is given, PERSON or ROW.

    Raises:
        InputError: it is not below 1/n, where releasing a random person would count as private.
    """
    if settings.delta is None:
        return 10.0 ** -(math.ceil(math.log10(count)) + 1)
    digits = len(str(count))
    most = float(f"1e-{digits}")
    if settings.delta > most:
        raise InputError(
            f"--delta {settings.delta:g} must be below 1/n: at most {most:g} for a number of "
            f"{protects}s of {digits} digits"
        )
    return settings.delta


def sensitivities(settings: PrivateSettings) -> dict[str, float]:
    """What one row changes the sum of each mechanism by at most, in L2 norm."""
    return {"class_counts": 1.0, "scaling": 1.0, "gradients": settings.max_grad_norm}


def facts(
    settings: PrivateSettings,
    budget: Budget,
    spent: Any,
    delta: float,
    bounds: tuple[float, float] | None,
    protects: str,
) -> dict[str, Any]:
    """The guarantee and what it rests on, except for where its noise comes from.

    Of the rows it depends on their number alone, in delta's default.

    Args:
        protects: whom the guarantee is given, PERSON or ROW.
    """
    error = accounting.tolerance(settings.epsilon)
    whole = accounting.epsilon(spent, delta, eps_error=error)
    parts: dict[str, Any] = {}
    for name, part in budget.parts.items():
        alone = accounting.epsilon(accounting.accountant((part,)), delta, eps_error=error)
        parts[name] = {
            "noise_multiplier": part.noise_multiplier,
            "epsilon_alone": min(alone, whole),  # no part costs more than all together
        }
    if bounds:
        parts["scaling"] = {"public_bounds": list(bounds)}
    return {
        "epsilon": whole,
        "delta": delta,
        "neighbours": NEIGHBOURS[protects],
        "noise_multiplier": budget.gradients.noise_multiplier,
        "sampling_rate": budget.gradients.sampling_rate,
        "steps": budget.gradients.steps,
        "max_grad_norm": settings.max_grad_norm,
        "accountant": f"{accounting.ACCOUNTANT} (opacus {version('opacus')})",
        "budget": parts,
        "validation_rows": "not used",
        "public": public_knowledge(protects),
        "not_covered": NOT_COVERED,
    }
