"""Embed a data set: images → <database_root>/<dataset>/<backbone>/{train,val,test}.npz.

python create_db.py --dataset breastmnist --backbone vit_base_patch14_dinov2.lvd142m
torchrun --nproc_per_node=2 create_db.py --dataset digits --backbone pixels
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src import cli, distributed


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser, seed=False)
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    parser.add_argument("--task", help="task of a MedIMeta data set")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a local checkpoint")
    count = cli.number(int, minimum=1)
    parser.add_argument("--image_size", type=count, metavar="N", help="height and width, pixels")
    parser.add_argument("--batch_size", type=count, default=128, help="default: %(default)s")
    parser.add_argument(
        "--num_workers",
        type=cli.number(int, minimum=0),
        metavar="N",
        help="processes that decode images (default: by the device and the number of CPU cores)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the arithmetic; embeddings are stored as float32 (default: %(default)s)",
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Embed the three splits; write them when all are done."""
    with distributed.session():
        args = parse_arguments(argv)
        from src import embeddings
        from src.database import Database

        target = Database(args.database_root, args.dataset, args.backbone)
        sets = embeddings.create(
            target,
            dataset_root=args.dataset_root,
            device=args.device,
            image_size=args.image_size,
            task=args.task,
            weights=args.weights,
            precision=args.precision,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
        )
        if distributed.rank() == 0:
            for split, data in sets.items():
                n, dimensions = data.embeddings.shape
                print(f"{target.path(split)}: {n} rows, {dimensions} dimensions")


if __name__ == "__main__":
    cli.run(main)
