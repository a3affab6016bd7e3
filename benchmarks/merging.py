"""Four sites that merge their releases, beside one site with all rows.

python -m benchmarks.merging
python -m benchmarks.merging --seeds 0 1 2 --epsilon 4

The digits' training rows are dealt to four sites. Added up, their sums have four times the
variance of one site's noise: the whole is released with that noise, and with a site's own.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import data
from src import cli
from src.anonymizers import cvae
from src.anonymizers.dp import analytic, dpgaussian
from src.anonymizers.settings import SumSettings
from src.core import devices, progress, tables
from src.core.devices import Resources
from src.database import Database, EmbeddingSet, Splits
from src.networks.adding import added
from src.networks.gaussians import Gaussians
from src.probing import head
from src.probing.settings import HeadSettings

SITES = 4
DELTA = 1e-5
HEAD = HeadSettings(head="logistic", clip=10.0)
ONE, MERGED, WHOLE, LESS = (
    *("one site", "four sites, merged"),
    *("all rows at one site, as much noise", "all rows at one site, a site's noise"),
)


def measured(splits: Splits, epsilon: float, seed: int, resources: Resources) -> dict[str, float]:
    """AUC of a head on each release, on real test rows, in percent."""
    settings = SumSettings(epsilon=epsilon, delta=DELTA)
    whole = analytic.noise_multiplier(epsilon, DELTA)
    noisier = analytic.epsilon(whole * SITES**0.5, DELTA)
    order = np.random.default_rng(seed).permutation(len(splits.train))

    def fitted(rows: EmbeddingSet, given: SumSettings) -> Gaussians:
        return dpgaussian.fit(rows, given, seed=seed, resources=resources).sampler

    sites = [fitted(_chosen(splits.train, order[i::SITES]), settings) for i in range(SITES)]
    releases = {
        ONE: sites[0],
        MERGED: Gaussians(added([site.sums for site in sites]).sums),
        WHOLE: fitted(splits.train, replace(settings, epsilon=noisier)),
        LESS: fitted(splits.train, settings),
    }
    return {name: _auc(splits, sampler, seed, resources) for name, sampler in releases.items()}


def _chosen(train: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    return EmbeddingSet(train.embeddings[rows], train.labels[rows], train.meta)


def _auc(splits: Splits, sampler: Gaussians, seed: int, resources: Resources) -> float:
    released = EmbeddingSet(*cvae.draws(sampler, seed=seed), splits.train.meta)
    fitted = head.fit(released, splits, HEAD, seed=seed, device=resources.device)
    return head.evaluate(fitted, splits.test, seed=seed).auc


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all seeds and print the table, with the difference of what should be alike."""
    args = _parse(argv)
    logging.disable(logging.WARNING)
    splits = data.digits()
    if args.backbone != "pixels":
        splits = Database(args.database_root, "digits", args.backbone).read()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        resources = devices.resources(args.device, Path(folder))
        for seed in progress.bar(args.seeds, desc=args.backbone, unit="seed"):
            for name, auc in measured(splits, args.epsilon, seed, resources).items():
                found.setdefault(name, []).append(auc)
    lines = [[name, tables.mean_and_deviation(aucs, 2)] for name, aucs in found.items()]
    print(tables.markdown(["release", f"AUC (%), ε = {args.epsilon:g}"], lines))
    both = np.array([found[MERGED], found[WHOLE]])
    error = (both.var(1, ddof=1).sum() / len(args.seeds)) ** 0.5
    off = both.mean(1)[0] - both.mean(1)[1]
    print(f"{MERGED} - {WHOLE}: {off:.2f}, standard error {error:.2f}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    cli.add_folder_flag(parser, "--database_root", "assets/database", "embeddings")
    seed = cli.number(int, minimum=0)
    parser.add_argument("--seeds", type=seed, nargs="+", default=range(10), metavar="S")
    positive = cli.number(float, minimum=1e-3)
    parser.add_argument("--epsilon", type=positive, default=4.0, metavar="E", help="of each site")
    text = "pixels, or one that the digits were embedded with (default: %(default)s)"
    parser.add_argument("--backbone", default="pixels", metavar="NAME", help=text)
    return parser.parse(argv)


if __name__ == "__main__":
    cli.run(main)
