"""The table of a sweep: means and standard deviations over seeds, in three formats."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from src import results
from src.audit.measures import MEASURES
from src.database import IDENTITY
from src.files import number_name, write_text
from src.report.collect import Row
from src.report.published import Key, Value
from src.sweep.config import Sweep, Variant

_TITLES = {
    "auc": "AUC (%)",
    "accuracy": "accuracy (%)",
    "balanced_accuracy": "balanced accuracy (%)",
    results.DISTANCE: "distance",
    **{key: row.label for key, row in MEASURES.items()},
}
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    "σ": r"$\sigma$",
    "–": "--",
}


class Column(NamedTuple):
    """A metric, and the noise level it is taken at (None where there is no noise)."""

    metric: str
    sigma: float | None

    @property
    def decimals(self) -> int:
        """Digits that are shown after the point."""
        return 2 if self.metric in results.UTILITY else 3

    @property
    def sign(self) -> int:
        """-1 where lower is better, else 1."""
        return -1 if self.metric in MEASURES and MEASURES[self.metric].lower_is_better else 1

    def show(self, value: float | None) -> str:
        """The value as the table has it."""
        return "" if value is None else f"{value:.{self.decimals}f}"


class Cell(NamedTuple):
    """Mean over seeds, and their sample standard deviation where there are two or more."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Line:
    """A variant on one data set and backbone; no cells where no seed is complete."""

    dataset: str
    backbone: str
    variant: Variant
    seeds: list[int]
    missing: list[int]
    cells: dict[Column, Cell]
    published: dict[Column, Value]


@dataclass(frozen=True)
class Table:
    """All lines, and the columns in which each has the best value of its data set."""

    seeds: Sequence[int]
    columns: list[Column]
    lines: list[Line]
    best: list[set[Column]]  # for each line

    @property
    def shown_published(self) -> list[Column]:
        """The columns for which there are published values."""
        return [c for c in self.columns if any(c in line.published for line in self.lines)]


def build(sweep: Sweep, rows: Iterable[Row], paper: Mapping[Key, Value]) -> Table:
    """Average over the seeds that have a result at every noise level of the table."""
    contents = sweep.contents
    columns = [
        Column(metric, sigma)
        for metric in contents.metrics
        for sigma in (contents.sigma if metric in results.UTILITY else [None])
    ]
    found: dict[tuple[str, str, Variant], dict[int, dict[float, Row]]] = {}
    for row in rows:
        by_seed = found.setdefault((row.dataset, row.backbone, row.variant), {})
        by_seed.setdefault(row.seed, {})[row.sigma] = row
    lines = []
    for (dataset, backbone), variant in itertools.product(sweep.tables(), sweep.variants):
        by_seed = found.get((dataset, backbone, variant), {})
        seeds = [s for s in sweep.seeds if _complete(by_seed.get(s, {}), variant, columns, sweep)]
        found_at = {c: contents.sigma[0] if c.sigma is None else c.sigma for c in columns}
        values = {
            c: [v for s in seeds if (v := by_seed[s][at].values.get(c.metric)) is not None]
            for c, at in found_at.items()
        }
        known = {c: paper.get(Key(dataset, backbone, variant, *c)) for c in columns}
        lines.append(
            Line(
                dataset,
                backbone,
                variant,
                seeds,
                [s for s in sweep.seeds if s not in seeds],
                {c: _cell(v) for c, v in values.items() if v and len(v) == len(seeds)},
                {c: value for c, value in known.items() if value},
            )
        )
    return Table(sweep.seeds, columns, lines, [_best(line, lines) for line in lines])


def _complete(
    by_sigma: Mapping[float, Row], variant: Variant, columns: Iterable[Column], sweep: Sweep
) -> bool:
    """Whether a seed has all results that the table shows, and its audit if it shows one."""
    if not set(sweep.contents.sigma) <= set(by_sigma):
        return False
    audited = any(c.metric in MEASURES for c in columns) and not variant.anonymizer.online
    return not audited or not by_sigma[sweep.contents.sigma[0]].values.keys().isdisjoint(MEASURES)


def _cell(values: Sequence[float]) -> Cell:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), deviation)


def _best(line: Line, lines: Iterable[Line]) -> set[Column]:
    """The columns where a line is the best, as shown, of those that compete with it."""
    rivals = [
        other
        for other in lines
        if (other.dataset, other.backbone) == (line.dataset, line.backbone) and _competes(other)
    ]
    if line not in rivals:
        return set()
    return {
        column
        for column, cell in line.cells.items()
        if column.sign * float(column.show(cell.mean))
        == max(
            column.sign * float(column.show(other.cells[column].mean))
            for other in rivals
            if column in other.cells
        )
    }


