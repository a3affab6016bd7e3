"""Random numbers: every consumer has a stream of its own, named after what it draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the stream of that name, so that streams of one seed are independent."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded for the named stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream))


@contextmanager
def global_seed(seed: int, stream: str) -> Iterator[None]:
    """Seed torch's global CPU generator within the block (module initialisation draws from it)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, stream))
        yield
