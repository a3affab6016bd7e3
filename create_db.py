"""Embed a dataset: images → <database_root>/<dataset>/<backbone>/{train,val,test}.npz.

python create_db.py --dataset breastmnist --backbone vit_base_patch14_dinov2.lvd142m
torchrun --nproc_per_node=2 create_db.py --dataset digits --backbone pixels
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.core.files import require_writable
from src.database import Database
from src.embedding import distributed


@distributed.session()
def main(argv: Sequence[str] | None = None) -> None:
    """Read the images, load the backbone, embed the three splits, write them."""
    args = arguments(argv)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(database.folder)
    database.require_own()

    from src.embedding import backbones, datasets, extraction  # torch from here on

    device = distributed.device(args.device)
    with distributed.rank_zero_first():  # what it downloads, the others find
        images = datasets.load(
            args.dataset,
            root=args.dataset_root,
            image_size=args.image_size,
            task=args.task,
            window=args.window,
        )
        backbone = backbones.load(
            args.backbone,
            images,
            device=device,
            image_size=images.model_size(args.image_size),
            weights=args.weights,
        )
    options = extraction.Options(
        args.precision, args.batch_size, args.num_workers, args.drop_copies
    )
    sets = extraction.embed(args.dataset, images, backbone, options, image_size=args.image_size)
    if distributed.rank() == 0:
        for split, data in sets.items():
            print(f"{database.write(split, data)}: {len(data)} rows, {data.dim} dimensions")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    count, whole = cli.number(int, minimum=1), cli.number(int, minimum=0)
    parser.add_argument("--task", type=cli.plain_name, help="task of a MedIMeta dataset")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a local checkpoint")
    parser.add_argument("--image_size", type=count, metavar="N", help="height and width, pixels")
    parser.add_argument(
        "--window",
        type=cli.number(float),
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="grey values that become black and white, of own images of more than 8 bits "
        "(default: percentiles of train)",
    )
    parser.add_argument(
        "--drop_copies",
        action="store_true",
        help="leave out training images that are also in val or test",
    )
    parser.add_argument("--batch_size", type=count, default=128, help="default: %(default)s")
    parser.add_argument(
        "--num_workers",
        type=whole,
        metavar="N",
        help="processes that decode images (default: by the device and the number of CPU cores)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the arithmetic; bf16 costs up to 9 %% relative error in the features of a "
        "convolutional network, fp16 1 %%; embeddings are stored as float32 "
        "(default: %(default)s)",
    )
    args = parser.parse(argv)
    if args.window and not args.window[0] < args.window[1]:
        parser.error("--window LOW HIGH: {:g} is not below {:g}".format(*args.window))
    return args


if __name__ == "__main__":
    cli.run(main)
