"""Which device the arithmetic runs on, how much memory it has, and what a fit may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.core.errors import DeviceError

if TYPE_CHECKING:
    import torch

_MEMORY, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Resources:
    """What a method may use; the results depend on the device's arithmetic alone."""

    device: torch.device
    ckpt_folder: Path | None = None  # where fitted models are kept and found; None keeps none
    memory: int = 4 << 30  # bytes for intermediate results
    workers: Any = None  # a Dask client, for fits that do not need each other; None: this process


def resources(name: str, ckpt_folder: Path | None = None, share: float = 0.5) -> Resources:
    """The device of that name with a share of its free memory.

    Raises:
        DeviceError: this machine has no such device.
    """
    device = resolve(name)
    return Resources(device, ckpt_folder, int(share * free_memory(device)))


def resolve(name: str) -> torch.device:
    """The device of that name: `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda[:N]` or `mps`.

    Raises:
        DeviceError: this machine has no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            raise DeviceError(f"device '{name}' is missing: {count} CUDA devices found")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is missing: this machine has no Metal device")
    return torch.device(name)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device now (of the machine's memory, except on CUDA).

    A control group's limit counts (a container's, a batch job's). Where the system does not tell,
    it is 4 GiB.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:  # not Linux
        return 4 << 30
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    try:
        limit, used = (int((_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no group, or no limit ("max")
        return free
    return max(0, min(free, limit - used))
