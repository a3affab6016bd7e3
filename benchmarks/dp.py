"""What a guarantee costs: utility and attacks on the digits for several ε, over seeds.

python -m benchmarks.dp

The bound is what (ε, δ) allows any attack whatever; the attacks are those of the audit. Noise
comes from the seeds alone here, so that anybody gets the same table: no way to release data.
Audits that are there are kept: an interrupted run goes on.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.audit import audited
from src import anonymizers, cli
from src.audit import results

if TYPE_CHECKING:
    from src.anonymizers import Resources
    from src.database import Splits

SEEDS = range(5)
SIGMAS = (0.0, 1.0, 2.0, 4.0)
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "originals": ("identity", {}),
    "none (CVAE)": ("cvae", {}),
    **{f"{epsilon}": ("dpcvae", {"epsilon": float(epsilon)}) for epsilon in (16, 8, 4, 1)},
}
FPR = 0.01
TPR = f"tpr_at_{FPR:g}"
ATTACKS = ("nearest", "calibrated", "shadow")


def measured(
    splits: Splits, name: str, values: Mapping[str, Any], seed: int, resources: Resources
) -> dict[str, float]:
    """Utility and distance of one release, and what its (ε, δ) allows an attack."""
    from src import probe
    from src.audit.statistics import tpr_bound

    anonymizer = anonymizers.get(name)
    released = anonymizers.anonymize(
        anonymizer, anonymizer.parse(values), splits.train, splits.val,
        seed=seed, resources=resources,
    )  # fmt: skip
    settings = probe.HeadSettings()
    fitted = probe.probe_release(splits, released, settings, seed=seed, device=resources.device)
    scores = [probe.evaluate(fitted, splits.test, sigma, seed=seed) for sigma in SIGMAS]
    facts = released.meta["facts"]
    bound = 1.0
    if "epsilon" in facts:
        bound = float(tpr_bound(np.array(FPR), facts["epsilon"], facts["delta"]))
    return {
        **{f"AUC σ={sigma:g}": s.auc for sigma, s in zip(SIGMAS, scores, strict=True)},
        "distance": fitted.average_mindistance or 0.0,
        "bound": bound,
    }


def audit_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """Coverage, the AUC of each membership attack that an audit has, and the most TPR of them."""
    values = {
        f"{attack} {figure}": figures[f"{attack}_{figure}"]["value"]["value"]
        for attack in ATTACKS
        for figure in ("auc", TPR)
        if f"{attack}_{figure}" in figures
    }
    aucs = {name: value for name, value in values.items() if name.endswith("auc")}
    highest = max(value for name, value in values.items() if name.endswith(TPR))
    return {"coverage": figures["coverage"]["value"]["value"], **aucs, f"TPR at {FPR:g}": highest}


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A Markdown table: a row a release, mean ± deviation over seeds."""
    columns = list(next(iter(rows.values()))[0])
    lines = ["| ε | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for title, seeds in rows.items():
        cells = []
        for column in columns:
            values = [seed[column] for seed in seeds]
            digits = 3 if max(values) <= 1 else 2
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    cli.add_output_flag(parser, "assets/logs_audit")
    parser.add_argument(
        "--shadows", type=cli.number(int, minimum=0), default=16,
        help="releases made anew for each shadow attack, most of the time; 0 leaves it out "
        "(default: %(default)s)",
    )  # fmt: skip
    args = parser.parse(argv)

    from benchmarks.data import digits
    from src import devices, progress

    splits = digits()
    resources = anonymizers.Resources(devices.resolve(args.device))
    options = results.AuditSettings(shadows=args.shadows)
    rows: dict[str, list[dict[str, float]]] = {title: [] for title in RELEASES}
    runs = [(title, seed) for seed in SEEDS for title in RELEASES]
    for title, seed in progress.bar(runs, desc="releases", unit="release"):
        with progress.silenced():
            figures = audited(
                splits, *RELEASES[title], seed,
                options=options, output_root=args.output_root, resources=resources,
            )  # fmt: skip
            utility = measured(splits, *RELEASES[title], seed, resources)
        bound = utility.pop("bound")
        rows[title].append({**utility, **audit_figures(figures), "its bound": bound})
    print(table(rows))


if __name__ == "__main__":
    cli.run(main)
