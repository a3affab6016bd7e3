"""The table of a sweep: means and standard deviations over seeds, in three formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.audit.measures import MEASURES
from src.core.files import number_name, write_text
from src.core.tables import markdown, mean_and_deviation
from src.database import IDENTITY
from src.probing import results
from src.probing.settings import HeadSettings
from src.report.collect import Average, Result, doubts
from src.report.grid import Sweep
from src.report.published import Key, Published

TITLES = {
    "auc": "AUC (%)",
    "accuracy": "accuracy (%)",
    "balanced_accuracy": "balanced accuracy (%)",
    results.DISTANCE: "distance",
    **{key: measure.label for key, measure in MEASURES.items()},
}
NAMES = ("dataset", "backbone", "anonymizer")  # the first columns; then heads, if several
LATEX = {
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
        """Digits shown after the point."""
        return 2 if self.metric in results.UTILITY else 3

    @property
    def sign(self) -> int:
        """-1 where lower is better, else 1."""
        return -1 if self.metric in MEASURES and MEASURES[self.metric].lower_is_better else 1

    def merit(self, cell: Average) -> float:
        """The mean as the table shows it, the higher the better."""
        return self.sign * round(cell.mean, self.decimals)


@dataclass(frozen=True)
class Line:
    """An anonymizer under one dataset, backbone and head; no cells where no seed is complete."""

    dataset: str
    backbone: str
    head: HeadSettings
    anonymizer: Anonymizer
    seeds: list[int]
    missing: list[int]
    cells: dict[Column, Average]
    published: dict[Column, Published]

    @property
    def competes(self) -> bool:
        """Whether it can be the best."""
        return self.anonymizer.name != IDENTITY and not self.missing

    @property
    def names(self) -> list[str]:
        """What the first columns hold."""
        return [self.dataset, self.backbone, self.anonymizer.label]

    @property
    def place(self) -> tuple[str, str, HeadSettings]:
        """Where it competes with other lines."""
        return self.dataset, self.backbone, self.head


@dataclass(frozen=True)
class Table:
    """All lines, and the columns in which each has the best value of its dataset."""

    seeds: Sequence[int]
    columns: list[Column]
    lines: list[Line]
    best: list[set[Column]]  # per line
    doubts: list[str]  # where heads tell more of themselves than of their rows

    @property
    def names(self) -> list[str]:
        """The titles of the first columns."""
        return [*NAMES, *(["head"] if len({line.head for line in self.lines}) > 1 else [])]

    def of(self, line: Line) -> list[str]:
        """What the first columns hold of a line."""
        return [*line.names, line.head.label][: len(self.names)]

    @property
    def shown_published(self) -> list[Column]:
        """The columns for which there are published values."""
        return [c for c in self.columns if any(c in line.published for line in self.lines)]


def build(sweep: Sweep, found: Iterable[Result], paper: Mapping[Key, Published]) -> Table:
    """Average over the seeds that have a result at every noise level of the table."""
    columns = [
        Column(metric, sigma)
        for metric in sweep.shown.metrics
        for sigma in (sweep.shown.sigma if metric in results.UTILITY else [None])
    ]
    by_line: dict[tuple[str, str, HeadSettings, Anonymizer], dict[int, dict[float, Result]]] = {}
    for result in found:
        place = (result.dataset, result.backbone, result.head)
        by_seed = by_line.setdefault((*place, result.anonymizer), {})
        by_seed.setdefault(result.seed, {})[result.sigma] = result
    lines = []
    for place in sweep.judged():
        for anonymizer in sweep.anonymizers:
            key = (*place, anonymizer)
            by_seed = {
                seed: by_sigma
                for seed, by_sigma in by_line.get(key, {}).items()
                if _is_complete(by_sigma, anonymizer, columns, sweep)
            }
            known = _published(place, anonymizer, columns, paper)
            seeds = [seed for seed in sweep.seeds if seed in by_seed]
            missing = [seed for seed in sweep.seeds if seed not in by_seed]
            cells = _cells(columns, [by_seed[seed] for seed in seeds], sweep.shown.sigma[0])
            lines.append(Line(*key, seeds, missing, cells, known))
    best = [_best(line, lines) for line in lines]
    return Table(sweep.seeds, columns, lines, best, doubts(sweep, found))


def _published(
    place: tuple[str, str, HeadSettings],
    anonymizer: Anonymizer,
    columns: Iterable[Column],
    paper: Mapping[Key, Published],
) -> dict[Column, Published]:
    """The published values of a line; they are of the published head."""
    dataset, backbone, head = place
    keys = {c: Key(dataset, backbone, anonymizer, *c) for c in columns if head.published}
    return {column: paper[key] for column, key in keys.items() if key in paper}


def _is_complete(
    by_sigma: Mapping[float, Result], anonymizer: Anonymizer, columns: Iterable[Column],
    sweep: Sweep,
) -> bool:  # fmt: skip
    """Whether a seed has all results that the table shows, and its audit if it shows one."""
    if not set(sweep.shown.sigma) <= by_sigma.keys():
        return False
    if anonymizer.name in methods.ONLINE or not any(c.metric in MEASURES for c in columns):
        return True
    return not by_sigma[sweep.shown.sigma[0]].values.keys().isdisjoint(MEASURES)


def _cells(
    columns: Iterable[Column], seeds: Sequence[Mapping[float, Result]], first: float
) -> dict[Column, Average]:
    """The columns whose metric is known for all of these seeds, one or more.

    Args:
        first: the noise level of the results from which metrics without one are taken.
    """
    cells = {}
    for column in columns:
        at = first if column.sigma is None else column.sigma
        values = [by_sigma[at].values.get(column.metric) for by_sigma in seeds]
        known = tuple(value for value in values if value is not None)
        if known and len(known) == len(values):
            cells[column] = Average(known)
    return cells


def _best(line: Line, lines: Iterable[Line]) -> set[Column]:
    """The columns where a line is the best, as shown, of those that compete with it."""
    if not line.competes:
        return set()
    rivals = [other for other in lines if other.place == line.place]
    return {
        column
        for column, cell in line.cells.items()
        if column.merit(cell)
        == max(
            column.merit(other.cells[column])
            for other in rivals
            if other.competes and column in other.cells
        )
    }


def write(folder: Path, table: Table) -> list[Path]:
    """Write table.md, table.tex and table.csv."""
    made = {"md": as_markdown(table), "tex": as_latex(table), "csv": as_csv(table)}
    for ending, text in made.items():
        write_text(folder / f"table.{ending}", text)
    return [folder / f"table.{ending}" for ending in made]


def as_markdown(table: Table) -> str:
    """The table and its notes in Markdown."""
    header, *lines = _text(table, "**{}**")
    return "\n".join([markdown(header, lines), "", *_notes(table)]) + "\n"


def as_latex(table: Table) -> str:
    """The table for LaTeX with the package booktabs; its notes as comments above."""
    header, *lines = _text(table, "\0{}\1")
    rows = []
    previous = None
    for line, text in zip(table.lines, lines, strict=True):
        if previous not in (None, line.place):
            rows.append(r"\midrule")
        previous = line.place
        escaped = " & ".join(map(_escaped, text))
        rows.append(escaped.replace("\0", r"\textbf{").replace("\1", "}") + r" \\")
    names = len(table.names)
    alignment = "l" * names + "r" * (len(header) - names - 1) + "l"
    return "\n".join(
        [
            *(f"% {note}" for note in _notes(table)),
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(map(_escaped, header)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def as_csv(table: Table) -> str:
    """The numbers of the table, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [*table.names, "seeds", "missing_seeds"]
    for column in table.columns:
        noise = "" if column.sigma is None else f"_sigma{number_name(column.sigma)}"
        endings = ["mean", "sd", "best", *["published"] * (column in table.shown_published)]
        header += [f"{column.metric}{noise}_{ending}" for ending in endings]
    writer.writerow(header)
    for line, best in zip(table.lines, table.best, strict=True):
        values: list[object] = [*table.of(line), len(line.seeds), " ".join(map(str, line.missing))]
        for column in table.columns:
            cell = line.cells.get(column)
            values += [cell.mean, cell.deviation, int(column in best)] if cell else ["", "", ""]
            if column in table.shown_published:
                values.append(line.published[column].value if column in line.published else "")
        writer.writerow(values)
    return text.getvalue()


