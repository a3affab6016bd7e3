"""Copies across splits: rows that train shares with test or val make every result too good."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from src.core.copies import among
from src.core.errors import DataError

log = logging.getLogger(__name__)


class Embedded(NamedTuple):
    """A split's embeddings (n, D) float32, and marks (n, 2) int64 of its images, if it has any."""

    rows: np.ndarray
    marks: np.ndarray | None = None


def marks(images: torch.Tensor) -> torch.Tensor:
    """Two numbers per image, (b, c, h, w) float32 → (b, 2) int64, equal for equal images.

    Sums of the values' bits times random odd numbers, modulo 2^64: different images have equal
    marks with a probability below 2^-60, and no rounding depends on the rest of the batch, as it
    does for embeddings.
    """
    bits = images.contiguous().flatten(1).view(torch.int32).long()
    factors = _factors(bits.shape[1], bits.device)
    if bits.device.type == "cpu":  # ten times as fast as the products in memory
        return torch.stack([torch.stack([row.dot(f) for f in factors]) for row in bits])
    return torch.stack([(bits * f).sum(1) for f in factors], dim=1)


@lru_cache(maxsize=1)
def _factors(count: int, device: torch.device) -> torch.Tensor:
    """Two series of random odd numbers, (2, count) int64, always the same."""
    stream = torch.Generator().manual_seed(0)
    halves = torch.randint(-(2**62), 2**62, (2, count), generator=stream)
    return (halves * 2 + 1).to(device)


def found(splits: Mapping[str, Embedded]) -> dict[str, np.ndarray]:
    """Which images of a split are also elsewhere: of val and test in train, of train in either.

    An image is a copy if the backbone gets the same values, or gives the same embedding.
    """
    train = splits["train"]
    both = {name: splits[name] for name in ("val", "test")}
    inverse = [_copied(train, other) for other in both.values()]
    return {
        "train": np.logical_or(*inverse),
        **{name: _copied(other, train) for name, other in both.items()},
    }


def _copied(ours: Embedded, theirs: Embedded) -> np.ndarray:
    same = among(ours.rows, theirs.rows)
    if ours.marks is None or theirs.marks is None:
        return same
    return same | among(ours.marks, theirs.marks)


def counts(copied: Mapping[str, np.ndarray], drop: bool) -> dict[str, int]:
    """How many images of each split are copies, and were dropped, as `facts` record it.

    Empty where none is.
    """
    numbers = {f"copies_in_{name}": int(which.sum()) for name, which in copied.items()}
    if not numbers["copies_in_train"]:
        return {}
    return numbers | ({"copies_dropped": numbers["copies_in_train"]} if drop else {})


def warn(copied: Mapping[str, np.ndarray], drop: bool, noun: str) -> None:
    """Say how many rows of test and val, called by the noun, are also in train, if any are."""
    shares = {name: f"{which.sum()} of {len(which)}" for name, which in copied.items()}
    if copied["train"].any():
        log.warning(
            "copies across splits: %s %s of test and %s of val are also in train (%s %s "
            "of train); %s",
            *(shares["test"], noun, shares["val"], shares["train"], noun),
            "these are dropped from train"
            if drop
            else "results will look better than they are; --drop_copies removes them from train",
        )


def require_classes(labels: np.ndarray, kept: np.ndarray, class_names: list[str]) -> None:
    """Raise DataError where a class would have no image in train without its copies."""
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost):
        raise DataError(
            f"--drop_copies: all {int((labels == lost[0]).sum())} rows in train of class "
            f"'{class_names[lost[0]]}' are also in test or val; without them it has none"
        )
