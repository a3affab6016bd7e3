"""The datasheet for people, in Markdown; nothing in it that `datasheet.json` does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from src.core import tables
from src.core.errors import printable

MADE = ("anonymizer", "settings", "unit", "seed", "facts", "fingerprints")
REMARKS = ("description", "license", "preprocessing", "versions")
RESULT = ("id", "sigma", "seed", "auc", "accuracy", "balanced_accuracy", "average_mindistance")
MEASURED = ("id", "head", "clip", *RESULT[1:])
LONGEST = 200  # characters of a cell of a table, whose column is as wide
UNCOVERED = "Figures are computed from real rows: a privacy guarantee does not cover them."


def render(sheet: Mapping[str, Any]) -> str:
    """The datasheet for people, in Markdown."""
    parts = [
        f"# {shown(sheet['release'])} of {shown(sheet['dataset'])}",
        f"**Guarantee.** {shown(sheet['guarantee'])}",
        "## Data",
        f"{sheet['rows']} anonymized embeddings of {sheet['dimensions']} dimensions "
        f"(`train.npz`: `embeddings`, `labels`) by the backbone `{shown(sheet['backbone'])}`.",
        _table(sheet["classes"], ("label", "name", "rows")),
        "## How it was made",
        _items({key: sheet[key] for key in MADE}),
        "## Shown by `python -m src.bundle verify`",
        "\n".join(f"- {shown(line)}" for line in sheet["shown"]),
        "## Stated, not checked",
        "\n".join(f"- {shown(line)}" for line in sheet["stated"]),
        _items({key: sheet[key] for key in REMARKS}),
    ]
    if sheet["utility"]:
        parts += ["## Utility (linear head, real test rows; stated, not checked)", UNCOVERED]
        parts += [_table([_with_head(result) for result in sheet["utility"]], MEASURED)]
    for audit in sheet["audits"]:
        parts += ["## Privacy audit (stated, not checked)", UNCOVERED, _items(audit)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _items(content: Mapping[str, Any], depth: int = 0) -> str:
    """Nested lists of names and values."""
    lines = []
    for key, value in content.items():
        nested = isinstance(value, Mapping) and bool(value)
        lines.append(f"{'  ' * depth}- {shown(key)}:" + ("" if nested else f" {shown(value)}"))
        if nested:
            lines.append(_items(value, depth + 1))
    return "\n".join(lines)


def _with_head(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the kind of head that measured it, and the limit of its features."""
    head = result["head"] if isinstance(result["head"], Mapping) else {}
    return {**result, "head": head.get("head", "adam"), "clip": head.get("clip")}


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    cells = [[f"{shown(row[column]):.{LONGEST}}" for column in columns] for row in rows]
    return tables.markdown(columns, cells)


def shown(value: Any) -> str:
    """A value in one line that is only what it looks like.

    Control characters, which a terminal would obey, and lone surrogates, which no file can hold,
    are written as escapes.
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else printable(" ".join(str(value).split()))
