"""Train a linear head on fresh draws of a CVAE's decoder, evaluate it under Gaussian noise.

python probing_noise_cvae.py --dataset digits --backbone pixels --seed 0 --sigma 0 1 2
python probing_noise_cvae.py --dataset digits --backbone pixels --decoder BUNDLE --sigma 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src import cli


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
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
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Fit the CVAE or find its decoder, train the head online, a result for each sigma."""
    args = parse_arguments(argv)
    if args.decoder:
        cli.forbid_settings(args, "the bundle of --decoder has its own")
    else:
        anonymizer, settings = cli.chosen_anonymizer(args, online=True)

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    ckpt_folder = data_folder(args.ckpt_root, args.dataset, args.backbone)
    require_writable(data_folder(args.output_root, args.dataset, args.backbone))

    from src import devices, runs
    from src.anonymizers import Resources
    from src.bundle import contents

    head = cli.head_settings(args)
    given = {
        "database": database,
        "head": head,
        "seed": args.seed,
        "output_root": args.output_root,
    }
    run: runs.Run
    if args.decoder:
        bundle = contents.read(args.decoder)
        splits = database.splits(args.decoder / contents.ROWS)
        run = runs.BundleRun(**given, splits=splits, bundle=bundle)
    else:
        require_writable(ckpt_folder)
        splits = database.splits()
        run = runs.OnlineRun(**given, splits=splits, anonymizer=anonymizer, settings=settings)
    resources = Resources(devices.resolve(args.device), ckpt_folder)
    print(*run.perform(args.sigma, resources), sep="\n")


if __name__ == "__main__":
    cli.run(main)
