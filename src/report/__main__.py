"""Write the tables, figures and page of a sweep from its result files.

python -m src.report configs/demo.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

from src import cli
from src.report.recommendation import Thresholds


def main(argv: Sequence[str] | None = None) -> None:
    """Read the sweep and its results, write the report."""
    parser = cli.Parser(__doc__)
    cli.add_sweep_flags(parser)
    cli.add_folder_flag(parser, "--database_root", "assets/database", "embeddings")
    cli.add_folder_flag(parser, "--output_root", "assets/logs", "results")
    cli.add_settings_flags(parser, Thresholds)
    args = parser.parse(argv)
    thresholds = cli.settings_of(args, Thresholds)

    from src import report
    from src.report import grid

    sweep = grid.read(args.sweep, args.datasets, args.backbones)
    print(report.write(sweep, args.output_root, args.database_root, thresholds))


if __name__ == "__main__":
    cli.run(main)
