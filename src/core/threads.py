"""How many threads a fit uses: what the machine is faster with, never what changes a result.

A fit runs each of torch's operations on one thread. OpenMP's shared operations are for large
tensors: in steps of less than a millisecond its threads mostly wait for each other, and some
products are rounded as they are shared. Steps that are large enough are cut into parts by their
sizes alone, and a team works on the parts: the bytes are the same whoever computes which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")

PART_FLOP = 1e8  # floating-point operations of a part, about a millisecond's
MOST_PARTS = 4  # of a step
FEWEST_ROWS = 32  # of a part: products of fewer are slow
TRIALS = 3  # steps that are timed each way


@contextmanager
def one() -> Iterator[int]:
    """Have torch use one thread within the block → the number before, which is given back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def parts(rows: int, flop: float) -> list[slice]:
    """Cut the rows of a step of `flop` operations, by sizes alone."""
    count = max(1, min(MOST_PARTS, int(flop / PART_FLOP), rows // FEWEST_ROWS))
    bounds = [rows * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


class Team:
    """Threads that work on the parts of a step, side by side where that is faster.

    The first steps are timed both ways. Parts must not read what another one writes.
    """

    def __init__(self, threads: int) -> None:
        """Start no thread before there is work for two."""
        self._others = threads - 1
        self._pool = _pool(self._others) if self._others else None
        self._times: dict[bool, list[float]] = {True: [], False: []}
        self._together: bool | None = None if self._pool else False
        self._shared, self._rows = False, 0

    def run(self, tasks: Sequence[Callable[[], object]]) -> None:
        """Perform all tasks; when it returns, or raises, none is running."""
        self._shared = True
        together = self._choice() if self._together is None else self._together
        if not together or not self._pool:
            for task in tasks:
                task()
            return
        left = iter(tasks)  # whoever is free takes the next one

        def work() -> None:
            for task in left:
                task()

        others = [self._pool.submit(_unrecorded, work) for _ in range(self._others)]
        try:
            work()
        finally:
            wait(others)
        for other in others:
            other.result()

    @contextmanager
    def step(self, rows: int) -> Iterator[None]:
        """A step of a fit; until it is known which way is faster, its time counts."""
        if self._together is not None or rows < self._rows:  # a smaller last batch tells nothing
            yield
            return
        self._shared, self._rows, begun = False, rows, time.perf_counter()
        yield
        if self._shared:
            self._times[self._choice()].append(time.perf_counter() - begun)
            if len(self._times[False]) > TRIALS:  # the first of each way only warms up
                alone, together = (min(self._times[way][1:]) for way in (False, True))
                self._together = together < alone

    def _choice(self) -> bool:
        return len(self._times[True]) <= len(self._times[False])

    def ahead(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each made by another thread while the one before is in use."""
        if not self._pool:
            yield from items
            return
        source = iter(items)
        coming = self._pool.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = self._pool.submit(next, source, None)
            yield item

    def close(self) -> None:
        """Wait for what is running."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """A team with as many threads as torch has; on a GPU there is no use for a second one."""
    with one() as before:
        found = Team(before if device.type == "cpu" else 1)
        try:
            yield found
        finally:
            found.close()


def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@torch.no_grad()
def _unrecorded(task: Callable[[], object]) -> None:
    task()
