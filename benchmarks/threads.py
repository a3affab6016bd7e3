"""Fits on one thread, on as many as they choose of all, and with every operation shared by all.

python -m benchmarks.threads
python -m benchmarks.threads cvae-dense head-digits --repeats 9

The three ways take turns, so that a busy machine is as busy for each. The last is torch's own
way, OpenMP, which fits do not use: it is here to show why.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli
from src.core import progress
from src.core.errors import UnknownNameError
from src.core.tables import markdown

if TYPE_CHECKING:
    import torch

ROWS = (
    *("cvae-digits", "cvae-dense", "cvae-wide", "head-digits", "head-dense", "head-wide"),
    *("heads-digits", "heads-wide", "logistic-2", "online-digits"),
)
SLOWER = 1.05  # than one thread: no row may be, by more than this


def compare(name: str, repeats: int) -> tuple[float, float, float]:
    """Median seconds of a benchmark's row: on one thread, on those chosen of all, shared."""
    import torch

    from benchmarks.tasks import TASKS

    every = torch.get_num_threads()
    times: tuple[list[float], ...] = ([], [], [])
    with tempfile.TemporaryDirectory() as folder, progress.silenced():
        run = TASKS[name](torch.device("cpu"), Path(folder)).run
        for _ in range(repeats + 1):  # the first only warms up
            for way, kept in zip((_on(1), _on(every), _shared()), times, strict=True):
                with way:
                    kept.append(_seconds(run))
    one, chosen, shared = (statistics.median(kept[1:]) for kept in times)
    return one, chosen, shared


@contextmanager
def _on(threads: int) -> Iterator[None]:
    """Within the block, torch has so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _shared() -> Iterator[None]:
    """Within the block, all threads share each operation of a fit."""
    from src.core import threads

    @contextmanager
    def team(device: torch.device) -> Iterator[threads.Team]:
        yield threads.Team(1)

    before, threads.team = threads.team, team
    try:
        yield
    finally:
        threads.team = before


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where several threads are slower than one."""
    parser = cli.Parser(__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--repeats",
        type=cli.number(int, minimum=1),
        default=7,
        metavar="N",
        help="runs of each way (default: %(default)s)",
    )
    args = parser.parse(argv)
    for name in args.rows:
        if name not in ROWS:
            raise UnknownNameError("row", name, ROWS)
    import torch

    lines, slow = [], []
    for name in progress.bar(args.rows or ROWS, desc="rows", unit="row"):
        one, chosen, shared = compare(name, args.repeats)
        lines.append(
            [name, *(f"{1000 * t:.0f} ms" for t in (one, chosen, shared)), f"{one / chosen:.2f}×"]
        )
        if chosen > SLOWER * one:
            slow.append(name)
    titles = ["row", "one thread", f"chosen of {torch.get_num_threads()}", "shared", "gain"]
    print(markdown(titles, lines))
    if slow:
        print(f"slower than one thread: {', '.join(slow)}", file=sys.stderr)
    return int(bool(slow))


if __name__ == "__main__":
    cli.run(main)
