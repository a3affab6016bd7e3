"""Decoders as safetensors: all that draws need, a CVAE without its encoder or noisy sums."""

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
from src.networks.gaussians import Gaussians, Sums
from src.networks.sampling import Sampler

OBSERVATION_NOISE = "observation_noise"  # in the file's header; shapes say the rest
LAYERS = tuple(f"layers.{number}.{name}" for number in (0, 2) for name in ("weight", "bias"))
TENSORS = {*LAYERS, "minimum", "extent", "noise_scale", "class_weights"}


def serialized(decoder: Sampler) -> bytes:
    """Layers, feature and noise scales and class weights, or noisy sums, as a file has them."""
    metadata = {}
    if isinstance(decoder, Decoder):
        metadata = {OBSERVATION_NOISE: repr(decoder.observation_noise)}
    return files.to_bytes(decoder.state_dict(), metadata)


def read(path: Path) -> Sampler:
    """The frozen decoder in `path`, rebuilt from the shapes of its tensors.

    Raises:
        MissingFileError: the file does not exist.
        DataError: damaged, not the tensors of one decoder, or not as `serialized` writes them.
    """
    with reading(path, "does not hold a decoder"):
        tensors, metadata = files.read(path)
        expected = {*Sums._fields} if "moments" in tensors else TENSORS
        if tensors.keys() != expected:
            odd = ", ".join(sorted(tensors.keys() ^ expected))
            raise DataError(f"{path} has unexpected or missing tensors: {odd:.200}")
        if not all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values()):
            raise DataError(f"{path} holds a decoder with numbers that are not finite float32")
        decoder = _gaussians(path, tensors) if "moments" in tensors else _cvae(path, tensors)
        if isinstance(decoder, Decoder):
            decoder.observation_noise = _observation_noise(path, metadata)
        if serialized(decoder) != path.read_bytes():
            raise DataError(f"{path} is not in the one form that this program writes")
    return decoder.eval().requires_grad_(False)


def _gaussians(path: Path, tensors: Mapping[str, Tensor]) -> Gaussians:
    """The Gaussians of these noisy sums."""
    sums = Sums(**tensors)
    classes, dim = sums.class_sums.shape
    shapes = {"counts": (classes,), "centre": (dim,), "scale": (dim,), "radius": (),
              "class_sums": (classes, dim), "squares": (), "moments": (dim, dim),
              "noise": (4,)}  # fmt: skip
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is shaped {tuple(tensors[name].shape)}, not {shape}")
    if not min(classes, dim) or min(sums.scale.min(), sums.radius, sums.noise.min()) <= 0:
        raise DataError(f"{path} holds units or noise that are not above 0")
    if not torch.equal(sums.moments, sums.moments.T):
        raise DataError(f"{path} holds second moments that are not symmetric")
    return Gaussians(sums)


def _cvae(path: Path, tensors: Mapping[str, Tensor]) -> Decoder:
    weights = tensors["class_weights"]
    decoder = _rebuilt(tensors)
    if weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{path} holds a decoder whose class weights are not a distribution")
    return decoder


def _observation_noise(path: Path, metadata: Mapping[str, str]) -> float:
    noise = float(metadata.get(OBSERVATION_NOISE, "nan"))
    if not 0 <= noise < math.inf:
        raise DataError(f"{path} holds a decoder with numbers that are not finite float32")
    return noise


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
