"""Bundles: what one gives to a partner, and nothing else.

python -m src.bundle create --dataset digits --backbone pixels --anonymizer cvae --seed 0 \
--license CC-BY-4.0 --output digits_cvae
python -m src.bundle verify digits_cvae
python -m src.bundle sample digits_cvae --rows 1000 --seed 1 --output digits_1000.npz

Each command has its own --help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.errors import InputError, UnknownNameError


def create(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Write the bundle of a release that anonymize.py has made."""
    args = _parse_create(parser, argv)
    anonymizer, settings = cli.chosen_anonymizer(args, online=False)

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(args.output.parent)
    splits = database.splits()

    from src import devices
    from src.anonymizers import Resources
    from src.bundle import contents, making

    logs = () if anonymizer.private else (Path("assets/logs"), Path("assets/logs_noise"))
    ckpt_folder = data_folder(args.ckpt_root, args.dataset, args.backbone)
    made = making.make(
        database,
        splits,
        anonymizer,
        settings,
        seed=args.seed,
        resources=Resources(devices.resolve(args.device), ckpt_folder),
        logs=logs if args.logs is None else args.logs,
        license=args.license,
        description=args.description,
    )
    contents.write(args.output, made)
    print(f"{args.output}  {', '.join(sorted(p.name for p in args.output.iterdir()))}")
    print(made.sheet["guarantee"])


def _parse_create(parser: cli.Parser, argv: Sequence[str]) -> argparse.Namespace:
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_ckpt_flag(parser)
    cli.add_anonymizer_flags(parser, online=False)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--logs",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="results and audits to quote (default: assets/logs assets/logs_noise; of a release "
        "with a guarantee, which does not cover figures of real rows, none)",
    )
    parser.add_argument(
        "--license", default="not stated", help="terms of use (default: not stated)"
    )
    parser.add_argument(
        "--description", default="", help="what the data are, in a sentence or two"
    )
    return parser.parse(argv)


def verify(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Check that a bundle is whole, unchanged and readable, and holds nothing else."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    args = parser.parse(argv)

    from src.bundle import contents

    sheet = contents.read(args.folder).sheet
    print(f"{args.folder}  {sheet['release']} of {sheet['dataset']}: whole and unchanged")


def sample(parser: cli.Parser, argv: Sequence[str]) -> None:
    """Draw fresh rows from a bundle's decoder."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    parser.add_argument("--rows", type=cli.number(int, minimum=1), help="rows in all")
    parser.add_argument("--seed", type=cli.number(int, minimum=0), default=42)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument(
        "--class_distribution",
        type=cli.number(float, minimum=0),
        nargs="+",
        metavar="W",
        help="weight of each class for --rows (default: as released)",
    )
    parser.add_argument(
        "--class_counts",
        type=cli.number(int, minimum=0),
        nargs="+",
        metavar="N",
        help="rows of each class, instead of --rows",
    )
    args = parser.parse(argv)
    if (args.rows is None) == (args.class_counts is None):
        raise InputError("sample needs either --rows or --class_counts")
    if args.class_counts and args.class_distribution:
        raise InputError("--class_counts leaves no --class_distribution to choose")

    from src import database
    from src.bundle import contents, making

    drawn = making.sample(
        contents.read(args.folder),
        rows=args.rows,
        weights=args.class_distribution,
        counts=args.class_counts,
        seed=args.seed,
    )
    database.write(args.output, drawn)
    print(f"{args.output}  {len(drawn)} rows, {drawn.embeddings.shape[1]} dimensions")


COMMANDS = {"create": create, "verify": verify, "sample": sample}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        return
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    parser = cli.Parser(COMMANDS[name].__doc__)
    parser.prog = f"python -m src.bundle {name}"
    COMMANDS[name](parser, rest)


if __name__ == "__main__":
    cli.run(main)
