"""Random numbers: every consumer has a stream of its own, named after what it draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

STATE = slice(24, 24 + 8 * 624)  # of the Mersenne Twister in a CPU generator: 624 words of 32 bits


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the stream of that name, so that streams of one seed are independent."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded for the named stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream))


def secret_generator(
    key: str, seed: int, stream: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator that only those who have the key can rebuild.

    `manual_seed` keeps 32 bits of a seed on a CPU, few enough to try them all: here the whole
    state is expanded from the key (SHAKE-256). On a GPU a generator has 64 bits, all of them used.
    """
    expanded = hashlib.shake_256(f"{key}/{seed}/{stream}".encode())
    made = torch.Generator(device)
    if made.device.type != "cpu":
        return made.manual_seed(int.from_bytes(expanded.digest(8), "little"))
    state = made.manual_seed(0).get_state()  # with nothing drawn: all words are mixed first
    words = np.frombuffer(expanded.digest(4 * 624), "<u4").astype(np.uint64)  # each in 8 bytes
    state[STATE] = torch.from_numpy(words.view(np.uint8))
    return made.set_state(state)


@contextmanager
def global_seed(seed: int, stream: str) -> Iterator[None]:
    """Seed torch's global CPU generator within the block (module initialisation draws from it)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, stream))
        yield
