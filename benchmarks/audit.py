"""The audit's figures on the digits for every kind of release, over seeds, as a table.

python -m benchmarks.audit

Audits that are there, made with the same settings and inputs, are kept: an interrupted run goes
on, and runs of some seeds or releases side by side serve one of all.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import anonymizers, cli
from src.audit import results
from src.audit.measures import MEASURES

if TYPE_CHECKING:
    from src.anonymizers import Resources
    from src.audit.results import AuditSettings
    from src.database import Splits

DATASET, BACKBONE = "digits", "pixels"
SEEDS = range(5)
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("identity", {}),
    "k-Same 2": ("ksame", {"k": 2}),
    "k-Same 5": ("ksame", {"k": 5}),
    "k-Same 10": ("ksame", {"k": 10}),
    "gaussian": ("gaussian", {}),
    "CVAE": ("cvae", {}),
    "PLAN 5": ("plan", {"k": 5}),
}


def audited(
    splits: Splits,
    name: str,
    values: Mapping[str, Any],
    seed: int,
    *,
    options: AuditSettings,
    output_root: Path,
    resources: Resources,
) -> dict[str, Any]:
    """The figures of one audit as its file has them, found or made.

    Args:
        name, values: of the anonymizer and its settings.
    """
    from src.audit.run import audit_to_file

    anonymizer = anonymizers.get(name)
    settings = anonymizer.parse(values)
    release_id = anonymizer.release_id(settings, seed)
    path = results.audit_path(output_root, DATASET, BACKBONE, release_id, seed)
    released = anonymizers.anonymize(
        anonymizer, settings, splits.train, splits.val, seed=seed, resources=resources
    )
    made_from = results.identity(splits, released, anonymizer, settings, seed=seed, audit=options)
    found = results.read(path, made_from)
    if found is None:
        audit_to_file(
            path, splits, released, anonymizer, settings,
            dataset=DATASET, backbone=BACKBONE, seed=seed, options=options, resources=resources,
        )  # fmt: skip
        found = results.read(path, made_from)
    assert found is not None
    return found["figures"]


def table(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A Markdown table: a row a figure, a column a release, mean ± deviation over seeds.

    Args:
        figures: for each release those of each seed, as in the files.
    """
    lines = ["| | " + " | ".join(figures) + " | chance |", "|---" * (len(figures) + 2) + "|"]
    for key, row in MEASURES.items():
        cells = [_cell([seed[key]["value"] for seed in seeds]) for seeds in figures.values()]
        first = next(iter(figures.values()))
        cells.append(_cell([seed[key]["chance"] for seed in first]))
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(estimates: Sequence[Mapping[str, float | None]]) -> str:
    values = [e["value"] for e in estimates if e["value"] is not None]
    if not values:
        return "n/a"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def better_than(figures: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> list[str]:
    """Attacks that do better on another release than on `title`, by means over seeds."""
    found = []
    for key, row in MEASURES.items():
        if row.useless is None:
            continue
        means = {
            name: statistics.mean(seed[key]["value"]["value"] for seed in seeds)
            for name, seeds in figures.items()
            if all(seed[key]["value"]["value"] is not None for seed in seeds)
        }
        found += [f"{row.label}: {n}" for n, mean in means.items() if mean > means[title]]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where some release is worse than releasing the training rows."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    cli.add_output_flag(parser, "assets/logs_audit")
    parser.add_argument(
        "--releases", nargs="+", choices=RELEASES, default=list(RELEASES), metavar="NAME",
        help=f"some of: {', '.join(RELEASES)} (default: all; PLAN takes most of the time)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=cli.number(int, minimum=0), nargs="+", default=SEEDS)
    args = parser.parse(argv)

    from benchmarks.data import digits
    from src import devices, progress

    splits = digits()
    resources = anonymizers.Resources(devices.resolve(args.device))
    options = results.AuditSettings()
    figures: dict[str, list[dict[str, Any]]] = {title: [] for title in args.releases}
    runs = [(title, seed) for title in args.releases for seed in args.seeds]
    for title, seed in progress.bar(runs, desc="audits", unit="audit"):
        with progress.silenced():
            figures[title].append(
                audited(
                    splits, *RELEASES[title], seed,
                    options=options, output_root=args.output_root, resources=resources,
                )
            )  # fmt: skip
    print(table(figures))
    if "identity" not in figures:
        return 0
    worse = better_than(figures, "identity")
    print(*(worse or ["identity ranks worst on every attack"]), sep="\n")
    return int(bool(worse))


if __name__ == "__main__":
    cli.run(main)
