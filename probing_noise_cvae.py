"""Train a linear head on fresh draws of a CVAE's decoder, evaluate it under Gaussian noise.

python probing_noise_cvae.py --dataset digits --backbone pixels --seed 0 --sigma 0 1 2
python probing_noise_cvae.py --dataset digits --backbone pixels --decoder BUNDLE --sigma 0 1 2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.anonymizers import methods
from src.core import devices
from src.core.files import require_writable
from src.database import Database
from src.probing.settings import HeadSettings


def main(argv: Sequence[str] | None = None) -> None:
    """Fit a decoder or take a bundle's, fit a head on its draws, evaluate at each noise level."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_sigma_flag(parser)
    cli.add_settings_flags(parser, HeadSettings, learning_rate="l", num_epochs="e", batch_size="b")
    place = cli.add_anonymizer_flags(parser, methods.ONLINE, default="cvae-online")
    text = "the decoder of a bundle instead; of the dataset only val and test are read"
    place.add_argument("--decoder", type=Path, metavar="DIR", help=text)
    cli.add_folder_flag(parser, "--ckpt_root", "assets/ckpts", "fitted models")
    cli.add_folder_flag(parser, "--output_root", "assets/logs_noise", "results")
    args = parser.parse(argv)

    settings = cli.settings_of(args, HeadSettings)
    database = Database(args.database_root, args.dataset, args.backbone)
    ckpt_folder = database.folder_in(args.ckpt_root)
    require_writable(database.folder_in(args.output_root), ckpt_folder)

    if args.decoder:  # a partner's: without the originals there is no distance to them
        cli.forbid_settings(args, "the bundle of --decoder has its own")
        from src.bundle import contents, receiving

        bundle = contents.read(args.decoder)
        splits, originals = receiving.splits(bundle, args.decoder, database), None
        decoder = contents.decoder_for(bundle, splits, devices.resolve(args.device))
        reference, subject = bundle.rows, contents.subject(bundle)
    else:
        anonymizer = cli.anonymizer_of(args, methods.ONLINE)
        splits = database.read()
        originals = splits.train
        resources = devices.resources(args.device, ckpt_folder)
        decoder = anonymizer.decoder(splits.train, splits.val, seed=args.seed, resources=resources)
        reference = anonymizer.reference(splits.train, decoder, seed=args.seed)
        subject = anonymizer.subject(args.seed, unit=anonymizer.protects(originals))

    from src.probing import caveats, head, metrics, results  # torch from here on

    fitted = head.fit_online(decoder, reference, splits, settings, seed=args.seed)
    distance = None
    if originals is not None:
        fresh = head.draw(decoder, len(originals), seed=args.seed)
        distance = metrics.average_mindistance(fresh, originals, fitted.mean.device)
    found = caveats.of(fitted, splits, originals)
    trial = results.trial(database, splits, subject, settings, args.seed)
    for sigma in args.sigma:
        scores = head.evaluate(fitted, splits.test, sigma, seed=args.seed)
        print(results.write(args.output_root, trial.at(sigma), fitted, scores, distance, found))


if __name__ == "__main__":
    cli.run(main)
