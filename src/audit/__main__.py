"""Attack a release: what it gives away about the rows it was made from.

python -m src.audit --dataset digits --backbone pixels --anonymizer kSAME --k 5 --seed 0
python -m src.audit --dataset digits --backbone pixels --anonymizer cvae --seed 0 --figure roc.pdf
python -m src.audit --dataset digits --backbone pixels --anonymizer cvae --seed 0 --one_run
python -m src.audit --dataset digits --backbone pixels --release mine --held_out others.npz

--unit says who is attacked; --fit_unit is the anonymizer's, as in anonymize.py --unit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from src import cli
from src.anonymizers import methods
from src.audit import records, subjects
from src.audit.records import Case
from src.audit.settings import CANARIES, AuditSettings, OneRunSettings
from src.audit.subjects import Audited
from src.core import cluster, devices
from src.core.errors import InputError, UnknownNameError
from src.core.files import require_writable
from src.database import Database, Splits

ONLY_ONE_RUN = ("candidates", "canaries", "one_run_delta")  # flags without effect elsewhere
NOT_ONE_RUN = ("held_out", "figure", "proof", "scheduler")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the splits and the release, attack it, write the record and the figure."""
    args = _parse(argv)
    options, one_run = cli.settings_of(args, AuditSettings), _one_run(args)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(*map(database.folder_in, (args.output_root, args.ckpt_root)))
    splits = database.read()
    if one_run:
        _prove(args, one_run, database, splits)
    else:
        _attack(args, options, database, splits)


def _attack(
    args: argparse.Namespace, options: AuditSettings, database: Database, splits: Splits
) -> None:
    """Audit the released rows."""
    audited = _audited(args, database, splits)
    if args.held_out:
        splits = subjects.with_held_out(splits, args.held_out, database)
    case = records.case(database, splits, audited.subject, options, args.seed)

    from src.audit import figures, one_run  # torch from here on: --help need not wait for it
    from src.audit.auditing import audit

    folder = database.folder_in(args.ckpt_root)
    resources = devices.resources(args.device, folder, share=0.5 / args.jobs)
    started = time.perf_counter()
    with cluster.client(args.jobs, args.scheduler, "src.audit.shadows") as workers:
        report = audit(
            splits,
            audited.released,
            audited.anonymizer,
            options,
            seed=args.seed,
            resources=replace(resources, workers=workers),
        )
    seconds = time.perf_counter() - started
    if proven := records.read_one_run(args.output_root, case):
        report = report._replace(summary=one_run.beside(report.summary, proven))
    if args.held_out:
        where = f"non-members are rows of {args.held_out.name}, instead of the test split"
        report = report._replace(notes=[where, *report.notes])
    device = resources.device.type
    path = records.write(args.output_root, case, report, device=device, seconds=seconds)
    evidence = report.proof.lines() if args.proof else []
    print(report.table(), *evidence, path, sep="\n")
    if args.figure:
        figures.save(args.figure, report, f"{args.dataset}, {args.backbone}, {case.id}")
        print(args.figure)


def _prove(
    args: argparse.Namespace, options: OneRunSettings, database: Database, splits: Splits
) -> None:
    """Audit by one run how the release is made; the released rows themselves take no part."""
    if args.release or args.bundle:
        audited = _audited(args, database, splits)
        anonymizer, subject = audited.anonymizer, audited.subject
    else:
        anonymizer = methods.parse(args.anonymizer, args.settings)
        subject = anonymizer.subject(args.seed)
    if anonymizer is None:
        raise InputError(f"--one_run: how {subject.id} was made is not known, so nothing can be")
    unit = AuditSettings(unit=options.unit)
    case: Case = records.case(database, splits, subject, unit, args.seed)

    from src.audit import one_run  # torch from here on

    resources = devices.resources(args.device)
    started = time.perf_counter()
    found = one_run.run(splits, anonymizer, options, seed=args.seed, resources=resources)
    seconds = time.perf_counter() - started
    device = resources.device.type
    path = records.write_one_run(
        args.output_root, case, options, found, device=device, seconds=seconds
    )
    print(found.text(), path, sep="\n")


