"""Files of named tensors (safetensors), read as if an enemy had written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load
from safetensors.torch import save as serialized
from torch import Tensor

from src.core.files import parse_json

LONGEST_HEADER = 1 << 16  # bytes; a model's has some hundred per tensor


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file of these tensors; the same bytes wherever they are made."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return serialized(plain, metadata=dict(metadata))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU and the metadata of a file. To be called inside `files.reading`.

    Raises:
        ValueError: the header is longer than that of any model.
        Exception: the file is damaged.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes is longer than {LONGEST_HEADER}")
    header = parse_json(content[8 : 8 + length].decode())
    return load(content), dict(header.get("__metadata__", {}))
