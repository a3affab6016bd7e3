"""Anonymized embedding data sets: extract, anonymize, probe.

Importing this package is cheap: heavy libraries are imported by the modules that use them.
"""

import ctypes
import os

__version__ = "0.1.0"

# How long OpenMP's idle threads keep a core busy before they sleep, read when torch is loaded.
# libgomp's default is milliseconds: two processes of small steps on two cores then take eight
# times as long as with this value, which costs a process that is alone up to a tenth.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _reuse_freed_memory() -> None:
    """Have glibc keep freed blocks, of up to 1 GiB, for the next intermediate result.

    By default it returns them to the system and gets them anew page by page, which takes a sixth
    of the time of a network's forward pass or a training step. Other C libraries are left alone.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_... of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 32 << 20):  # 32: the old limit
        mallopt(trim_threshold, (1 << 31) - 1)


_reuse_freed_memory()
