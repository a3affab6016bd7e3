"""Images as rows of one array in a file, however its axes are ordered and its values stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from src.core.errors import DataError

_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Layout:
    """How a row of the array becomes an image.

    Attributes:
        size: height and width.
        channels: axis of a row that holds them; None if it has none.
        colour: three of them, not one.
        largest: the value that is full brightness: 255, or 1 for floats in 0..1.
    """

    size: tuple[int, int]
    channels: int | None
    colour: bool
    largest: int

    def image(self, row: np.ndarray) -> Image.Image:
        """The image in mode 'L' or 'RGB'; floats without colour in mode 'F', values 0..1."""
        if self.channels is not None and self.colour:
            row = np.moveaxis(row, self.channels, -1)
        elif self.channels is not None:
            row = row.reshape(self.size)
        if row.dtype.kind == "f" and not self.colour:
            return Image.fromarray(row.astype(np.float32) / np.float32(self.largest))
        if row.dtype.kind == "f":
            row = np.rint(row * (255 / self.largest))
        return Image.fromarray(np.ascontiguousarray(row, np.uint8))


def layout(
    where: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    extremes: Callable[[], tuple[float, float]],
) -> Layout:
    """The layout of an array of images.

    Args:
        where: the array, for messages.
        shape: (n, h, w), (n, h, w, c) or (n, c, h, w), with c 1 or 3.
        dtype: any real type, of values 0..255, or floats in 0..1.
        extremes: gives the smallest and the largest value; called where the type does not say.

    Raises:
        DataError: another shape, type or range.
    """
    last, first = (
        len(shape) == 4 and shape[3] in _CHANNELS,
        len(shape) == 4 and shape[1] in _CHANNELS,
    )
    if len(shape) != 3 and not last and not first:
        raise DataError(
            f"{where} is shaped {shape}; (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3 "
            "is needed"
        )
    if dtype.kind not in "uif":
        raise DataError(f"{where} is of type {dtype}, not of numbers")
    largest = 255
    if dtype != np.uint8:
        low, high = extremes()
        if not 0 <= low <= high <= 255:  # not a number compares false
            raise DataError(
                f"{where} has values from {low:g} to {high:g}; 0..255 or 0..1 is needed"
            )
        largest = 1 if dtype.kind == "f" and high <= 1 else 255
    axis = 2 if last else 0 if first else None
    size = (shape[2], shape[3]) if axis == 0 else (shape[1], shape[2])
    return Layout(size, axis, axis is not None and shape[1 + axis] == 3, largest)
