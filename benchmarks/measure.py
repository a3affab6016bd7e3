"""Time and memory of one item, beside what the machine attains at that moment."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

PRODUCT = (512, 786, 256)  # the yardstick on a CPU, the one of released_timings.json
CUDA_PRODUCT = (8192, 8192, 8192)  # large enough to keep a GPU busy
PRODUCT_SECONDS = 0.2  # how long the yardstick is measured at a time


@dataclass(frozen=True, kw_only=True)
class Task:
    """What an item runs.

    Attributes:
        run: the work that is timed; its first call is not counted.
        units: of work in one call, such as epochs; times are per unit.
        flop: least floating-point operations per unit; None where that says nothing.
        baseline: the part of the work that cannot be left out; None: the yardstick alone.
        elsewhere: `run` starts processes, whose memory is not known here.
    """

    run: Callable[[], object]
    units: int = 1
    flop: float | None = None
    baseline: Callable[[], object] | None = None
    elsewhere: bool = False


class Measurement(NamedTuple):
    """Medians over the repeats."""

    seconds: float  # per unit
    yardstick_gflops: float  # attained just before and after each repeat
    of_yardstick: float | None  # achieved / attained FLOP/s
    of_baseline: float | None  # the baseline's time / the item's
    memory_gib: float | None  # peak above what was in use before the item ran


def measure(task: Task, repeats: int, device: torch.device) -> Measurement:
    """Run the task `repeats` times, after one run that is not counted if there are several."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = _peak_memory(device)
    if repeats > 1:
        task.run()
    times: list[float] = []
    bare: list[float] = []
    yardsticks = [yardstick(device)]
    for _ in range(repeats):
        times.append(_seconds(task.run, device) / task.units)
        if task.baseline:
            bare.append(_seconds(task.baseline, device) / task.units)
        yardsticks.append(yardstick(device))
    seconds, attained = statistics.median(times), statistics.median(yardsticks)
    return Measurement(
        seconds=seconds,
        yardstick_gflops=attained / 1e9,
        of_yardstick=task.flop / seconds / attained if task.flop else None,
        of_baseline=statistics.median(bare) / seconds if bare else None,
        memory_gib=None if task.elsewhere else (_peak_memory(device) - before) / 2**30,
    )


def yardstick(device: torch.device) -> float:
    """FLOP/s of a float32 matrix product: the median over PRODUCT_SECONDS."""
    rows, inner, columns = CUDA_PRODUCT if device.type == "cuda" else PRODUCT
    a, b = torch.ones(rows, inner, device=device), torch.ones(inner, columns, device=device)
    times: list[float] = []
    while sum(times) < PRODUCT_SECONDS:
        times.append(_seconds(lambda: a @ b, device))
    return 2 * rows * inner * columns / statistics.median(times)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _peak_memory(device: torch.device) -> int:
    """Largest number of bytes in use so far: of a CUDA device's memory, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage starts from the peak of the parent process
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