def _audited(args: argparse.Namespace, database: Database, splits: Splits) -> Audited:
    """The release that the flags name.

    Raises:
        InputError: it does not exist or does not fit the splits, or settings are given beside a
            file that says itself how it was made.
    """
    if args.bundle:
        cli.forbid_settings(args, "--bundle names a folder, whatever it was made with")
        return subjects.of_bundle(args.bundle, database, splits.train)
    release_id = cli.release_id(args)
    if args.release:
        return subjects.of_file(database, release_id, splits.train)
    anonymizer = methods.parse(args.anonymizer, args.settings)
    released = database.read_release(release_id, splits.train)
    return Audited(released, anonymizer.subject(args.seed, released), anonymizer)


def _one_run(args: argparse.Namespace) -> OneRunSettings | None:
    """The settings of --one_run; None where it is not asked for.

    Raises:
        InputError: a flag is given that has no effect, or canaries that are not a kind and number.
    """
    for name in NOT_ONE_RUN if args.one_run else ONLY_ONE_RUN:
        if getattr(args, name) is not None:
            beside = "beside" if args.one_run else "without"
            raise InputError(f"--{name} has no effect {beside} --one_run")
    if not args.one_run:
        return None
    if args.jobs > 1:
        raise InputError(f"--jobs {args.jobs} has no effect beside --one_run, which fits once")
    kind, number = args.canaries or (None, 0)
    if kind not in (None, *CANARIES):
        raise UnknownNameError("kind of canaries", kind, CANARIES)
    given = {
        "unit": args.unit,
        "candidates": args.candidates,
        "delta": args.one_run_delta,
        "canaries": kind,
        "number": _number(number),
    }
    return OneRunSettings.parse(given, of="--one_run")


def _number(text: str | int) -> int:
    """How many canaries."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if text and number < 1:
        raise InputError(f"--canaries: '{text}' is not a number of canaries, 1 or more")
    return number


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_seed_flag(parser)
    cli.add_device_flag(parser)
    cli.add_settings_flags(parser, AuditSettings)
    place = cli.add_release_flags(parser)
    text = "instead of an anonymizer: the folder of a bundle, as a partner gets it"
    place.add_argument("--bundle", type=Path, metavar="DIR", help=text)
    text = "embeddings that nothing has seen, as non-members instead of the test split"
    parser.add_argument("--held_out", type=Path, metavar="FILE.npz", help=text)
    cli.add_jobs_flags(parser)
    cli.add_folder_flag(parser, "--ckpt_root", "assets/ckpts", "shadow releases until the end")
    cli.add_folder_flag(parser, "--output_root", "assets/logs", "results")
    picture = cli.output_file(cli.PICTURES)
    text = "save the figure, as .png, .pdf or .svg"
    parser.add_argument("--figure", type=picture, metavar="FILE", help=text)
    text = "also print the numbers of released rows that are copies, and of the rows they copy"
    parser.add_argument("--proof", action="store_true", default=None, help=text)
    _add_one_run_flags(parser)
    return parser.parse(argv)


def _add_one_run_flags(parser: cli.Parser) -> None:
    group = parser.add_argument_group("one run")
    text = "put rows into training at random, fit once, and bound ε from below"
    group.add_argument("--one_run", action="store_true", help=text)
    count = cli.number(int, minimum=1)
    text = "how many persons (rows) are in at random, the others always (default: all)"
    group.add_argument("--candidates", type=count, metavar="N", help=text)
    text = (
        f"rows that are made to be remembered, which are then the candidates: one of "
        f"{', '.join(CANARIES)}, and how many"
    )
    group.add_argument("--canaries", nargs=2, metavar=("KIND", "N"), help=text)
    text = "δ of the bound, where the release states none (default: 1e-05)"
    group.add_argument("--one_run_delta", type=cli.number(float, minimum=0), help=text)


if __name__ == "__main__":
    cli.run(main)