def _competes(line: Line) -> bool:
    return line.variant.anonymizer.name != IDENTITY and not line.missing


def write(folder: Path, table: Table) -> list[Path]:
    """Write table.md, table.tex and table.csv."""
    made = {"md": markdown(table), "tex": latex(table), "csv": values_csv(table)}
    for ending, text in made.items():
        write_text(folder / f"table.{ending}", text)
    return [folder / f"table.{ending}" for ending in made]


def markdown(table: Table) -> str:
    """The table and its notes in Markdown."""
    text = [[cell.replace("|", "\\|") for cell in line] for line in _text(table, "**{}**")]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in text
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join([*lines, "", *_notes(table)]) + "\n"


def latex(table: Table) -> str:
    """The table for LaTeX with the package booktabs; its notes as comments above."""
    header, *lines = _text(table, "\0{}\1")
    rows = []
    previous = None
    for line, text in zip(table.lines, lines, strict=True):
        if previous not in (None, (line.dataset, line.backbone)):
            rows.append(r"\midrule")
        previous = (line.dataset, line.backbone)
        escaped = " & ".join(map(_escaped, text))
        rows.append(escaped.replace("\0", r"\textbf{").replace("\1", "}") + r" \\")
    names = 3
    return "\n".join(
        [
            *(f"% {note}" for note in _notes(table)),
            rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(header) - names - 1)}l}}",
            r"\toprule",
            " & ".join(map(_escaped, header)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def values_csv(table: Table) -> str:
    """The numbers of the table, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["dataset", "backbone", "anonymizer", "seeds", "missing_seeds"]
    for column in table.columns:
        name = column.metric + (
            "" if column.sigma is None else f"_sigma{number_name(column.sigma)}"
        )
        header += [f"{name}_mean", f"{name}_sd", f"{name}_best"]
        header += [f"{name}_published"] * (column in table.shown_published)
    writer.writerow(header)
    for line, best in zip(table.lines, table.best, strict=True):
        values: list[object] = [line.dataset, line.backbone, line.variant.label]
        values += [len(line.seeds), " ".join(map(str, line.missing))]
        for column in table.columns:
            cell = line.cells.get(column)
            values += [cell.mean, cell.deviation, int(column in best)] if cell else ["", "", ""]
            if column in table.shown_published:
                values.append(line.published[column].value if column in line.published else "")
        writer.writerow(values)
    return text.getvalue()


def _text(table: Table, bold: str) -> list[list[str]]:
    """Header and lines as they are shown, before any markup but that of bold."""
    header = ["data set", "backbone", "anonymizer"]
    for column in table.columns:
        header.append(_title(column, table))
        header += ["published"] * (column in table.shown_published)
    text = [[*header, "seeds"]]
    for line, best in zip(table.lines, table.best, strict=True):
        cells = [line.dataset, line.backbone, line.variant.label]
        for column in table.columns:
            shown = _shown(line.cells.get(column), column)
            cells.append(bold.format(shown) if column in best else shown)
            if column in table.shown_published:
                value = line.published.get(column)
                cells.append(column.show(value.value) if value else "–")
        missing = f" (missing: {', '.join(map(str, line.missing))})" if line.missing else ""
        text.append([*cells, f"{len(line.seeds)}{missing}"])
    return text


def _title(column: Column, table: Table) -> str:
    levels = {c.sigma for c in table.columns} - {None}
    noise = f", σ = {column.sigma:g}" if column.sigma is not None and levels != {0.0} else ""
    return _TITLES[column.metric] + noise


def _shown(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return "–"
    deviation = "" if cell.deviation is None else f" ± {column.show(cell.deviation)}"
    return column.show(cell.mean) + deviation


def _notes(table: Table) -> list[str]:
    seeds = ", ".join(map(str, table.seeds))
    lower = [_TITLES[c.metric] for c in table.columns if c.sign < 0]
    best = (
        f"the highest value (the lowest of {', '.join(lower)})" if lower else "the highest value"
    )
    notes = [
        f"Mean ± standard deviation over seeds ({seeds}). Bold: {best} of a data set's "
        "anonymized releases, of those without a missing seed."
    ]
    sources = {line.published[c].source for line in table.lines for c in line.published}
    if sources:
        notes.append(f"Published: {'; '.join(sorted(sources))}.")
    return notes


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
