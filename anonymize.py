"""Anonymize the training embeddings of a dataset: train.npz → train_<id>.npz.

python anonymize.py --dataset digits --backbone pixels --anonymizer kSAME --k 5
python anonymize.py --dataset digits --backbone pixels --anonymizer cvae --seed 0
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from src import cli
from src.anonymizers import methods
from src.core import cluster, devices
from src.core.files import require_writable
from src.database import IDENTITY, Database


def main(argv: Sequence[str] | None = None) -> None:
    """Read train and val, anonymize train, write the release beside them."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_jobs_flags(parser)
    cli.add_folder_flag(parser, "--ckpt_root", "assets/ckpts", "fitted models")
    cli.add_anonymizer_flags(parser, methods.RELEASING)
    most = cli.number(float, above=0)
    text = "the most epsilon that all private releases of the dataset may spend, from now on"
    parser.add_argument("--budget", type=most, metavar="E", help=text)
    args = parser.parse(argv)

    anonymizer = methods.parse(args.anonymizer, args.settings)
    release_id = anonymizer.release_id(args.seed)
    database = Database(args.database_root, args.dataset, args.backbone)
    ckpt_folder = database.folder_in(args.ckpt_root)
    require_writable(database.folder, ckpt_folder)
    splits = database.read()
    if anonymizer.name == IDENTITY:
        print(f"{database.path('train')} already holds the real embeddings; nothing to write")
        return

    from src.anonymizers.dp import ledger  # torch from here on: --help need not wait for it

    resources = devices.resources(args.device, ckpt_folder, share=0.5 / args.jobs)
    entry = partial(
        ledger.entry, database, anonymizer, splits.train, seed=args.seed, resources=resources
    )
    ledger.require_budget(database, entry(), args.budget)
    with cluster.client(args.jobs, args.scheduler, "src.anonymizers.blocks") as workers:
        resources = replace(resources, workers=workers)
        released = anonymizer.anonymize(
            splits.train, splits.val, seed=args.seed, resources=resources
        )
    ledger.enter(database, entry(), args.budget)  # again: a first release makes the key
    path = database.write("train", released, release_id)
    print(f"{path}  {len(released)} rows, {released.dim} dimensions")
    if facts := released.meta["facts"]:  # a guarantee and what it rests on, rows dropped, ...
        print(json.dumps(facts))


if __name__ == "__main__":
    cli.run(main)
