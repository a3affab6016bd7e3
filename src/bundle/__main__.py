"""Bundles: what is given to a partner, and nothing else.

python -m src.bundle create --dataset digits --backbone pixels --anonymizer cvae --seed 0 \
--license CC-BY-4.0 --output digits_cvae
python -m src.bundle verify digits_cvae
python -m src.bundle sample digits_cvae --rows 1000 --seed 1 --output digits_1000.npz
python -m src.bundle merge hospital_a hospital_b --output both_hospitals
python -m src.bundle export digits_cvae --output digits_cvae_repository
python -m src.bundle import digits_cvae_repository --output digits_cvae_again

Each command has its own --help.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from src import __version__, cli
from src.anonymizers import methods
from src.cli.values import number
from src.core.errors import (
    DataError,
    InputError,
    MissingPackageError,
    OutputError,
    UnknownNameError,
)
from src.database import Database, read, write

LOGS = (Path("assets/logs"), Path("assets/logs_noise"))
ZIP = b"PK\x03\x04"  # how an .npz file begins

log = logging.getLogger(__name__)


def create(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Write the bundle of a release that anonymize.py has made."""
    args = _parse_create(parser, argv)
    anonymizer = methods.parse(args.anonymizer, args.settings)
    database = Database(args.database_root, args.dataset, args.backbone)
    splits = database.read()

    from src.bundle import contents, datasheet, making  # torch from here on
    from src.core import devices

    rows = making.released_rows(database, anonymizer, splits.train, seed=args.seed)
    resources = devices.resources(args.device, database.folder_in(args.ckpt_root))
    decoder = making.decoder_of(rows, anonymizer, splits, seed=args.seed, resources=resources)
    subjects = making.subjects(anonymizer, rows, seed=args.seed)
    logs = args.logs if args.logs is not None else () if anonymizer.private else LOGS
    results, audits = making.quoted(map(database.folder_in, logs), subjects, splits.train)
    remarks = datasheet.remarks(args.description, args.license, splits.train.meta, results, audits)
    seed = args.seed if anonymizer.seeded else None
    sheet = datasheet.compose(rows, decoder, anonymizer, remarks, seed=seed)
    contents.write(args.output, contents.Bundle(rows, decoder, sheet))
    print(f"{args.output}  {', '.join(sorted(p.name for p in args.output.iterdir()))}")
    print(sheet["guarantee"])


