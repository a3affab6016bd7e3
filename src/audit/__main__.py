"""Attack a release: how much it tells about the rows it was made from.

python -m src.audit --dataset digits --backbone pixels --anonymizer kSAME --k 5 --seed 0
python -m src.audit --dataset digits --backbone pixels --anonymizer cvae --seed 0 --figure roc.pdf
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the splits and the release, attack, write JSON and figure, print the table."""
    args = _parse(argv)
    anonymizer, settings = cli.chosen_anonymizer(args, online=False)

    from src.audit import results
    from src.audit.report import require_figure_format, save_figure
    from src.database import Database
    from src.files import require_writable

    options = results.AuditSettings(shadows=args.shadows, bootstrap=args.bootstrap)
    database = Database(args.database_root, args.dataset, args.backbone)
    release_id = anonymizer.release_id(settings, args.seed)
    path = results.audit_path(args.output_root, args.dataset, args.backbone, release_id, args.seed)
    require_writable(path.parent)
    if args.figure:
        require_figure_format(args.figure)
        require_writable(args.figure.parent)
    splits = database.splits()
    released = database.release(release_id, splits.train)

    from src import devices
    from src.anonymizers import Resources
    from src.audit.run import audit_to_file

    device = devices.resolve(args.device)
    report = audit_to_file(
        path,
        splits,
        released,
        anonymizer,
        settings,
        dataset=args.dataset,
        backbone=args.backbone,
        seed=args.seed,
        options=options,
        resources=Resources(device, memory=devices.free_memory(device) // 2),
    )
    print(report.table(), path, sep="\n")
    if args.figure:
        save_figure(args.figure, report, f"{args.dataset}, {args.backbone}, {release_id}")
        print(args.figure)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_output_flag(parser, "assets/logs")
    cli.add_anonymizer_flags(parser, online=False)
    whole = cli.number(int, minimum=0)
    parser.add_argument(
        "--shadows",
        type=whole,
        default=16,
        help="releases made anew for the shadow attack; 0 leaves it out (default: %(default)s)",
    )
    parser.add_argument(
        "--bootstrap", type=whole, default=1000, help="repetitions (default: %(default)s)"
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="save the ROC curves, as PNG, PDF, SVG, ..."
    )
    return parser.parse(argv)


if __name__ == "__main__":
    cli.run(main)
