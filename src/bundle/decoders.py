"""Decoders as safetensors: what sampling needs of a CVAE, without its encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from src.core.errors import DataError
from src.core.files import reading
from src.networks.cvae import Decoder

OBSERVATION_NOISE = "observation_noise"  # in the file's header; shapes say the rest
LAYERS = tuple(f"layers.{number}.{name}" for number in (0, 2) for name in ("weight", "bias"))
TENSORS = {*LAYERS, "minimum", "extent", "noise_scale", "class_weights"}


def write(path: Path, decoder: Decoder) -> None:
    """Write layers, feature and noise scales and class weights to `path`."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in decoder.state_dict().items()}
    save_file(tensors, path, metadata={OBSERVATION_NOISE: repr(decoder.observation_noise)})


def read(path: Path) -> Decoder:
    """The frozen decoder in `path`, rebuilt from the shapes of its tensors.

    Raises:
        MissingFileError: the file does not exist.
        DataError: damaged, or not the tensors of one decoder.
    """
    with reading(path, "does not hold a decoder"):
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if names != TENSORS:
                odd = ", ".join(sorted(names ^ TENSORS))
                raise DataError(f"{path} has unexpected or missing tensors: {odd}")
            tensors = {name: file.get_tensor(name) for name in names}
            observation_noise = float((file.metadata() or {}).get(OBSERVATION_NOISE, "nan"))
        decoder = _rebuilt(tensors)
        _check_numbers(path, tensors, observation_noise)
    decoder.observation_noise = observation_noise
    return decoder.eval().requires_grad_(False)


def _rebuilt(tensors: Mapping[str, Tensor]) -> Decoder:
    classes, dim = len(tensors["class_weights"]), len(tensors["minimum"])
    hidden_dim, inputs = tensors["layers.0.weight"].shape
    if inputs <= classes:
        raise ValueError(f"{classes} classes leave none of its {inputs} inputs to z")
    decoder = Decoder(dim, classes, hidden_dim, inputs - classes)
    decoder.load_state_dict(tensors)
    return decoder


def _check_numbers(path: Path, tensors: Mapping[str, Tensor], observation_noise: float) -> None:
    finite = all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values())
    if not finite or not 0 <= observation_noise < math.inf:
        raise DataError(f"{path} holds a decoder with numbers that are not finite float32")
    weights = tensors["class_weights"]
    if weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{path} holds a decoder whose class weights are not a distribution")
