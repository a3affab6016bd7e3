"""Fitted models kept as safetensors, found again only where all they depend on is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from src.core.files import replacing, write_json
from src.core.provenance import fingerprint

log = logging.getLogger(__name__)


def restore_or_fit(
    model: nn.Module, path: Path | None, depends_on: Mapping[str, Any], fit: Callable[[], object]
) -> None:
    """Give `model` the weights in `path` if they were made from exactly this; else fit and keep.

    Args:
        path: None keeps nothing.
        depends_on: everything that the weights depend on (JSON values).
    """
    stored = load(path, depends_on) if path else None
    if stored:
        model.load_state_dict(stored)
        return
    fit()
    if path:
        save(path, model.state_dict(), depends_on)


def save(path: Path, tensors: Mapping[str, Tensor], depends_on: Mapping[str, Any]) -> None:
    """Write tensors; `depends_on` (JSON) says what they depend on.

    Its fingerprint goes into the file's header, its text beside the file (`.json`) for people.

    Raises:
        OutputError: they cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = serialized(plain, metadata={"fingerprint": fingerprint(depends_on)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # unlike safetensors', its errors are OSErrors
    write_json(path.with_suffix(".json"), depends_on)


def load(path: Path, depends_on: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The tensors in `path` if they were made from exactly this, else None."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") == fingerprint(depends_on):
                log.info("reusing %s", path)
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        log.warning("%s cannot be read (%s): fitting again", path, error)
        return None
    log.info("%s was made from other data or settings: fitting again", path)
    return None
