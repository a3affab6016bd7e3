"""Attack a release: what it gives away about the rows it was made from.

python -m src.audit --dataset digits --backbone pixels --anonymizer kSAME --k 5 --seed 0
python -m src.audit --dataset digits --backbone pixels --anonymizer cvae --seed 0 --figure roc.pdf

--unit says who is attacked; --fit_unit is the anonymizer's, as in anonymize.py --unit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from src import cli
from src.anonymizers import methods
from src.audit import figures, records
from src.audit.settings import AuditSettings
from src.core import devices
from src.core.files import require_writable
from src.database import Database


def main(argv: Sequence[str] | None = None) -> None:
    """Read the splits and the release, attack it, write the record and the figure."""
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_settings_flags(parser, AuditSettings)
    cli.add_anonymizer_flags(parser, methods.RELEASING)
    cli.add_folder_flag(parser, "--output_root", "assets/logs", "results")
    picture = cli.output_file(cli.PICTURES)
    text = "save the ROC curves, as .png, .pdf or .svg"
    parser.add_argument("--figure", type=picture, metavar="FILE", help=text)
    parser.set_defaults(release=None)
    args = parser.parse(argv)

    anonymizer = methods.parse(args.anonymizer, args.settings)
    options = cli.settings_of(args, AuditSettings)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(database.folder_in(args.output_root))
    splits = database.read()
    released = database.read_release(cli.release_id(args), splits.train)

    from src.audit.auditing import audit  # torch from here on: --help need not wait for it

    resources = devices.resources(args.device)
    started = time.perf_counter()
    report = audit(splits, released, anonymizer, options, seed=args.seed, resources=resources)
    seconds = time.perf_counter() - started
    subject = anonymizer.subject(args.seed, released)
    case = records.case(database, splits, subject, options, args.seed)
    device = resources.device.type
    path = records.write(args.output_root, case, report, device=device, seconds=seconds)
    print(report.table(), path, sep="\n")
    if args.figure:
        figures.save(args.figure, report, f"{args.dataset}, {args.backbone}, {case.id}")
        print(args.figure)


if __name__ == "__main__":
    cli.run(main)
