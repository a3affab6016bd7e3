"""Fitted models kept as safetensors, found again only where all they depend on is the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.core.errors import DataError, InputError
from src.core.files import reading, replacing, write_json
from src.core.provenance import fingerprint, fingerprint_arrays
from src.networks import tensors as files
from src.networks.training import Fit

ABOUT = "about"  # the only key of the header's metadata, as the order of several would vary

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    fit: Fit  # how it went, except for seconds and losses, which are in the .json


def restore_or_fit(
    model: nn.Module, path: Path | None, depends_on: Mapping[str, Any], fit: Callable[[], Fit]
) -> None:
    """Give `model` the weights in `path` if they were made from exactly this; else fit and keep.

    Args:
        path: None keeps nothing, and says nothing.
        depends_on: everything that the weights depend on (JSON values).
    """
    stored = load(path, depends_on) if path else None
    if stored and _shapes(stored.tensors) != _shapes(model.state_dict()):
        log.warning("%s holds another model: fitting again", path)
    elif stored:
        model.load_state_dict(stored.tensors)
        log.info("reusing %s: %s", path, stored.fit)
        return
    went = fit()
    if path:
        save(path, model.state_dict(), depends_on, went)
        log.info("fitted %s: %s", path, went)


def save(
    path: Path, tensors: Mapping[str, Tensor], depends_on: Mapping[str, Any], fit: Fit
) -> None:
    """Write tensors; `depends_on` (JSON) says what they depend on.

    Its fingerprint and how the fit went are in the file's header, so that the file is whole by
    itself; the text of both is beside the file (`.json`) for people.

    Raises:
        OutputError: they cannot be written.
    """
    went = fit._replace(seconds=0.0, losses=())._asdict()  # the same fit gives the same bytes
    about = {"fingerprint": fingerprint(depends_on), "fit": went, "sum": _sum(tensors, went)}
    content = files.to_bytes(tensors, {ABOUT: json.dumps(about)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # unlike safetensors', its errors are OSErrors
    write_json(path.with_suffix(".json"), {**depends_on, "fit": fit._asdict()})


def load(path: Path, depends_on: Mapping[str, Any]) -> Checkpoint | None:
    """What is in `path` if it is whole and was made from exactly this, else None."""
    if not path.exists():
        return None
    try:
        with reading(path):
            tensors, header = files.read(path)
            about = json.loads(header.get(ABOUT, "{}"))
            if about.get("fingerprint") != fingerprint(depends_on):
                log.info("%s was made from other data or settings: fitting again", path)
                return None
            if _sum(tensors, about["fit"]) != about["sum"]:
                raise DataError(f"{path} is damaged: its sum is another")
            return Checkpoint(tensors, Fit(**{**about["fit"], "losses": ()}))
    except InputError as error:
        log.warning("%s: fitting again", error)
        return None


def _sum(tensors: Mapping[str, Tensor], went: Mapping[str, Any]) -> str:
    """A fingerprint of all that a file holds."""
    arrays = {name: t.detach().cpu().numpy() for name, t in tensors.items()}
    return fingerprint([{n: fingerprint_arrays(array) for n, array in arrays.items()}, went])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
