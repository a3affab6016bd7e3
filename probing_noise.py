"""Train a linear head on a release and evaluate it on test embeddings with Gaussian noise.

python probing_noise.py --dataset digits --backbone pixels --anonymizer kSAME --k 5 --sigma 1 2
"""

from __future__ import annotations

from collections.abc import Sequence

from src import cli
from src.core.files import require_writable
from src.database import Database
from src.probing.settings import HeadSettings


def main(argv: Sequence[str] | None = None) -> None:
    """Read the splits and the release, fit a head on it, evaluate it at each noise level."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_sigma_flag(parser)
    cli.add_settings_flags(parser, HeadSettings, learning_rate="l", num_epochs="e", batch_size="b")
    cli.add_release_flags(parser)
    cli.add_folder_flag(parser, "--output_root", "assets/logs_noise", "results")
    args = parser.parse(argv)

    release_id = cli.release_id(args)
    settings = cli.settings_of(args, HeadSettings)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(database.folder_in(args.output_root))
    splits = database.read()
    released = database.read_release(release_id, splits.train)

    from src.core import devices  # torch from here on: --help need not wait for it
    from src.probing import head, metrics, results

    device = devices.resolve(args.device)
    fitted = head.fit(released, splits, settings, seed=args.seed, device=device)
    distance = metrics.average_mindistance(released, splits.train, device)
    subject = results.subject(release_id, released)
    extreme = head.extreme_rows(fitted, splits.test)
    trial = results.trial(database, splits, subject, settings, args.seed)
    for sigma in args.sigma:
        scores = head.evaluate(fitted, splits.test, sigma, seed=args.seed)
        print(results.write(args.output_root, trial.at(sigma), fitted, scores, distance, extreme))


if __name__ == "__main__":
    cli.run(main)
