"""The Gaussian mechanism in closed form: how much noise a budget asks for, and what noise costs.

A noise multiplier σ is the noise's standard deviation over the L2 sensitivity of the sum that it
is added to. The mechanism is (ε, δ)-private if and only if

    δ ≥ Φ(1/(2σ) − εσ) − e^ε Φ(−1/(2σ) − εσ)

(Balle and Wang, ICML 2018, theorem 8). Mechanisms with σ₁, σ₂, … on the same rows are together
exactly as private as one with 1/σ² = Σ 1/σᵢ², also where a query is chosen after the answers to
earlier ones, as long as its σ is not (Dong, Roth, Su, JRSS-B 2022, corollary 3.3).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import torch

from src.core.errors import InputError

ROUNDING = 1e-15  # of δ: more than float64 loses in the difference above
SLACK = 1e-9  # more noise than needed, so that no rounding brings the stated ε above the budget
SMALLEST, LARGEST = 1e-3, 1e9  # noise multipliers that are considered


def composed(multipliers: Iterable[float]) -> float:
    """The noise multiplier of one mechanism that is exactly as private as all of these."""
    return math.fsum(multiplier**-2 for multiplier in multipliers) ** -0.5


def delta(noise_multiplier: float, epsilon: float) -> float:
    """The least δ for which the mechanism is (ε, δ)-private, rounded up.

    Both terms are taken as logarithms, since e^ε and Φ leave float64's range one by one.
    """
    half, shift = 1 / (2 * noise_multiplier), epsilon * noise_multiplier
    first, second = _log_phi(half - shift), epsilon + _log_phi(-half - shift)
    return math.exp(first) * -math.expm1(min(0.0, second - first)) + ROUNDING


def _log_phi(x: float) -> float:
    """The logarithm of Φ(x), also where Φ(x) is too small for float64."""
    return float(torch.special.log_ndtr(torch.tensor(x, dtype=torch.float64)))


@functools.cache
def noise_multiplier(epsilon: float, delta: float) -> float:
    """The least noise with which a mechanism is (ε, δ)-private.

    Raises:
        InputError: ε is too small to be reached.
    """

    def enough(log_noise: float) -> bool:
        return _reaches(math.exp(log_noise), epsilon, delta)

    low, high = math.log(SMALLEST), math.log(LARGEST)
    if not enough(high):
        raise InputError(f"--epsilon {epsilon:g} is too small to be reached by adding noise")
    return math.exp(_least(low, high, enough)) * (1 + SLACK)


@functools.cache
def epsilon(noise_multiplier: float, delta: float) -> float:
    """The least ε for which a mechanism is (ε, δ)-private, rounded up."""

    def enough(log_epsilon: float) -> bool:
        return _reaches(noise_multiplier, math.exp(log_epsilon), delta)

    # ε = 1/(2σ²) + √(2 ln(1/δ))/σ is always enough
    most = 0.5 * noise_multiplier**-2 + math.sqrt(2 * math.log(1 / delta)) / noise_multiplier
    return math.exp(_least(math.log(1e-12), math.log(2 * most), enough))


def _reaches(noise_multiplier: float, epsilon: float, target: float) -> bool:
    return delta(noise_multiplier, epsilon) <= target


def _least(low: float, high: float, enough: Callable[[float], bool]) -> float:
    """By bisection, the least number that is enough, from above; `high` is."""
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
