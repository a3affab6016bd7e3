"""Train a linear head on fresh draws of a CVAE's decoder, evaluate it under Gaussian noise.

python probing_noise_cvae.py --dataset digits --backbone pixels --seed 0 --sigma 0 1 2
python probing_noise_cvae.py --dataset digits --backbone pixels --decoder BUNDLE --sigma 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli

if TYPE_CHECKING:
    from src.runs import Run


def main(argv: Sequence[str] | None = None) -> None:
    """Fit the CVAE or find its checkpoint, train the head online, a result for each sigma."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_ckpt_flag(parser)
    cli.add_output_flag(parser, "assets/logs_noise")
    cli.add_head_flags(parser)
    cli.add_sigma_flag(parser)
    place = cli.add_anonymizer_flags(parser, online=True, default="cvae-online", only_tagged=True)
    place.add_argument(
        "--decoder",
        type=Path,
        metavar="DIR",
        help="the decoder of a bundle instead; of the data set, val and test alone are read",
    )
    args = parser.parse(argv)
    run = bundle_run(args) if args.decoder else fitted_run(args)

    from src import devices
    from src.anonymizers import Resources
    from src.database import data_folder

    ckpt_folder = data_folder(args.ckpt_root, args.dataset, args.backbone)
    resources = Resources(devices.resolve(args.device), ckpt_folder)
    print(*run.perform(args.sigma, resources), sep="\n")


def fitted_run(args: argparse.Namespace) -> Run:
    """A head on the decoder that --anonymizer fits to the training rows."""
    anonymizer, settings = cli.chosen_anonymizer(args, online=True)

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(data_folder(args.ckpt_root, args.dataset, args.backbone))
    require_writable(data_folder(args.output_root, args.dataset, args.backbone))
    splits = database.splits()

    from src import runs

    return runs.OnlineRun(
        database=database,
        splits=splits,
        anonymizer=anonymizer,
        settings=settings,
        head=cli.head_settings(args),
        seed=args.seed,
        output_root=args.output_root,
    )


def bundle_run(args: argparse.Namespace) -> Run:
    """A head on the decoder of a bundle."""
    cli.forbid_settings(args, "the bundle of --decoder has its own")

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(data_folder(args.output_root, args.dataset, args.backbone))

    from src import runs
    from src.bundle import contents

    bundle = contents.read(args.decoder)
    return runs.BundleRun(
        database=database,
        splits=database.splits(args.decoder / contents.ROWS),
        bundle=bundle,
        head=cli.head_settings(args),
        seed=args.seed,
        output_root=args.output_root,
    )


if __name__ == "__main__":
    cli.run(main)