def _text(table: Table, bold: str) -> list[list[str]]:
    """Header and lines as they are shown, before any markup except that of bold."""
    header = table.names
    for column in table.columns:
        header.append(_title(column, table))
        header += ["published"] * (column in table.shown_published)
    text = [[*header, "seeds"]]
    for line, best in zip(table.lines, table.best, strict=True):
        cells = table.of(line)
        for column in table.columns:
            cell, value = line.cells.get(column), line.published.get(column)
            shown = mean_and_deviation(cell.values, column.decimals) if cell else "–"
            cells.append(bold.format(shown) if column in best else shown)
            if column in table.shown_published:
                cells.append(f"{value.value:.{column.decimals}f}" if value else "–")
        missing = f" (missing: {', '.join(map(str, line.missing))})" if line.missing else ""
        text.append([*cells, f"{len(line.seeds)}{missing}"])
    return text


def _title(column: Column, table: Table) -> str:
    levels = {c.sigma for c in table.columns} - {None}
    noise = f", σ = {column.sigma:g}" if column.sigma is not None and levels != {0.0} else ""
    return TITLES[column.metric] + noise


def _notes(table: Table) -> list[str]:
    seeds = ", ".join(map(str, table.seeds))
    lower = [TITLES[column.metric] for column in table.columns if column.sign < 0]
    except_for = f" (the lowest of {', '.join(lower)})" if lower else ""
    notes = [
        f"Mean ± standard deviation over seeds ({seeds}). Bold: the highest value{except_for} "
        "among a dataset's anonymized releases without a missing seed."
    ]
    notes += table.doubts
    sources = {value.source for line in table.lines for value in line.published.values()}
    if sources:
        notes.append(f"Published: {'; '.join(sorted(sources))}.")
    return notes


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
