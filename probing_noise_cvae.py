"""Train a linear head on fresh draws of a CVAE's decoder, evaluate it under Gaussian noise.

python probing_noise_cvae.py --dataset digits --backbone pixels --seed 0 --sigma 0 1 2
"""

from __future__ import annotations

from collections.abc import Sequence

from src import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Fit the CVAE or find its checkpoint, train the head online, a result for each sigma."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_ckpt_flag(parser)
    cli.add_output_flag(parser, "assets/logs_noise")
    cli.add_head_flags(parser)
    cli.add_anonymizer_flags(parser, online=True, default="cvae-online", only_tagged=True)
    cli.add_sigma_flag(parser)
    args = parser.parse(argv)
    anonymizer, settings = cli.chosen_anonymizer(args, online=True)

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    ckpt_folder = data_folder(args.ckpt_root, args.dataset, args.backbone)
    require_writable(ckpt_folder)
    require_writable(data_folder(args.output_root, args.dataset, args.backbone))
    splits = database.splits()

    from src import devices, runs
    from src.anonymizers import Resources

    run = runs.OnlineRun(
        database=database,
        splits=splits,
        anonymizer=anonymizer,
        settings=settings,
        head=cli.head_settings(args),
        seed=args.seed,
        output_root=args.output_root,
    )
    resources = Resources(devices.resolve(args.device), ckpt_folder)
    print(*run.perform(args.sigma, resources), sep="\n")


if __name__ == "__main__":
    cli.run(main)
