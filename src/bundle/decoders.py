"""Decoders as safetensors: what sampling needs of a CVAE, without its encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from src.errors import DataError
from src.models.cvae import Decoder

OBSERVATION_STD = "observation_std"  # in the file's header; shapes say the rest
LAYERS = tuple(f"layers.{number}.{name}" for number in (0, 2) for name in ("weight", "bias"))
TENSORS = {*LAYERS, "minimum", "extent", "class_weights"}


def write(path: Path, decoder: Decoder) -> None:
    """Write layers, feature scaling and class weights to `path`."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in decoder.state_dict().items()}
    save_file(tensors, path, metadata={OBSERVATION_STD: repr(decoder.observation_std)})


def read(path: Path) -> Decoder:
    """The frozen decoder in `path`, rebuilt from the shapes of its tensors.

    Raises:
        DataError: damaged, or not the tensors of one decoder.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if names != TENSORS:
                raise DataError(
                    f"{path} holds {', '.join(sorted(names ^ TENSORS))} too much or too little"
                )
            tensors = {name: file.get_tensor(name) for name in names}
            observation_std = float((file.metadata() or {}).get(OBSERVATION_STD, "nan"))
        classes, dim = len(tensors["class_weights"]), len(tensors["minimum"])
        hidden_dim, inputs = tensors["layers.0.weight"].shape
        if inputs <= classes:
            raise ValueError(f"{classes} classes leave none of its {inputs} inputs to z")
        decoder = Decoder(dim, classes, hidden_dim, inputs - classes)
        decoder.load_state_dict(tensors)
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{path} holds no decoder: {' '.join(str(error).split())}") from error
    finite = all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values())
    weights = tensors["class_weights"]
    if not finite or not 0 <= observation_std < float("inf"):
        raise DataError(f"{path} holds a decoder with numbers that are not finite float32")
    if weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{path} holds a decoder whose class weights are not a distribution")
    decoder.observation_std = observation_std
    return decoder.eval().requires_grad_(False)
