"""How this process runs: threads that wait, and memory that is freed."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def tune() -> None:
    """Set what makes small steps fast; call it before torch is imported.

    OpenMP's idle threads keep a core busy for a moment before they sleep. libgomp's default is
    milliseconds: two processes of small steps on two cores then take eight times as long as with
    this value, which costs a process that runs alone up to a tenth.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    _reuse_freed_memory()


def _reuse_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 1 GiB for the next intermediate result.

    By default it returns them to the system and fetches them again page by page, which takes a
    sixth of the time of a network's forward pass or a training step. Other C libraries are left
    alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 32 << 20):  # older limit
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
