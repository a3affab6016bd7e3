"""PLAN beside its baselines on the digits, over seeds: distance, identifiability, utility.

python -m benchmarks.plan
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

from src import cli

if TYPE_CHECKING:
    from src.anonymizers import Resources
    from src.database import EmbeddingSet, Splits
    from src.models.classifier import Classifier

SEEDS = range(5)
WEIGHTS = (0.1, 1.0, 10.0)
OTHER = 1000  # added to the seed for an identity classifier that no path was optimised against


class Measures(NamedTuple):
    """What is measured of a release; the titles of the table's columns."""

    rows: float
    distance: float  # to the nearest real row, mean over rows, in the embeddings' units
    distance_5: float  # its 5 % quantile
    confidence: float  # mean probability of the likeliest identity, by the walk's own classifier
    confidence_other: float  # by an identity classifier of another seed
    class_loss: float  # mean cross-entropy of the task classifier, nats
    auc: float  # of a linear head on the release, on real test rows, percent


TITLES = ("rows", "distance", "5 %", "confidence", "(other)", "class loss", "AUC")


def releases(
    k: int, path_points: int, weights: Sequence[float]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The table's rows: title → anonymizer and settings."""
    line = {"k": k, "path_points": path_points}
    return {
        "real rows": ("identity", {}),
        "cvae": ("cvae", {}),
        "latent-ksame": ("latent-ksame", {"k": k}),
        "latent-linear": ("latent-linear", line),
        **{f"plan, weight {w:g}": ("plan", {**line, "privacy_weight": w}) for w in weights},
    }


def measure(
    splits: Splits,
    released: EmbeddingSet,
    judges: tuple[Classifier, Classifier, Classifier],
    *,
    seed: int,
) -> Measures:
    """Measure a release; the judges are two identity classifiers and the task classifier."""
    import torch

    from src import metrics, probe
    from src.head import HeadSettings

    own, other, task = judges
    rows, labels = released.tensors(own.mean.device)
    originals, _ = splits.train.tensors(rows.device)
    distances = metrics.nearest(rows, originals).distances[:, 0]
    with torch.no_grad():
        by_own, by_other = (float(who(rows).softmax(1).amax(1).mean()) for who in (own, other))
        class_loss = float(task.loss(rows, labels))
    head = probe.probe_release(splits, released, HeadSettings(), seed=seed, device=rows.device)
    return Measures(
        len(rows),
        float(distances.mean()),
        float(distances.quantile(0.05)),
        by_own,
        by_other,
        class_loss,
        probe.evaluate(head, splits.test, 0.0, seed=seed).auc,
    )


def run(
    splits: Splits,
    table_rows: dict[str, tuple[str, dict[str, Any]]],
    *,
    seed: int,
    resources: Resources,
) -> dict[str, Measures]:
    """All rows of the table for one seed."""
    from src import anonymizers, classifiers
    from src.anonymizers.settings import PlanSettings

    jitter = PlanSettings.identity_jitter
    own, other = (
        classifiers.fit_identity(splits.train, jitter=jitter, seed=s, resources=resources)
        for s in (seed, seed + OTHER)
    )
    task = classifiers.fit_task(splits.train, splits.val, seed=seed, resources=resources)
    measured = {}
    for title, (name, values) in table_rows.items():
        entry = anonymizers.get(name)
        released = anonymizers.anonymize(
            entry, entry.parse(values), splits.train, splits.val, seed=seed, resources=resources
        )
        measured[title] = measure(splits, released, (own, other, task), seed=seed)
    return measured


def table(runs: Sequence[dict[str, Measures]]) -> str:
    """Markdown: mean ± standard deviation over the runs."""
    lines = [f"| release | {' | '.join(TITLES)} |", "|---" * (len(TITLES) + 1) + "|"]
    for title in runs[0]:
        rows, *columns = zip(*(run[title] for run in runs), strict=True)
        cells = [f"{mean(rows):.0f}"]
        for values, digits in zip(columns, (3, 3, 3, 3, 3, 2), strict=True):
            cells.append(f"{mean(values):.{digits}f} ± {pstdev(values):.{digits}f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def margins(runs: Sequence[dict[str, Measures]], plan: str) -> dict[str, list[float]]:
    """What PLAN is to show against its baselines → by how much it does in each run."""
    rows = [(run[plan], run["latent-linear"], run["latent-ksame"]) for run in runs]
    return {
        "mean distance above latent-linear": [p.distance - n.distance for p, n, _ in rows],
        "5 % distance above latent-linear": [p.distance_5 - n.distance_5 for p, n, _ in rows],
        "confidence below latent-linear": [n.confidence - p.confidence for p, n, _ in rows],
        "confidence (other) below latent-linear": [
            n.confidence_other - p.confidence_other for p, n, _ in rows
        ],
        "AUC above latent-linear": [p.auc - n.auc for p, n, _ in rows],
        "AUC above latent-ksame": [p.auc - s.auc for p, _, s in rows],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, and in how many runs each claim holds for each weight."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    parser.add_argument("--k", type=cli.number(int, minimum=2), default=5)
    parser.add_argument("--path_points", type=cli.number(int, minimum=3), default=12)
    parser.add_argument("--seeds", type=cli.number(int, minimum=0), nargs="+", default=SEEDS)
    parser.add_argument(
        "--weights", type=cli.number(float, minimum=0), nargs="+", default=WEIGHTS, metavar="W"
    )
    args = parser.parse(argv)

    from benchmarks.data import digits
    from src import devices
    from src.anonymizers import Resources

    splits, device, runs = digits(), devices.resolve(args.device), []
    rows = releases(args.k, args.path_points, args.weights)
    with tempfile.TemporaryDirectory() as folder:  # one fit of each model serves all releases
        for seed in args.seeds:
            runs.append(run(splits, rows, seed=seed, resources=Resources(device, Path(folder))))
    seeds = ", ".join(map(str, args.seeds))
    print(f"digits/pixels, k = {args.k}, T = {args.path_points}, seeds {seeds}\n")
    print(table(runs))
    for weight in args.weights:
        print(f"\nplan, weight {weight:g}:")
        for claim, by in margins(runs, f"plan, weight {weight:g}").items():
            held = sum(margin >= 0 for margin in by)
            print(f"  {claim} by {mean(by):.3f} ± {pstdev(by):.3f}, in {held} of {len(by)} runs")


if __name__ == "__main__":
    cli.run(main)
