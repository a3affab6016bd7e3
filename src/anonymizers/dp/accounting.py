"""Differential privacy: what Gaussian mechanisms cost together, and how much noise they need.

Every mechanism here adds Gaussian noise to a sum over rows, or to such a sum over a Poisson
sample of them; noise multipliers are standard deviations over the sum's L2 sensitivity. Two
datasets are neighbours where one has one row more (add or remove one row).

Privacy loss is composed numerically with opacus' PRV accountant, whose upper bound is taken (Gopi,
Lee, Wutschitz, NeurIPS 2021). It is tighter than Rényi bounds, and holds for queries that are
chosen after the answers to earlier ones have been seen, as long as their noise multipliers,
sampling rates and numbers of steps are not.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from src.core.errors import InputError, MissingPackageError

ACCOUNTANT = "PRV, upper bound"
SMALLEST, LARGEST = 0.05, 1e5  # noise multipliers that are considered
ERROR = 0.01  # of ε, which the accountant adds to its bound, ...
RELATIVE_ERROR = 0.05  # ... or this share of a small target, which would be lost in it
ORDERS = [*range(2, 64), *(2**power for power in range(6, 14))]  # of Rényi divergences


class Mechanism(NamedTuple):
    """The Gaussian mechanism, run `steps` times, each time on a Poisson sample of the rows."""

    noise_multiplier: float
    sampling_rate: float = 1.0  # probability of each row to be in a sample
    steps: int = 1


def opacus(module: str) -> Any:
    """A module of opacus, which is an optional requirement.

    Raises:
        MissingPackageError: opacus is not installed.
    """
    try:
        return importlib.import_module(f"opacus.{module}")
    except ImportError as error:
        raise MissingPackageError(
            f"differential privacy needs opacus ({error}); "
            "install it with: pip install -r requirements-dp.txt"
        ) from error


def accountant(mechanisms: tuple[Mechanism, ...] = ()) -> Any:
    """An opacus accountant that has seen these mechanisms; further ones can be added."""
    made = opacus("accountants").PRVAccountant()
    made.history = [tuple(mechanism) for mechanism in mechanisms]
    return made


def epsilon(accountant: Any, delta: float, **options: Any) -> float:
    """The ε for which all that the accountant has seen is (ε, δ)-differentially private."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # logarithms of 0 where every row is in every sample; Rényi orders at the end of their list
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, **options))


def tolerance(target: float) -> float:
    """The error in ε that the exact accountant may make where the target is known."""
    return min(ERROR, RELATIVE_ERROR * target)


@functools.cache
def noise_multiplier(
    target: float,
    delta: float,
    *,
    sampling_rate: float = 1.0,
    steps: int = 1,
    beside: tuple[Mechanism, ...] = (),
) -> float:
    """The least noise with which a mechanism and those beside it are (target, δ)-private.

    Raises:
        InputError: the target is out of reach.
    """

    def spent(made: Any, log_noise: float, **options: Any) -> float:
        made.history = [*map(tuple, beside), (math.exp(log_noise), sampling_rate, steps)]
        return epsilon(made, delta, **options)

    # Rényi bounds are fast and near: they give the bracket for the exact search.
    renyi = opacus("accountants").RDPAccountant()
    near = _least(
        lambda log_noise: spent(renyi, log_noise, alphas=ORDERS),
        target,
        math.log(SMALLEST),
        math.log(LARGEST),
        0.05,
    )
    exact, error = accountant(), tolerance(target)
    return math.exp(
        _least(
            lambda log_noise: spent(exact, log_noise, eps_error=error),
            target,
            near - 0.5,
            near + 0.5,
            1e-3,
        )
    )


def _least(
    cost: Callable[[float], float], target: float, low: float, high: float, width: float
) -> float:
    """By bisection, the least argument whose falling cost is at most the target."""
    if cost(high) > target:
        raise InputError(f"--epsilon {target:g} is too small to be reached by adding noise")
    while high - low > width:
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= target else (middle, high)
    return high
