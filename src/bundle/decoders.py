"""Decoders as safetensors: what sampling needs of a CVAE, without its encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from src.core.errors import DataError
from src.core.files import reading
from src.networks import tensors as files
from src.networks.cvae import Decoder

OBSERVATION_NOISE = "observation_noise"  # in the file's header; shapes say the rest
LAYERS = tuple(f"layers.{number}.{name}" for number in (0, 2) for name in ("weight", "bias"))
TENSORS = {*LAYERS, "minimum", "extent", "noise_scale", "class_weights"}


def serialized(decoder: Decoder) -> bytes:
    """Layers, feature and noise scales and class weights as a file has them."""
    metadata = {OBSERVATION_NOISE: repr(decoder.observation_noise)}
    return files.to_bytes(decoder.state_dict(), metadata)


def read(path: Path) -> Decoder:
    """The frozen decoder in `path`, rebuilt from the shapes of its tensors.

    Raises:
        MissingFileError: the file does not exist.
        DataError: damaged, not the tensors of one decoder, or not as `serialized` writes them.
    """
    with reading(path, "does not hold a decoder"):
        tensors, metadata = files.read(path)
        if tensors.keys() != TENSORS:
            odd = ", ".join(sorted(tensors.keys() ^ TENSORS))
            raise DataError(f"{path} has unexpected or missing tensors: {odd:.200}")
        observation_noise = float(metadata.get(OBSERVATION_NOISE, "nan"))
        _check_numbers(path, tensors, observation_noise)
        decoder = _rebuilt(tensors)
        decoder.observation_noise = observation_noise
        if serialized(decoder) != path.read_bytes():
            raise DataError(f"{path} is not in the one form that this program writes")
    return decoder.eval().requires_grad_(False)


def _rebuilt(tensors: Mapping[str, Tensor]) -> Decoder:
    """The decoder of these tensors; none of other shapes is made on the way."""
    classes, dim = len(tensors["class_weights"]), len(tensors["minimum"])
    hidden_dim, inputs = tensors["layers.0.weight"].shape
    if inputs <= classes:
        raise ValueError(f"{classes} classes leave none of its {inputs} inputs to z")
    with torch.device("meta"):
        decoder = Decoder(dim, classes, hidden_dim, inputs - classes)
    decoder.load_state_dict(tensors, assign=True)
    return decoder


def _check_numbers(path: Path, tensors: Mapping[str, Tensor], observation_noise: float) -> None:
    finite = all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values())
    if not finite or not 0 <= observation_noise < math.inf:
        raise DataError(f"{path} holds a decoder with numbers that are not finite float32")
    weights = tensors["class_weights"]
    if weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{path} holds a decoder whose class weights are not a distribution")
