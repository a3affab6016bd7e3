"""Noisy sums over rows, and the bounds of features that follow from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 4.0  # mean absolute deviations on either side of the mean that scaling keeps
OCTAVES = range(-40, 41)  # powers of two among which the norm of a typical row is found


def wide(device: torch.device) -> torch.dtype:
    """The type to add up in: in float32, rounding would grow with the number of rows."""
    return torch.float32 if device.type == "mps" else torch.float64  # which MPS lacks


def norms(rows: Tensor) -> Tensor:
    """L2 norms [n] of rows [n, k], exact where squares are out of float32's range."""
    lengths = rows.norm(dim=1).to(wide(rows.device))  # fast
    odd = ~((lengths > 1e-15) & (lengths < 1e15))
    lengths[odd] = torch.linalg.vector_norm(rows[odd], dim=1, dtype=lengths.dtype)
    return lengths


def add_noise(total: Tensor, noise_multiplier: float, generator: torch.Generator) -> Tensor:
    """A sum of any shape with N(0, σ²) on each number, where one row changes it by at most 1."""
    noise = torch.randn(total.shape, generator=generator, device=total.device, dtype=total.dtype)
    return total + noise_multiplier * noise


def noisy_sum(
    rows: Tensor,
    noise_multiplier: float,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> Tensor:
    """Σ rows + N(0, σ²) [k] of rows [n, k], each clipped to norm 1 first.

    One row more or less changes the sum by at most 1 in L2 norm: σ is the noise multiplier. That
    holds for any row: what is not finite counts as 0.

    Args:
        weights: [n] of clipped rows, those of a person together 1, where the unit is the person.
    """
    lengths = norms(rows).clamp(min=1).to(rows.dtype)  # beyond float32: infinite, and the row 0
    clipped = (rows / lengths[:, None]).nan_to_num(nan=0, posinf=0, neginf=0)
    if weights is not None:
        clipped = clipped * weights[:, None]
    total = clipped.sum(0, dtype=wide(rows.device))
    return add_noise(total, noise_multiplier, generator).to(rows.dtype)


def private_bounds(
    rows: Tensor,
    count: float,
    noise_multiplier: float,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of features [D] from three noisy sums over rows [n, D].

    First the typical norm R of a row, the end of the fullest octave; then, as sums of rows / R,
    the mean and the mean absolute deviation from it. (A variance would need far more noise: the
    norm of |x - mean| grows with √D, that of its squares with D.) A constant feature is like any
    other here: nothing is said about it beyond its two noisy numbers.
    """

    def ask(values: Tensor) -> Tensor:
        return noisy_sum(values, noise_multiplier, generator, weights)

    octaves = norms(rows).log2().ceil().nan_to_num(nan=OCTAVES[0])
    octaves = octaves.clamp(OCTAVES[0], OCTAVES[-1]).long()
    histogram = ask(F.one_hot(octaves - OCTAVES[0], len(OCTAVES)).float())
    fullest = int(histogram.argmax())
    wider = histogram[fullest + 1 : fullest + 2] > histogram[fullest] / 2  # typical norms span two
    radius = 2.0 ** (OCTAVES[fullest] + int(wider.sum()))
    noise = radius * noise_multiplier / count  # standard deviation of each number below
    centre = shrunk(ask(rows / radius) * radius / count, noise)
    deviation = shrunk(ask((rows - centre).abs() / radius) * radius / count, noise)
    reach = REACH * deviation.clamp(min=0) + 2 * noise
    return centre - reach, centre + reach


def shrunk(values: Tensor, noise: float) -> Tensor:
    """Noisy values [D] moved towards their mean by the share of their variance that is noise.

    (The positive-part estimator of Efron and Morris, JASA 1973.)
    """
    mean = values.mean()
    kept = (1 - noise**2 / values.var(correction=0).clamp(min=1e-30)).clamp(min=0)
    return mean + kept * (values - mean)
