"""Run what is missing of a sweep, then write its tables and figures.

python -m src.sweep configs/demo.yaml
python -m src.sweep configs/demo.yaml --jobs 2
python -m src.sweep configs/paper/utility.yaml --scheduler tcp://HOST:8786
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli, progress
from src.files import require_writable

if TYPE_CHECKING:
    from src.sweep.config import Sweep
    from src.sweep.steps import Planned, Run


def main(argv: Sequence[str] | None = None) -> int:
    """Read, plan, run, report → 0, or 1 if a run failed."""
    args = _parse(argv)
    from src import report
    from src.sweep import config, steps

    sweep = config.read(args.sweep)
    report.check(sweep)
    place = steps.Workplace(
        dataset_root=args.dataset_root.resolve(),  # workers may run in other folders
        database_root=args.database_root.resolve(),
        ckpt_root=args.ckpt_root.resolve(),
        output_root=args.output_root.resolve(),
        device=args.device,
        head=sweep.head,
        sigma=sweep.sigma,
    )
    needs = {run: run.needs() for run in steps.runs_of(sweep, place)}
    _check_names(sweep, place.dataset_root, needs)
    planned = steps.plan(needs, sweep.variants)
    if args.dry_run:
        _print_plan(needs)
        return 0
    for root in (args.database_root, args.ckpt_root, args.output_root):
        require_writable(root)
    if planned and not args.scheduler:
        from src import devices

        devices.resolve(args.device)
    errors = _perform(planned, needs, jobs=args.jobs, scheduler=args.scheduler)
    try:
        print(report.write(sweep, args.output_root, args.database_root))
    finally:
        for run, error in errors.items():
            print(f"failed: {run.name}: {error}", file=sys.stderr)
    return 1 if errors else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("sweep", type=Path, metavar="CONFIG", help="YAML file of the sweep")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=cli.number(int, minimum=1),
        default=1,
        metavar="N",
        help="local processes that share the processor's cores (default: 1)",
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask cluster's")
    parser.add_argument("--dry_run", action="store_true", help="print the runs, do nothing")
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    cli.add_database_flag(parser)
    cli.add_ckpt_flag(parser)
    cli.add_output_flag(parser, "assets/logs")
    return parser.parse(argv)


def _check_names(sweep: Sweep, dataset_root: Path, needs: Mapping[Run, Sequence[str]]) -> None:
    """Raise InputError for a data set or backbone that has to be loaded and is unknown."""
    from src import datasets
    from src.sweep.steps import EMBEDDINGS

    to_extract = {(r.dataset, r.backbone) for r, missing in needs.items() if EMBEDDINGS in missing}
    for dataset in sorted({dataset for dataset, _ in to_extract}):
        datasets.require_known(dataset, dataset_root)
    if to_extract:
        from src import backbones

        for backbone in sorted({backbone for _, backbone in to_extract}):
            backbones.require_known(backbone)


def _print_plan(needs: Mapping[Run, Sequence[str]]) -> None:
    for run, missing in needs.items():
        print(f"{run.name}: {'needs ' + ', '.join(missing) if missing else 'done'}")
    done = sum(not missing for missing in needs.values())
    print(f"{len(needs)} runs, {done} done, {len(needs) - done} to do")


def _perform(
    planned: Sequence[Planned],
    needs: Mapping[Run, Sequence[str]],
    *,
    jobs: int,
    scheduler: str | None,
) -> dict[Run, str]:
    """Perform the steps under one bar → the runs that failed, with their errors."""
    from src.sweep import workers
    from src.sweep.steps import Run

    errors: dict[Run, str] = {}
    kept = sum(not missing for missing in needs.values())
    with progress.bar(total=len(needs), initial=kept, unit="run", desc="sweep") as bar:
        for step, error in workers.perform(planned, jobs=jobs, scheduler=scheduler):
            if not isinstance(step, Run):
                continue
            if error:
                errors[step] = error
            bar.set_postfix(failed=len(errors), left=len(needs) - bar.n - 1, refresh=False)
            bar.update()
    return {run: errors[run] for run in needs if run in errors}


if __name__ == "__main__":
    cli.run(main)
