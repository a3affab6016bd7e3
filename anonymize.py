"""Anonymize the training embeddings of a data set: train.npz → train_<id>.npz.

python anonymize.py --dataset digits --backbone pixels --anonymizer kSAME --k 5
python anonymize.py --dataset digits --backbone pixels --anonymizer cvae --seed 0
python anonymize.py --dataset digits --backbone pixels --anonymizer plan --k 5 --figure path.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from src import cli, path_figure
from src.errors import InputError


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_ckpt_flag(parser)
    cli.add_anonymizer_flags(parser, online=False)
    parser.add_argument(
        "--memory",
        type=cli.number(float, above=0),
        metavar="GIB",
        help="k-Same: hold distances in so much (default: half of what is free)",
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="plan: draw one of its paths, .png or .pdf"
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Read train and val, anonymize train, write it beside them."""
    args = parse_arguments(argv)
    anonymizer, settings = cli.chosen_anonymizer(args, online=False)
    if args.figure and anonymizer.name != "plan":
        raise InputError(f"--figure draws a path of plan; {anonymizer.name} has none")

    from src.database import IDENTITY, Database, data_folder, write
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    ckpt_folder = data_folder(args.ckpt_root, args.dataset, args.backbone)
    require_writable(database.folder)
    require_writable(ckpt_folder)
    if args.figure:
        path_figure.check(args.figure)
    splits = database.splits()
    if anonymizer.name == IDENTITY:
        print(f"{database.path('train')}  is the release of {IDENTITY} already")
        return

    from src import anonymizers, devices

    device = devices.resolve(args.device)
    memory = int(args.memory * 2**30) if args.memory else devices.free_memory(device) // 2
    resources = anonymizers.Resources(device, ckpt_folder, memory)
    released = anonymizers.anonymize(
        anonymizer, settings, splits.train, splits.val, seed=args.seed, resources=resources
    )
    path = database.path("train", anonymizer.release_id(settings, args.seed))
    write(path, released)
    print(f"{path}  {len(released)} rows, {released.embeddings.shape[1]} dimensions")
    if facts := released.meta["facts"]:  # a guarantee and what it rests on, ...
        print(json.dumps(facts))
    if args.figure:
        example = anonymizer.implementation.example(
            splits.train, splits.val, settings, seed=args.seed, resources=resources
        )
        path_figure.draw(args.figure, example, splits.train)
        print(args.figure)


if __name__ == "__main__":
    cli.run(main)
