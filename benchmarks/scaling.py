"""Time and peak memory of whole commands on 10⁴, 10⁵ and, on request, 10⁶ rows.

python -m benchmarks.scaling
python -m benchmarks.scaling --rows 10000 100000 1000000 --output docs/results/scaling.csv

The rows are draws of 50 Gaussians, written as a database of their own in a temporary folder. Fits
take a fixed number of epochs, so that times can be compared. Memory is the command's largest
resident size, of which the rows themselves are part.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src import cli
from src.core import tables
from src.core.files import replacing
from src.database import Database, EmbeddingSet

CLASSES, HELD_OUT = 50, 1000  # clusters; rows of val and of test
HEAD = ["--num_epochs", "2"]
COMMANDS: dict[str, list[str]] = {
    "k-Same, k = 5": ["anonymize.py", "--anonymizer", "ksame", "--k", "5"],
    "Gaussians": ["anonymize.py", "--anonymizer", "gaussian"],
    "private Gaussians": ["anonymize.py", "--anonymizer", "dpgaussian", "--epsilon", "1"],
    "CVAE, 2 epochs": ["anonymize.py", "--anonymizer", "cvae", "--num_epochs", "2"],
    "head, 2 epochs, and distance": ["probing.py", "--anonymizer", "ksame", "--k", "5", *HEAD],
    "audit, no shadows": [
        "-m",
        "src.audit",
        "--anonymizer",
        "ksame",
        "--k",
        "5",
        "--shadows",
        "0",
    ],
}
HEADER = ["command", "rows", "seconds", "peak memory, GiB", "rows themselves, GiB"]


def write(place: Database, rows: int, dim: int) -> None:
    """Write `rows` training rows (and 1,000 each of the others) of `dim` features."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, dim), dtype=np.float32)
    for split, count in (("train", rows), ("val", HELD_OUT), ("test", HELD_OUT)):
        labels = rng.integers(CLASSES, size=count)
        drawn = rng.standard_normal((count, dim), dtype=np.float32)
        for label, centre in enumerate(centres):
            drawn[labels == label] += centre
        place.write(split, EmbeddingSet(drawn, labels))


def measured(command: Sequence[str], place: Database, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in GiB of a command on that database; NaN where it fails."""
    roots = ["--database_root", str(place.root), "--output_root", str(folder / "logs")]
    if "anonymize.py" in command:
        roots[2:] = ["--ckpt_root", str(folder / "ckpts")]
    where = ["--dataset", place.dataset, "--backbone", place.backbone]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command, *where, *roots, "--quiet"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return float("nan"), float("nan")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Run every command on every number of rows, print the table, write it as CSV if asked."""
    parser = cli.Parser(__doc__)
    count = cli.number(int, minimum=1000)
    parser.add_argument("--rows", type=count, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--dim", type=cli.number(int, minimum=1), default=768, metavar="D")
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="write the table there")
    args = parser.parse(argv)

    spawn = multiprocessing.get_context("spawn")
    found = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            place = Database(Path(folder) / "database", f"rows{rows}", "drawn")
            # In a process of its own: a command's peak memory counts that of what starts it.
            making = spawn.Process(target=write, args=(place, rows, args.dim))
            making.start()
            making.join()
            for name, command in COMMANDS.items():
                seconds, memory = measured(command, place, Path(folder))
                own = rows * args.dim * 4 / 2**30
                found.append([name, f"{rows:,}", f"{seconds:.1f}", f"{memory:.2f}", f"{own:.2f}"])
                print(*found[-1], sep="  ", flush=True)
    found.sort(key=lambda row: list(COMMANDS).index(row[0]))
    print(tables.markdown(HEADER, found))
    if args.output:
        with replacing(args.output) as path, path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *found])


if __name__ == "__main__":
    cli.run(main)
