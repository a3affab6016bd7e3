"""Values that somebody read in a paper, to stand beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from src.anonymizers.base import Anonymizer
from src.core.configs import read_yaml
from src.core.errors import InputError
from src.probing import results
from src.report.grid import expanded, is_number, located


class Key(NamedTuple):
    """The quantity of a published value."""

    dataset: str
    backbone: str
    anonymizer: Anonymizer
    metric: str
    sigma: float | None  # None for the distance, which has no noise


class Published(NamedTuple):
    """A published value, and the table that has it."""

    value: float
    source: str


def read(path: Path | None) -> dict[Key, Published]:
    """Read published values; without a file there are none.

    Raises:
        InputError: the file cannot be read, or an entry of it is invalid.
    """
    found: dict[Key, Published] = {}
    for source, entries in (read_yaml(path) if path else {}).items():
        if not isinstance(entries, list):
            raise InputError(f"{path}: '{source}' must be a list of entries")
        for number, entry in enumerate(entries, start=1):
            with located(f"{path}: '{source}', entry {number}"):
                values = _values(str(source), entry)
                if twice := found.keys() & values.keys():
                    other = found[twice.pop()].source
                    raise InputError(f"'{other}' already has a value of the same quantity")
                found |= values
    return found


def _values(source: str, entry: Any) -> dict[Key, Published]:
    rest = dict(entry) if isinstance(entry, dict) else {}
    for name in ("dataset", "backbone", "anonymizer"):
        if not isinstance(rest.get(name), str):
            raise InputError(f"it has no name for '{name}'")
    dataset, backbone, sigma = rest.pop("dataset"), rest.pop("backbone"), rest.pop("sigma", 0.0)
    values = {name: rest.pop(name) for name in results.METRICS if name in rest}
    for name, value in (*values.items(), ("sigma", sigma)):
        if not is_number(value):
            raise InputError(f"{name} is {value!r}; it must be a number")
    if not values:
        raise InputError(f"it has no value of {', '.join(results.METRICS)}")
    for name, value in rest.items():
        if isinstance(value, list):
            raise InputError(f"{name} must be one value, not {value}")
    (anonymizer,) = expanded(rest)
    levels = {name: None if name == results.DISTANCE else float(sigma) for name in values}
    return {
        Key(dataset, backbone, anonymizer, name, levels[name]): Published(float(value), source)
        for name, value in values.items()
    }
