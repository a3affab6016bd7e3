"""PLAN beside its baselines on the digits, over seeds: distance, identifiability, utility.

python -m benchmarks.plan
python -m benchmarks.plan --seeds 0 --figure path.png
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import path_figure
from src import cli
from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.anonymizers.methods import Plan
from src.core.tables import markdown, mean_and_deviation

if TYPE_CHECKING:
    from src.core.devices import Resources
    from src.database import EmbeddingSet, Splits
    from src.networks.heads import Classifier

SEEDS = range(5)
WEIGHTS = (0.1, 1.0, 10.0)  # the paper's, the default, and more
OTHER = 1000  # added to the seed for an identity classifier that no path was optimised against


class Measures(NamedTuple):
    """What is measured of a release: the table's columns."""

    rows: float
    distance: float  # to the nearest real row, mean over rows, in the embeddings' units
    distance_5: float  # its 5 % quantile
    confidence: float  # mean probability of the likeliest identity, by the walk's own classifier
    confidence_other: float  # by an identity classifier of another seed
    class_loss: float  # mean cross-entropy of the task classifier, nats
    auc: float  # of a linear head on the release, on real test rows, percent


TITLES = ("rows", "distance", "5 %", "confidence", "(other)", "class loss", "AUC")
DECIMALS = (0, 3, 3, 3, 3, 3, 2)


def releases(k: int, path_points: int, weights: Sequence[float]) -> dict[str, Anonymizer]:
    """The table's rows: title → method."""
    plans = {
        f"plan, weight {weight:g}": Plan(k=k, path_points=path_points, privacy_weight=weight)
        for weight in weights
    }
    return {
        "real rows": methods.Identity(),
        "cvae": methods.CVAE(),
        "latent-ksame": methods.LatentKSame(k=k),
        "latent-linear": methods.LatentLinear(k=k, path_points=path_points),
        **plans,
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

    from src.core.distances import nearest
    from src.probing import head
    from src.probing.settings import HeadSettings

    own, other, task = judges
    rows, labels = released.tensors(own.mean.device)
    originals, _ = splits.train.tensors(rows.device)
    distances = nearest(rows, originals).distances[:, 0]
    with torch.no_grad():
        by_own, by_other = (float(who(rows).softmax(1).amax(1).mean()) for who in (own, other))
        class_loss = float(task.loss(rows, labels))
    fitted = head.fit(released, splits, HeadSettings(), seed=seed, device=rows.device)
    return Measures(
        len(rows),
        float(distances.mean()),
        float(distances.quantile(0.05)),
        by_own,
        by_other,
        class_loss,
        head.evaluate(fitted, splits.test, seed=seed).auc,
    )


def run(
    splits: Splits, table_rows: Mapping[str, Anonymizer], *, seed: int, resources: Resources
) -> dict[str, Measures]:
    """All rows of the table for one seed."""
    from src.anonymizers.latent import classifiers

    train, val = splits.train, splits.val
    own, other = (
        classifiers.fit_identity(train, jitter=Plan.identity_jitter, seed=s, resources=resources)
        for s in (seed, seed + OTHER)
    )
    task = classifiers.fit_task(train, val, seed=seed, resources=resources)
    measured = {}
    for title, anonymizer in table_rows.items():
        released = anonymizer.anonymize(train, val, seed=seed, resources=resources)
        measured[title] = measure(splits, released, (own, other, task), seed=seed)
    return measured


def table(runs: Sequence[Mapping[str, Measures]]) -> str:
    """Markdown: mean ± sample standard deviation over the runs."""
    lines = []
    for title in runs[0]:
        rows, *columns = zip(*(run[title] for run in runs), strict=True)
        cells = [f"{sum(rows) / len(rows):.0f}"]
        cells += [mean_and_deviation(c, d) for c, d in zip(columns, DECIMALS[1:], strict=True)]
        lines.append([title, *cells])
    return markdown(["release", *TITLES], lines)


def margins(runs: Sequence[Mapping[str, Measures]], plan: str) -> dict[str, list[float]]:
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


def example(
    train: EmbeddingSet, val: EmbeddingSet, settings: Plan, *, seed: int, resources: Resources
) -> path_figure.Example:
    """The first path of the release, walked alone, as no path depends on the others."""
    import torch

    from src.anonymizers.latent import classifiers, lines, plan, walks

    pairs = lines.lines(train, val, settings, seed=seed, resources=resources)
    first = lines.Lines(pairs.decoder, pairs.starts[:1], pairs.ends[:1], pairs.labels[:1])
    jitter = settings.identity_jitter
    networks = walks.Networks(
        generate=pairs.decoder.embed,
        identify=classifiers.fit_identity(train, jitter=jitter, seed=seed, resources=resources),
        classify=classifiers.fit_task(train, val, seed=seed, resources=resources),
    )
    straight = walks.linear(first.starts, first.ends, settings.path_points)
    walked = plan.walk(first, networks, settings, len(train))
    labels = first.labels.expand(settings.path_points)
    with torch.no_grad():
        straight_rows, walked_rows = (
            pairs.decoder.embed(path[0], labels).cpu().numpy() for path in (straight, walked)
        )
    return path_figure.Example(straight_rows, walked_rows, train.class_names[int(first.labels)])


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
    text = "draw the first path of the first seed, walked with the default weight, .png or .pdf"
    picture = cli.output_file({kind: cli.PICTURES[kind] for kind in path_figure.METADATA})
    parser.add_argument("--figure", type=picture, metavar="FILE", help=text)
    args = parser.parse(argv)

    from benchmarks.data import digits
    from src.core import devices

    splits, runs = digits(), []
    rows = releases(args.k, args.path_points, args.weights)
    with tempfile.TemporaryDirectory() as folder:  # one fit of each model serves all releases
        resources = devices.resources(args.device, Path(folder))
        for seed in args.seeds:
            runs.append(run(splits, rows, seed=seed, resources=resources))
        if args.figure:
            settings = Plan(k=args.k, path_points=args.path_points)
            train, val, first = splits.train, splits.val, args.seeds[0]
            drawn = example(train, val, settings, seed=first, resources=resources)
            path_figure.draw(args.figure, drawn, train)
    seeds = ", ".join(map(str, args.seeds))
    print(f"digits/pixels, k = {args.k}, T = {args.path_points}, seeds {seeds}\n")
    print(table(runs))
    for weight in args.weights:
        print(f"\nplan, weight {weight:g}:")
        for claim, by in margins(runs, f"plan, weight {weight:g}").items():
            held = sum(margin >= 0 for margin in by)
            print(f"  {claim} by {mean_and_deviation(by, 3)}, in {held} of {len(by)} runs")


if __name__ == "__main__":
    cli.run(main)
