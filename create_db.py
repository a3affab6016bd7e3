"""Embed a dataset: images → <database_root>/<dataset>/<backbone>/{train,val,test}.npz.

python create_db.py --dataset breastmnist --backbone vit_base_patch14_dinov2.lvd142m
torchrun --nproc_per_node=2 create_db.py --dataset digits --backbone pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.core.files import require_writable
from src.database import Database
from src.embedding import distributed
from src.embedding.settings import ExtractionSettings


@distributed.session()
def main(argv: Sequence[str] | None = None) -> None:
    """Read the images, load the backbone, embed the three splits, write them."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    size, grey = cli.number(int, minimum=1), cli.number(float)
    parser.add_argument("--task", type=cli.plain_name, help="task of a MedIMeta dataset")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a local checkpoint")
    parser.add_argument("--image_size", type=size, metavar="N", help="height and width, pixels")
    text = (
        "grey values that become black and white, of own images of more than 8 bits "
        "(default: percentiles of train)"
    )
    parser.add_argument("--window", type=grey, nargs=2, metavar=("LOW", "HIGH"), help=text)
    cli.add_settings_flags(parser, ExtractionSettings)
    args = parser.parse(argv)

    settings = cli.settings_of(args, ExtractionSettings)
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
    sets = extraction.embed(args.dataset, images, backbone, settings, image_size=args.image_size)
    if distributed.rank() == 0:
        for split, data in sets.items():
            print(f"{database.write(split, data)}: {len(data)} rows, {data.dim} dimensions")


if __name__ == "__main__":
    cli.run(main)
