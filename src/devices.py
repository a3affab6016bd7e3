"""Which device the arithmetic runs on."""

from __future__ import annotations

import os

import torch

from src.errors import DeviceError


def resolve(name: str) -> torch.device:
    """The device of that name: `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda[:N]` or `mps`.

    Raises:
        DeviceError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            raise DeviceError(f"device '{name}' is not there: {count} CUDA devices found")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not there: this machine has no Metal device")
    return torch.device(name)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device now (of the machine's memory but for CUDA)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
