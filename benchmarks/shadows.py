"""What shadows of a CVAE cost, and whether cheaper ones would find as much.

python -m benchmarks.shadows --dataset digits --backbone pixels --number 64 --jobs 2
python -m benchmarks.shadows --dataset digits --backbone pixels --number 16 --epochs 5 20 --seeds 3

--epochs compares with stand-ins: shadows whose fits go on from the release's own weights for so
many epochs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from src import cli
from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.core import cluster, devices
from src.core.devices import Resources
from src.database import Database, EmbeddingSet, Splits


def main(argv: Sequence[str] | None = None) -> None:
    """Make the shadows, print what they took and what they find."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_jobs_flags(parser)
    count = cli.number(int, minimum=1)
    parser.add_argument("--number", type=count, default=16, help="of shadows (default: 16)")
    parser.add_argument("--seeds", type=count, default=1, help="0, 1, …; default: one")
    parser.add_argument("--epochs", type=count, nargs="*", default=(), help="of stand-ins")
    args = parser.parse(argv)
    splits = Database(args.database_root, args.dataset, args.backbone).read()
    n, dim = splits.train.embeddings.shape
    print(f"{args.number} shadows of {n} × {dim}; load {os.getloadavg()[0]:.1f}")
    with cluster.client(args.jobs, args.scheduler, "src.audit.shadows") as workers:
        resources = replace(devices.resources(args.device), workers=workers)
        for seed in range(args.seeds):
            for epochs in (None, *args.epochs):
                _report(splits, epochs, args.number, seed, resources)


def _report(
    splits: Splits, epochs: int | None, number: int, seed: int, resources: Resources
) -> None:
    """Print one line: seconds, and the AUC of the shadow attack."""
    cvae = methods.parse("cvae", {})
    here = replace(resources, workers=None)
    released = cvae.anonymize(splits.train, splits.val, seed=seed, resources=here)
    clock, processor = time.perf_counter(), time.process_time()
    if epochs is None:
        found = _auc(splits, released, cvae, number, seed, resources)
    else:
        shorter = methods.parse("cvae", {"num_epochs": epochs})
        with _going_on(splits, seed, here):
            found = _auc(splits, released, shorter, number, seed, here)
    what = (
        "fitted from the start" if epochs is None else f"{epochs} epochs more of the release's own"
    )
    wall, busy = time.perf_counter() - clock, time.process_time() - processor
    print(
        f"seed {seed}, {what}: {wall:.1f} s, {busy:.1f} s of this process's processor time, "
        f"shadow attack's AUC {found:.4f}",
        flush=True,
    )


def _auc(
    splits: Splits,
    released: EmbeddingSet,
    anonymizer: Anonymizer,
    number: int,
    seed: int,
    resources: Resources,
) -> float:
    """How well shadows by this anonymizer tell the release's rows from test rows."""
    from sklearn.metrics import roc_auc_score

    from src.audit import attacks
    from src.audit.shadows import Maker, memberships

    everyone = attacks.together(splits.train, splits.test)
    inside = memberships(everyone, number, np.random.default_rng(seed))

    def score(release: EmbeddingSet) -> np.ndarray:
        return attacks.nearest_neighbour_scores(everyone, release, resources.device)

    maker = Maker(anonymizer, splits.val, seed, resources)
    scores = np.stack(maker.shadows(everyone, inside, score))
    ratios = attacks.likelihood_ratios(score(attacks.distinct(released)), scores, inside)
    members = np.arange(len(everyone)) < len(splits.train)
    return float(roc_auc_score(members, ratios))


@contextmanager
def _going_on(splits: Splits, seed: int, resources: Resources) -> Iterator[None]:
    """Fits start from the weights of the CVAE that was fitted to all training rows."""
    from src.anonymizers import cvae
    from src.anonymizers.settings import FitSettings

    settings = FitSettings()
    own = cvae.fit(splits.train, splits.val, settings, seed=seed, resources=resources)
    weights = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    train = cvae._train

    def further(model: Any, *rest: Any) -> Any:
        model.load_state_dict(weights)
        return train(model, *rest)

    cvae._train = further  # type: ignore[assignment]
    try:
        yield
    finally:
        cvae._train = train


if __name__ == "__main__":
    cli.run(main)
