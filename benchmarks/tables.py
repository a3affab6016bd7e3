"""Write the tables of README.md and docs/ from the files of docs/results/.

python -m benchmarks.tables

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`. It is made from
docs/results/NAME.csv (such as a sweep's table.csv) or NAME.json (of `python -m benchmarks`); the
name `anonymizers` stands for the reference of all methods. Words after the name are the metrics
to show; `turned` swaps rows and columns.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from src import cli
from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.core import tables
from src.core.errors import InputError, UnknownNameError
from src.core.files import read_json, reading, write_text
from src.core.settings import WORDS
from src.probing.results import DISTANCE, UTILITY
from src.report.tables import TITLES as METRICS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
REFERENCE = "anonymizers"  # the one table that is made from the code
MARKED = re.compile(r"(<!-- table: ([\w. ]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
PARTS = ("_mean", "_sd", "_best", "_published")  # of a metric's columns in a CSV
TITLES = {
    **METRICS,
    "distance_5": "distance, 5 % quantile",
    "confidence_other": "confidence (other)",
}

Rows = list[list[str]]  # of text, the header first


def pages() -> list[Path]:
    """README.md and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def updated(page: Path) -> str:
    """The page with every table as it is to be.

    Raises:
        InputError: a marker names no file of docs/results or an unknown metric.
    """

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}{_table(match[2].split())}\n{match[3]}"

    return MARKED.sub(replaced, page.read_text(encoding="utf-8"))


def _table(words: Sequence[str]) -> str:
    """The Markdown of a marker's words."""
    name, *rest = words
    if name == REFERENCE:
        return reference(methods.ALL.values())
    names = {path.stem: path for path in RESULTS.glob("*.*") if path.suffix != ".md"}
    if name not in names:
        raise UnknownNameError("table", name, [*names, REFERENCE])
    if names[name].suffix == ".json":
        from benchmarks.__main__ import table

        return table(read_json(names[name])["items"])
    metrics = [word for word in rest if word != "turned"]
    header, *rows = of_csv(names[name], metrics)
    if "turned" in rest:
        header, *rows = map(list, zip(header, *rows, strict=True))
    return tables.markdown(header, rows)


def of_csv(path: Path, metrics: Sequence[str] = ()) -> Rows:
    """The table of a CSV file: texts that differ between lines, then the metrics.

    The columns `X_mean`, `X_sd`, `X_best` and `X_published` are one metric, X; all other columns
    are shown as they are.

    Args:
        path: such as a sweep's table.csv.
        metrics: those to show; all if empty.

    Raises:
        InputError: the file cannot be read, or a metric is unknown.
    """
    with reading(path), path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not lines:
        raise InputError(f"{path} has no lines")
    names = list(lines[0])
    known = [name.removesuffix("_mean") for name in names if name.endswith("_mean")]
    for metric in metrics:
        if metric not in known:
            raise UnknownNameError(f"metric of {path.name}", metric, known)
    chosen = metrics or known
    text = [
        name
        for name in names
        if not name.endswith(PARTS) and len({line[name] for line in lines}) > 1
    ]
    noisy = {metric.partition("_sigma")[2] for metric in chosen} - {"", "0"}
    header = [TITLES.get(name, name) for name in text]
    for metric in chosen:
        header.append(_title(metric, noisy=bool(noisy)))
        header += ["released code"] * (f"{metric}_published" in names)
    rows = [
        [line[name] for name in text] + [cell for m in chosen for cell in _cells(line, m)]
        for line in lines
    ]
    return [header, *rows]


def _title(metric: str, *, noisy: bool) -> str:
    name, _, sigma = metric.partition("_sigma")
    title = TITLES.get(name, name.replace("_", " "))
    return f"{title}, σ = {sigma}" if sigma and noisy else title


def _cells(line: Mapping[str, str], metric: str) -> Iterable[str]:
    """Mean ± standard deviation, bold where it is the best; then the published value, if any."""
    percent = metric.partition("_sigma")[0] in UTILITY
    decimals = 2 if percent or metric == DISTANCE else 3

    def shown(part: str) -> str:
        value = line.get(f"{metric}_{part}")
        return f"{float(value):.{decimals}f}" if value else ""

    text = " ± ".join(filter(None, (shown("mean"), shown("sd")))) or "–"
    yield f"**{text}**" if line.get(f"{metric}_best") == "1" else text
    if f"{metric}_published" in line:
        yield shown("published") or "–"


def reference(kinds: Iterable[type[Anonymizer]]) -> str:
    """A section per method: its docstring, an id, and a table of its settings."""
    return "\n\n".join(map(_section, kinds))


def _section(kind: type[Anonymizer]) -> str:
    fields = dataclasses.fields(kind)
    hints = get_type_hints(kind)
    required = {
        field.name: field.metadata["minimum"] or 1
        for field in fields
        if field.default is dataclasses.MISSING
    }
    flags = [f"--{name} {value}" for name, value in required.items()]
    script = "probing_noise_cvae.py --sigma 0" if kind.name in methods.ONLINE else "anonymize.py"
    seed = ["--seed 0"] if kind.seeded else []
    command = " ".join(["python", script, "--anonymizer", kind.name, *flags, *seed])
    release_id = kind.parse(required, of=kind.name).release_id(0)
    text = [f"## {kind.name}", inspect.cleandoc(kind.__doc__ or "")]
    text.append(f"The id of `{command}` is `{release_id}`.")
    rows = [
        [
            f"`--{field.name}`",
            _default(field),
            _range(field, hints[field.name]),
            _in_id(field, hints[field.name]),
            field.metadata["help"],
        ]
        for field in fields
    ]
    if rows:
        text.append(tables.markdown(["flag", "default", "value", "in the id", "meaning"], rows))
    return "\n\n".join(text)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "–"
    return "off" if field.default is False else str(field.default)


def _range(field: dataclasses.Field[Any], hint: Any) -> str:
    if choices := field.metadata.get("choices"):
        return " or ".join(choices)
    kind = (get_args(hint) or (hint,))[0]  # `float | None` is either
    if kind is bool:
        return "a switch"
    signs = {"minimum": "≥", "above": ">", "maximum": "≤"}
    bounds = {sign: field.metadata[name] for name, sign in signs.items()}
    said = ", ".join(f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None)
    return f"{WORDS[kind].removeprefix('a ')} {said}".rstrip()


def _in_id(field: dataclasses.Field[Any], hint: Any) -> str:
    tag = field.metadata["tag"]
    tag = field.name if tag is None else tag
    return f"`-{tag}`" if hint is bool else f"`-{tag}<X>`"


def main(argv: Sequence[str] | None = None) -> None:
    """Rewrite the pages whose tables have changed; name them."""
    cli.Parser(__doc__).parse(argv)
    for page in pages():
        text = updated(page)
        if text != page.read_text(encoding="utf-8"):
            write_text(page, text)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    cli.run(main)
