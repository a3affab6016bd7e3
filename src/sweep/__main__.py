"""Run what is missing of a sweep, then write its tables and figures.

python -m src.sweep configs/demo.yaml
python -m src.sweep configs/demo.yaml --jobs 2
python -m src.sweep configs/paper/utility.yaml --scheduler tcp://HOST:8786
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from src import cli
from src.core import devices, progress
from src.core.files import require_writable
from src.report.recommendation import Thresholds

if TYPE_CHECKING:
    from src.sweep.base import Step, Workplace

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the sweep, find what is missing, do it, report → 0, or 1 if a run failed."""
    args = _parse(argv)
    from src import report
    from src.report import grid
    from src.sweep import steps

    sweep = grid.read(args.sweep, args.datasets, args.backbones)
    report.check(sweep)
    thresholds = cli.settings_of(args, Thresholds)
    missing = {run: run.missing() for run in steps.runs(sweep, _workplace(args))}
    planned = list(dict.fromkeys(chain.from_iterable(missing.values())))  # each step once
    steps.require_known(planned)
    spending = list(steps.spending(planned))
    if args.dry_run:
        _print_plan(missing)
        print(*spending, sep="\n", end="\n" * bool(spending))
        return 0
    for line in spending:
        log.info(line)

    require_writable(args.database_root, args.ckpt_root, args.output_root)
    if planned and not args.scheduler:
        devices.resolve(args.device)
    errors = _perform(planned, missing, _jobs(args, planned), args.scheduler)
    try:
        print(report.write(sweep, args.output_root, args.database_root, thresholds))
    finally:
        for run, error in errors.items():
            print(f"failed: {run.name}: {error}", file=sys.stderr)
    return 1 if errors else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    cli.add_sweep_flags(parser)
    cli.add_jobs_flags(parser, auto=True)
    parser.add_argument("--dry_run", action="store_true", help="print the runs, do nothing")
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    cli.add_folder_flag(parser, "--database_root", "assets/database", "embeddings")
    cli.add_folder_flag(parser, "--ckpt_root", "assets/ckpts", "fitted models")
    cli.add_folder_flag(parser, "--output_root", "assets/logs", "results")
    cli.add_settings_flags(parser, Thresholds)
    return parser.parse(argv)


def _workplace(args: argparse.Namespace) -> Workplace:
    from src.sweep.base import Workplace

    return Workplace(
        device=args.device,
        dataset_root=args.dataset_root.resolve(),  # workers may run in other folders
        database_root=args.database_root.resolve(),
        ckpt_root=args.ckpt_root.resolve(),
        output_root=args.output_root.resolve(),
    )


def _print_plan(missing: Mapping[Step, Sequence[Step]]) -> None:
    """Print what each run needs, and how many are done."""
    for run, steps in missing.items():
        needs = ", ".join(step.makes for step in steps)
        print(f"{run.name}: {f'needs {needs}' if needs else 'done'}")
    done = sum(not steps for steps in missing.values())
    print(f"{len(missing)} runs, {done} done, {len(missing) - done} to do")


def _jobs(args: argparse.Namespace, planned: Sequence[Step]) -> int:
    """The number asked for; where none is, what is fastest here."""
    if args.jobs or args.scheduler or not planned:
        return args.jobs or 1
    from src.sweep import workers

    return workers.jobs(len(planned), devices.resolve(args.device))


def _perform(
    planned: Sequence[Step],
    missing: Mapping[Step, Sequence[Step]],
    jobs: int,
    scheduler: str | None,
) -> dict[Step, str]:
    """Perform the steps under one bar → the runs that failed, with their errors."""
    from src.sweep import workers

    errors: dict[Step, str] = {}
    kept = sum(not steps for steps in missing.values())
    with progress.bar(total=len(missing), initial=kept, unit="run", desc="sweep") as bar:
        for step, error in workers.perform(planned, jobs=jobs, scheduler=scheduler):
            if step not in missing:
                continue  # the bar counts runs
            if error:
                errors[step] = error
            bar.set_postfix(failed=len(errors), left=len(missing) - bar.n - 1, refresh=False)
            bar.update()
    return {run: errors[run] for run in missing if run in errors}


if __name__ == "__main__":
    cli.run(main)
