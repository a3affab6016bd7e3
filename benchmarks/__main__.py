"""Time and memory of the method's parts, beside their targets: a table, and JSON of it.

python -m benchmarks
python -m benchmarks ksame-dense-k5 cvae-dense --markdown table.md
"""

from __future__ import annotations

import logging
import multiprocessing
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.items import ITEMS, Item
from src import cli
from src.core import progress
from src.core.errors import UnknownNameError
from src.core.files import read_json, write_json, write_text
from src.core.tables import markdown

RELEASED = Path(__file__).with_name("released_timings.json")
TITLES = {
    "title": "item",
    "seconds": "time",
    "yardstick_gflops": "yardstick, GFLOP/s",
    "of_yardstick": "of yardstick",
    "of_baseline": "of bare work",
    "memory_gib": "memory, GiB",
    "released_seconds": "released, scaled",
    "speed_up": "speed-up",
    "target": "to reach",
    "ok": "",
}


def measured(item: Item, device: str) -> dict[str, Any]:
    """The row of an item, measured in a fresh process, so that peak memory is its own."""
    from benchmarks.tasks import measure_item

    spawn, quiet = multiprocessing.get_context("spawn"), logging.WARNING  # each repeat has them
    with ProcessPoolExecutor(1, spawn, logging.disable, (quiet,)) as process:
        result = process.submit(measure_item, item.name, item.repeats, device).result()
    found = result._asdict()
    times = read_json(RELEASED)
    released = None
    if device == "cpu" and item.name in times:
        released = times[item.name] * times["yardstick_gflops"] / found["yardstick_gflops"]
    row = {
        "name": item.name,
        "title": item.title,
        **found,
        "released_seconds": released,
        "speed_up": released and released / found["seconds"],
        "target": ", ".join(target.text for target in item.targets),
    }
    met = [target.met(row) for target in item.targets]
    return {**row, "ok": None if not met or None in met else all(met)}


def machine(device: str) -> dict[str, Any]:
    """What the table was measured on."""
    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else model
    threads = torch.get_num_threads()
    return {"device": name, "threads": threads, "torch": version("torch")}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table that can be read as it is."""
    cells = ([_cell(key, row[key]) for key in TITLES] for row in rows)
    return markdown(list(TITLES.values()), cells)


def _cell(key: str, value: Any) -> str:
    if key == "ok":
        return {True: "ok", False: "missed", None: ""}[value]
    if value is None:
        return "–"
    if key in ("seconds", "released_seconds"):
        return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
    if key in ("of_yardstick", "of_baseline"):
        return f"{value:.0%}"
    if key == "speed_up":
        return f"{value:.3g}×"
    return value if isinstance(value, str) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the chosen items one after another; print and write the table."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(ITEMS)}")
    parser.add_argument("--quick", action="store_true", help="without n = 20,000 and 50,000")
    parser.add_argument(
        "--output",
        type=cli.output_file({".json": b'{\n "machine"'}),
        default="assets/logs/benchmarks.json",
        metavar="FILE",
        help="JSON (default: %(default)s)",
    )
    table_file = cli.output_file({".md": f"| {TITLES['title']} ".encode()})
    parser.add_argument("--markdown", type=table_file, metavar="FILE", help="the table, to paste")
    args = parser.parse(argv)
    for name in args.items:
        if name not in ITEMS:
            raise UnknownNameError("item", name, ITEMS)

    from src.core import devices

    device = devices.resolve(args.device)
    chosen = [ITEMS[name] for name in args.items] or [
        item
        for item in ITEMS.values()
        if not (args.quick and item.large) and item.device in ("", device.type)
    ]
    bar = progress.bar(chosen, desc="benchmark", unit="item")
    rows = [measured(item, str(device)) for item in bar]
    about = machine(str(device))
    text = "\n\n".join((table(rows), ", ".join(f"{key}: {about[key]}" for key in about)))
    print(text)
    write_json(args.output, {"machine": about, "items": rows})
    if args.markdown:
        write_text(args.markdown, text + "\n")


if __name__ == "__main__":
    cli.run(main)
