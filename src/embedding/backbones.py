"""Backbones: name → frozen model and the transform that prepares an image for it.

Any timm model by its name, its own evaluation transform included; and `pixels`, the image itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from src.core import progress
from src.core.errors import InputError
from src.embedding import timm_models
from src.embedding.datasets.base import ImageSet, ImageSplits
from src.embedding.datasets.decoding import to_array

PIXELS = "pixels"


@dataclass(frozen=True)
class Backbone:
    """A frozen model on its device.

    Attributes:
        model: (b, c, h, w) float32 → (b, D).
        transform: image → (c, h, w) float32; can be pickled.
        dim: D.
        facts: what an embedding depends on, as JSON values (the weights' fingerprint, ...).
    """

    name: str
    model: nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
    device: torch.device
    dim: int
    facts: dict[str, Any]


def load(
    name: str,
    images: ImageSplits,
    *,
    device: torch.device,
    image_size: int | None = None,
    weights: Path | None = None,
) -> Backbone:
    """Load a backbone, ready to embed `images`.

    Args:
        name: a timm model, with or without its tag; `hf-hub:owner/repository` and
            `local-dir:folder` as timm reads them; or `pixels`.
        images: the images to embed (`pixels` has as many channels as they need).
        image_size: height and width in pixels, if not the model's own.
        weights: a checkpoint (safetensors, or torch's format without pickled objects) to read
            instead of the published one.

    Raises:
        InputError: the name is unknown, weights are missing or do not fit, or the model does
            not take images of that size.
    """
    require_known(name)
    if name == PIXELS:
        model, transform, facts = _pixels(images, image_size, weights)
    else:
        model, transform, facts = timm_models.load(name, image_size, weights)
    model = model.eval().to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    example = transform(_first(images.train))
    try:
        with torch.inference_mode():
            embedding = model(example[None].to(device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = timm_models.telling_line(error)
        raise InputError(
            f"backbone '{name}' does not take images of size {_size(*example.shape[1:])}: {reason}"
        ) from error
    if embedding.ndim != 2:
        shape = tuple(embedding.shape)
        raise InputError(f"backbone '{name}' does not give one vector per image, but {shape}")
    facts = {**facts, "input_size": list(example.shape)}
    return Backbone(name, model, transform, device, embedding.shape[1], facts)


def require_known(name: str) -> None:
    """Raise InputError if `load` does not know this backbone, without loading it."""
    if name != PIXELS:
        timm_models.require_known(name, others=(PIXELS,))


# The image itself.


def _pixels(
    images: ImageSplits, image_size: int | None, weights: Path | None
) -> tuple[nn.Module, Callable[[Image.Image], torch.Tensor], dict[str, Any]]:
    if weights:
        raise InputError(f"--weights {weights}: backbone '{PIXELS}' has no weights")
    splits = (images.train, images.val, images.test)
    everything = [(split, i) for split in splits for i in range(len(split))]
    bar = progress.bar(everything, desc="looking for colour")
    colour = any(_is_colour(split, i) for split, i in bar)  # ends at the first colour image
    width, height = _first(images.train).size
    size = (image_size, image_size) if image_size else (height, width)
    transform = PixelTransform(3 if colour else 1, size, resize=image_size is not None)
    return nn.Flatten(), transform, {}


def _first(split: ImageSet) -> Image.Image:
    """The first image that can be read; those that cannot are counted when all are read."""
    for i in range(len(split)):
        with suppress(InputError):
            return split[i]
    return split[0]


def _is_colour(split: ImageSet, index: int) -> bool:
    try:
        return split[index].mode == "RGB"
    except InputError:  # counted when all are read
        return False


@dataclass(frozen=True)
class PixelTransform:
    """Image → (channels, *size) float32 in 0..1; grey is repeated where others have colour."""

    channels: int
    size: tuple[int, int]  # height, width
    resize: bool

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Convert one image.

        Raises:
            InputError: it has another size and is not to be resized.
        """
        values = torch.tensor(to_array(image))
        if self.resize:
            values = F.interpolate(values[None], self.size, mode="bilinear", antialias=True)[0]
        elif values.shape[1:] != self.size:
            raise InputError(
                f"images of different sizes, {_size(*values.shape[1:])} and {_size(*self.size)} "
                f"(h x w), cannot be embedded as {PIXELS}; resize them with --image_size N"
            )
        return values.expand(self.channels, -1, -1)


def _size(height: int, width: int) -> str:
    return f"{height} x {width}"
