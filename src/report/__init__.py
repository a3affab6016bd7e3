"""Reports: the result files of a sweep → a list of runs, tables and figures.

Nothing is fitted here, and the same files give the same report, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.report import collect, figures, published, tables
from src.sweep.config import Sweep


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
    published.read(sweep.contents.published)


def write(sweep: Sweep, output_root: Path, database_root: Path) -> Written:
    """Write `<output_root>/reports/<name>/`.

    Args:
        database_root: embeddings for the projection, which is left out where they are not there.

    Raises:
        DataError: the results of one data set were made from different embeddings.
        InputError: the file of published values cannot be used, or a file not be written.
    """
    folder = output_root / "reports" / sweep.name
    rows = collect.rows(sweep, output_root, database_root)
    paper = published.read(sweep.contents.published)
    table = tables.build(sweep, rows, paper)
    files = [collect.write_csv(folder / "results.csv", sweep, rows)]
    files += tables.write(folder, table)
    drawn, notes = figures.draw(folder, sweep, rows, database_root)
    return Written(tables.markdown(table), notes, [*files, *drawn])