def _parse_create(parser: cli.Parser, argv: Sequence[str]) -> argparse.Namespace:
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_folder_flag(parser, "--ckpt_root", "assets/ckpts", "fitted models")
    cli.add_anonymizer_flags(parser, methods.RELEASING)
    folder = cli.new_folder
    parser.add_argument("--output", type=folder, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--logs",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="results and audits to quote (default: assets/logs assets/logs_noise; none for a "
        "release with a guarantee, which does not cover figures of real rows)",
    )
    terms = "terms of use (default: %(default)s)"
    parser.add_argument("--license", default="not stated", metavar="TEXT", help=terms)
    content = "what the data are, in a sentence or two"
    parser.add_argument("--description", default="", metavar="TEXT", help=content)
    return parser.parse(argv)


def verify(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Check that a bundle is whole and consistent, and say what that shows and what it cannot."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    args = parser.parse(argv)

    from src.bundle import contents, datasheet, privacy, rendering

    bundle = contents.read(args.folder)
    stated = [*bundle.sheet["stated"], *rendering.REMARKS, "utility and audits"]
    method = datasheet.method_of(bundle.sheet)
    checked = bundle.sheet["shown"]
    if isinstance(method, methods.DPCVAE):
        try:
            privacy.check_epsilon(method, bundle.rows)
        except MissingPackageError as error:
            checked = [line for line in checked if line != privacy.EPSILON]
            stated.append(f"{privacy.EPSILON} ({error})")
    release, dataset = (rendering.shown(bundle.sheet[key]) for key in ("release", "dataset"))
    print(f"{args.folder}  {release} of {dataset}: whole and consistent")
    print(bundle.sheet["guarantee"])
    print(*(f"shown: {line}" for line in checked), sep="\n")
    print(*(f"stated, not checked: {line}" for line in stated), sep="\n")


def sample(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Draw fresh rows from a bundle's decoder."""
    args = _parse_sample(parser, argv)

    from src.bundle import contents, making

    drawn = making.sample(
        contents.read(args.folder),
        rows=args.rows,
        weights=args.class_distribution,
        counts=args.class_counts,
        seed=args.seed,
    )
    write(args.output, drawn)
    print(f"{args.output}  {len(drawn)} rows, {drawn.dim} dimensions")


def _parse_sample(parser: cli.Parser, argv: Sequence[str]) -> argparse.Namespace:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    cli.add_seed_flag(parser)
    parser.add_argument("--rows", type=number(int, minimum=1), metavar="N", help="rows in all")
    file = cli.output_file({".npz": ZIP})
    parser.add_argument("--output", type=file, required=True, metavar="FILE.npz")
    parser.add_argument(
        "--class_distribution",
        type=number(float, minimum=0),
        nargs="+",
        metavar="W",
        help="weight of each class for --rows (default: as released)",
    )
    parser.add_argument(
        "--class_counts",
        type=number(int, minimum=0),
        nargs="+",
        metavar="N",
        help="rows of each class, instead of --rows",
    )
    args = parser.parse(argv)
    if (args.rows is None) == (args.class_counts is None):
        raise InputError("sample needs either --rows or --class_counts")
    if args.class_counts and args.class_distribution:
        raise InputError("--class_distribution has no effect beside --class_counts")
    if args.output.parent.resolve() == args.folder.resolve():
        raise InputError(f"--output {args.output} is in the bundle, which holds nothing else")
    _require_replaceable(args.output)
    return args


def _require_replaceable(path: Path) -> None:
    """Raise OutputError where a file holds anything but an earlier sample."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        data = read(path)
    except DataError:
        data = None
    if data is None or data.persons is not None or "drawn_from" not in data.meta:
        raise OutputError(
            f"--output {path} exists and is not a sample of a bundle; it is left as it is: remove "
            "it, or give another name"
        )


def merge(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Add up the noisy sums of several sites' dpgaussian bundles into one release of all.

    It costs no privacy. The sites' persons have to be different ones.
    """
    text = "the sites' bundles, two or more"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=text)
    cli.add_seed_flag(parser)
    folder, text = cli.new_folder, "a new folder"
    parser.add_argument("--output", type=folder, required=True, metavar="DIR", help=text)
    text = "terms of use (default: those of the bundles)"
    parser.add_argument("--license", default="", metavar="TEXT", help=text)
    text = "what the data are (default: what the bundles say)"
    parser.add_argument("--description", default="", metavar="TEXT", help=text)
    args = parser.parse(argv)
    if len(args.folders) < 2:
        raise InputError("merge needs two bundles or more")
    for place in args.folders:
        if place.resolve() in args.output.resolve().parents:
            raise InputError(f"--output {args.output} is in the bundle {place}")

    from src.bundle import contents, merging

    given = [merging.Given(str(place), contents.read(place)) for place in args.folders]
    merged = merging.merge(
        given, seed=args.seed, description=args.description, license=args.license
    )
    contents.write(args.output, merged)
    print(f"{args.output}  {merged.sheet['release']} of {merged.sheet['dataset']}: ", end="")
    print(f"{len(merged.rows)} rows of {merged.sheet['settings']['sites']} sites")
    print(merged.sheet["guarantee"])


def export(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Write a bundle as a repository that dataset hubs, datasets, pandas and polars read."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    folder, text = cli.new_folder, "a new folder"
    parser.add_argument("--output", type=folder, required=True, metavar="REPO", help=text)
    text = "you may share it although the licence of the backbone or the images restricts that"
    parser.add_argument("--accept_license", action="store_true", help=text)
    args = parser.parse(argv)
    if args.folder.resolve() in args.output.resolve().parents:
        raise InputError(f"--output {args.output} is in the bundle, which holds nothing else")

    from src.bundle import contents, exchange, licences

    bundle = contents.read(args.folder)
    for line in licences.require_accepted(bundle.sheet, args.accept_license):
        log.warning("%s", line)
    exchange.write(args.output, args.folder, bundle)
    print(f"{args.output}  {', '.join(exchange.names(args.output))}")
    print(bundle.sheet["guarantee"])


def import_(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Check a repository that `export` wrote, and write the bundle that it was made from."""
    parser.add_argument("folder", type=Path, metavar="REPO", help="the repository")
    folder, text = cli.new_folder, "a new folder"
    parser.add_argument("--output", type=folder, required=True, metavar="DIR", help=text)
    args = parser.parse(argv)

    from src.bundle import exchange
    from src.bundle.rendering import shown

    bundle = exchange.read(args.folder, args.output)
    release, dataset = (shown(bundle.sheet[key]) for key in ("release", "dataset"))
    print(f"{args.output}  {release} of {dataset}: the bundle, byte for byte as it was exported")
    print(bundle.sheet["guarantee"])


COMMANDS = {
    "create": create,
    "verify": verify,
    "sample": sample,
    "merge": merge,
    "export": export,
    "import": import_,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(__version__ if name == "--version" else __doc__)
        return
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    parser = cli.Parser(COMMANDS[name].__doc__)
    parser.prog = f"python -m src.bundle {name}"
    COMMANDS[name](parser, rest)


if __name__ == "__main__":
    cli.run(main)
