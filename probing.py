"""Train a linear head on a release and evaluate it on the real test embeddings.

python probing.py --dataset digits --backbone pixels --seed 0
python probing.py --dataset digits --backbone pixels --anonymizer kSAME --k 5 --seed 0
python probing.py --dataset digits --backbone pixels --bundle BUNDLE --seed 0
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.core.files import require_writable
from src.database import Database
from src.probing.settings import HeadSettings


def main(argv: Sequence[str] | None = None) -> None:
    """Read the splits and the release, fit a head on it, evaluate, write the result."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_settings_flags(parser, HeadSettings, learning_rate="l", num_epochs="e", batch_size="b")
    place = cli.add_release_flags(parser)
    text = "a partner's rows instead; of the dataset only val and test are read"
    place.add_argument("--bundle", type=Path, metavar="DIR", help=text)
    cli.add_folder_flag(parser, "--output_root", "assets/logs", "results")
    args = parser.parse(argv)

    settings = cli.settings_of(args, HeadSettings)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(database.folder_in(args.output_root))

    if args.bundle:  # a partner's: without the originals there is no distance to them
        cli.forbid_settings(args, "the bundle of --bundle has its own")
        from src.bundle import contents, receiving

        bundle = contents.read(args.bundle)
        splits, originals = receiving.splits(bundle, args.bundle, database), None
        release_id, released = receiving.release_id(bundle), splits.train
    else:
        release_id = cli.release_id(args)
        splits = database.read()
        originals = splits.train
        released = database.read_release(release_id, originals)

    from src.core import devices  # torch from here on: --help need not wait for it
    from src.probing import caveats, head, metrics, results

    device = devices.resolve(args.device)
    fitted = head.fit(released, splits, settings, seed=args.seed, device=device)
    subject, distance = results.subject(release_id, released), None
    if originals is not None:
        distance = metrics.average_mindistance(released, originals, device)
    found = caveats.of(fitted, splits, originals)
    trial = results.trial(database, splits, subject, settings, args.seed)
    scores = head.evaluate(fitted, splits.test, seed=args.seed)
    print(results.write(args.output_root, trial, fitted, scores, distance, found))


if __name__ == "__main__":
    cli.run(main)
