"""Grey images of more than 8 bits, and what a header says of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """The grey values that become black and white, of images of more than 8 bits.

    With `given` it also replaces the window that an image names itself (DICOM).
    """

    low: float
    high: float
    given: bool


class Grey(NamedTuple):
    """A picture of more than 8 bits before its values become 0..1.

    Attributes:
        values: (h, w) float32, as stored, in DICOM rescaled.
        largest: the value that is 1 without a window: that of the type, 1 for floats.
        inverted: the lowest value is white.
        window: the image's own.
    """

    values: np.ndarray
    largest: float
    inverted: bool
    window: Window | None = None


class Look(NamedTuple):
    """What a file's header says.

    Attributes:
        frames: pages or frames.
        deep: grey of more than 8 bits.
        windowed: with a window of its own.
    """

    frames: int
    deep: bool
    windowed: bool = False
