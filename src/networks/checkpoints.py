"""Fitted models kept as safetensors, found again only where all they depend on is the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from src.core.errors import DataError, InputError
from src.core.files import reading, replacing, write_json
from src.core.provenance import fingerprint, fingerprint_arrays
from src.networks.training import Fit

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    fit: Fit | None  # how it went, except for its seconds; None in files of older versions


def restore_or_fit(
    model: nn.Module, path: Path | None, depends_on: Mapping[str, Any], fit: Callable[[], Fit]
) -> None:
    """Give `model` the weights in `path` if they were made from exactly this; else fit and keep.

    Args:
        path: None keeps nothing, and says nothing.
        depends_on: everything that the weights depend on (JSON values).
    """
    stored = load(path, depends_on) if path else None
    if stored:
        model.load_state_dict(stored.tensors)
        log.info("reusing %s%s", path, f": {stored.fit}" if stored.fit else "")
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
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    went = json.dumps(fit._replace(seconds=0.0)._asdict())  # the same fit gives the same bytes
    header = {"fingerprint": fingerprint(depends_on), "fit": went, "sum": _sum(plain, went)}
    content = serialized(plain, metadata=header)
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # unlike safetensors', its errors are OSErrors
    write_json(path.with_suffix(".json"), {**depends_on, "fit": fit._asdict()})


def load(path: Path, depends_on: Mapping[str, Any]) -> Checkpoint | None:
    """What is in `path` if it is whole and was made from exactly this, else None."""
    if not path.exists():
        return None
    try:
        with reading(path), safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("fingerprint") != fingerprint(depends_on):
                log.info("%s was made from other data or settings: fitting again", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            went = header.get("fit", "")  # files of older versions have neither this nor a sum
            if went and _sum(tensors, went) != header.get("sum"):
                raise DataError(f"{path} is damaged: its sum is another")
            return Checkpoint(tensors, Fit(**json.loads(went)) if went else None)
    except InputError as error:
        log.warning("%s: fitting again", error)
        return None


def _sum(tensors: Mapping[str, Tensor], went: str) -> str:
    """A fingerprint of all that a file holds."""
    arrays = {name: fingerprint_arrays(tensor.numpy()) for name, tensor in tensors.items()}
    return fingerprint([arrays, went])
