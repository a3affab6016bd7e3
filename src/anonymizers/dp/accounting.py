"""Differential privacy: what Gaussian mechanisms cost together, and how much noise they need.

Every mechanism here adds Gaussian noise to a sum over rows, or to such a sum over a Poisson
sample of them; noise multipliers are standard deviations over the sum's L2 sensitivity. Two
datasets are neighbours where one has one row more (add or remove one row).

Privacy loss is composed numerically with opacus' PRV accountant, whose upper bound is taken (Gopi,
Lee, Wutschitz, NeurIPS 2021). It is tighter than Rényi bounds, and holds for queries that are
chosen after the answers to earlier ones have been seen, as long as their noise multipliers,
sampling rates and numbers of steps are not. That bound leaves out what float64 rounds and what
a wide domain costs in time and memory: both are added here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from src.core.errors import InputError, MissingPackageError

ACCOUNTANT = "PRV, upper bound"
SMALLEST, LARGEST = 0.05, 1e5  # noise multipliers that are considered
ERROR = 0.01  # of ε, which the accountant adds to its bound, ...
RELATIVE_ERROR = 0.05  # ... or this share of a small target, which would be lost in it
DOMAIN = 1 << 19  # most numbers in a discrete privacy loss: a second's work
WIDEST = 500.0  # privacy loss whose exponential float64 holds, squared
COARSEST = 0.5  # error for which the accountant's bound still holds (it needs one below 1)
ROUNDING = 5e-16  # of δ, for each step: three times the most that composing them was seen to lose
ORDERS = [*range(2, 64), *(2**power for power in range(6, 14))]  # of Rényi divergences
FEW_ORDERS = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 63]


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


def epsilon(accountant: Any, delta: float, *, eps_error: float = ERROR) -> float:
    """The ε for which all that the accountant has seen is (ε, δ)-differentially private.

    Infinite where the accountant finds no bound: δ is too small, or ε far too large.

    Args:
        eps_error: what the bound may lie above the exact ε; more where less would take too long.
    """
    return _epsilon(tuple(map(tuple, accountant.history)), delta, eps_error)


@functools.lru_cache(maxsize=1024)
def _epsilon(
    history: tuple[tuple[float, float, int], ...], delta: float, eps_error: float
) -> float:
    steps = sum(count for *_, count in history)
    if delta < smallest_delta(steps):
        return math.inf
    delta -= ROUNDING * steps
    made = accountant()
    made.history = list(history)
    with _quiet(), contextlib.suppress(ArithmeticError, RuntimeError, ValueError):
        error = max(eps_error, _affordable_error(history, delta))
        bound = made.get_epsilon(delta, eps_error=error) if error <= COARSEST else math.nan
        if not math.isnan(bound):
            return max(error, float(bound))  # a δ that large asks for no noise at all
    return math.inf


def smallest_delta(steps: int) -> float:
    """The smallest δ beside which rounding errors of that many steps are small."""
    return 10 * ROUNDING * steps


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings: of logarithms of 0 at sampling rate 1, of Rényi orders at the list's end."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _affordable_error(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """The least error for which the accountant's domain stays within DOMAIN numbers.

    By its own formulas for the domain's half width and mesh (Gopi et al., remark 5.6), the former
    from fewer Rényi orders.
    """
    steps = sum(count for *_, count in history)
    renyi = opacus("accountants").RDPAccountant()
    renyi.history = list(history)
    width = 3 + float(renyi.get_epsilon(delta / (8000 * steps), alphas=FEW_ORDERS))
    if not width < WIDEST:
        return math.inf
    return 2 * width * math.sqrt(steps * math.log(12_000 / delta) / 2) / DOMAIN


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
        InputError: the target is out of reach, or δ too small to be accounted for.
    """
    total = steps + sum(mechanism.steps for mechanism in beside)
    if delta < smallest_delta(total):
        raise InputError(
            f"--delta {delta:g} is too small: rounding leaves nothing of one below "
            f"{smallest_delta(total):.2g} over {total} steps"
        )

    def history(log_noise: float) -> list[tuple[float, ...]]:
        return [*map(tuple, beside), (math.exp(log_noise), sampling_rate, steps)]

    def near_cost(log_noise: float) -> float:
        renyi.history = history(log_noise)
        with _quiet():
            return float(renyi.get_epsilon(delta, alphas=ORDERS))

    def cost(log_noise: float) -> float:
        exact.history = history(log_noise)
        return epsilon(exact, delta, eps_error=tolerance(target))

    # Rényi bounds are fast and near: they give the bracket for the exact search.
    renyi, exact = opacus("accountants").RDPAccountant(), accountant()
    near = _least(near_cost, target, math.log(SMALLEST), math.log(LARGEST), 0.05)
    return math.exp(_least(cost, target, near - 0.5, near + 0.5, 1e-3))


def _least(
    cost: Callable[[float], float], target: float, low: float, high: float, width: float
) -> float:
    """By bisection, the least argument whose falling cost is at most the target."""
    if not cost(high) <= target:
        raise InputError(
            f"--epsilon {target:g} is too small to be reached by adding noise; fewer --epochs, "
            "smaller --count_share and --scaling_share or a larger --delta may help"
        )
    while high - low > width:
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= target else (middle, high)
    return high
