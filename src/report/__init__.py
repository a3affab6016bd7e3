"""Reports: the result files of a sweep → a list of results, tables, figures and one page.

Nothing is fitted here, and the same files give the same report, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src.report.grid import Sweep
    from src.report.recommendation import Thresholds


@dataclass(frozen=True)
class Written:
    """What a report holds; as text the table, its notes, and the files."""

    table: str
    notes: list[str]
    files: list[Path]

    def __str__(self) -> str:
        return "\n".join([self.table, *self.notes, *map(str, self.files)])


def check(sweep: Sweep) -> None:
    """Raise InputError before the work if the file of published values cannot be used."""
    from src.report import published

    published.read(sweep.shown.published)


def write(sweep: Sweep, output_root: Path, database_root: Path, thresholds: Thresholds) -> Written:
    """Write `<output_root>/reports/<name>/`.

    Args:
        database_root: embeddings for projections and coverage, which are left out where they are
            missing.
        thresholds: of the recommendation.

    Raises:
        DataError: the results of one dataset were made from different embeddings.
        InputError: the file of published values cannot be used, or a file cannot be written.
    """
    from src.report import collect, figures, page, published, tables

    folder = output_root / "reports" / sweep.name
    found = collect.found(sweep, output_root, database_root)
    table = tables.build(sweep, found, published.read(sweep.shown.published))
    files = [collect.write_csv(folder / "results.csv", sweep, found)]
    files += tables.write(folder, table)
    drawn, notes = figures.draw(folder, sweep, found, database_root)
    files.append(page.write(folder / "report.html", sweep, found, database_root, thresholds))
    return Written(tables.as_markdown(table), notes, [*files, *drawn])
