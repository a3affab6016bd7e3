"""Several processes that share one extraction: `torchrun --nproc_per_node=N create_db.py ...`.

Without torchrun every function here is that of a single process. Nothing heavy is imported
before it is needed.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from src.core.errors import InputError

if TYPE_CHECKING:
    import torch

_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=1)  # the others wait while rank 0 downloads


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in _LAUNCHED)


def rank() -> int:
    """The number of this process; process 0 writes and reports."""
    return int(os.environ["RANK"]) if is_launched() else 0


def world_size() -> int:
    """The number of processes."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else 1


@contextmanager
def session() -> Iterator[None]:
    """Run the block as one of torchrun's processes; only rank 0 shows progress and notes.

    Where several processes fail, only the first reports it; torchrun then ends the others.
    """
    if not is_launched():
        yield
        return
    if rank() > 0:
        os.environ["TQDM_DISABLE"] = "1"
        logging.disable(logging.INFO)
    import torch
    from torch.distributed.rendezvous import rendezvous

    # The processes meet before anything can fail: an open connection tells of a failure.
    store, number, processes = next(rendezvous("env://", timeout=_PATIENCE))
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend, timeout=_PATIENCE, store=store, rank=number, world_size=processes
        )
        yield
    except InputError:
        with suppress(RuntimeError):  # rank 0 kept the store and has ended
            if store.add("failures", 1) > 1:
                sys.exit(2)
        raise
    torch.distributed.destroy_process_group()


def device(name: str) -> torch.device:
    """Resolve a device's name; of several processes each takes the CUDA device of its own number.

    Raises:
        DeviceError: this machine has no such device.
    """
    import torch

    from src.core import devices

    if is_launched() and torch.cuda.is_available() and name in ("auto", "cuda"):
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    resolved = devices.resolve(name)
    if resolved.type == "cuda":
        torch.cuda.set_device(resolved)
    return resolved


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block in rank 0, then in the others, which find what rank 0 has downloaded."""
    if rank() > 0:
        _wait_for_all()
    yield
    if rank() == 0:
        _wait_for_all()


def share(rows: torch.Tensor, bounds: Sequence[int]) -> None:
    """Complete `rows` in every process, in place.

    Args:
        rows: (n, D); in process r the rows bounds[r]:bounds[r + 1] are filled in.
        bounds: world_size + 1 row numbers, from 0 to n.
    """
    import torch

    _wait_for_all()  # on the host, where waiting for a process that has ended is noticed
    for source in range(world_size() if is_launched() else 0):
        part = rows[bounds[source] : bounds[source + 1]]
        if len(part):
            torch.distributed.broadcast(part, src=source)


def _wait_for_all() -> None:
    if not is_launched():
        return
    import torch

    try:
        torch.distributed.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"another process of this run has ended early ({reason})") from error
