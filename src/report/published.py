"""Values that somebody read in a paper, to stand beside ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from src import results
from src.errors import InputError
from src.files import read_yaml
from src.sweep.config import Variant, expanded


class Key(NamedTuple):
    """What a published value is a value of."""

    dataset: str
    backbone: str
    variant: Variant
    metric: str
    sigma: float | None  # None for the distance, which has no noise


class Value(NamedTuple):
    """A published value, and the table it stands in."""

    value: float
    source: str


def read(path: Path | None) -> dict[Key, Value]:
    """Read published values; without a file there are none.

    Raises:
        InputError: the file cannot be read, or an entry of it is not in its format.
    """
    found: dict[Key, Value] = {}
    for source, entries in (read_yaml(path) if path else {}).items():
        if not isinstance(entries, list):
            raise InputError(f"{path}: '{source}' must be a list of entries")
        for number, entry in enumerate(entries, start=1):
            try:
                values = _values(str(source), entry)
                if twice := found.keys() & values.keys():
                    other = found[twice.pop()].source
                    raise InputError(f"'{other}' has a value of the same quantity already")
                found |= values
            except InputError as error:
                raise InputError(f"{path}: '{source}', entry {number}: {error}") from error
    return found


def _values(source: str, entry: Any) -> dict[Key, Value]:
    rest = dict(entry) if isinstance(entry, dict) else {}
    for name in ("dataset", "backbone", "anonymizer"):
        if not isinstance(rest.get(name), str):
            raise InputError(f"it has no name for '{name}'")
    dataset, backbone, sigma = rest.pop("dataset"), rest.pop("backbone"), rest.pop("sigma", 0.0)
    values = {name: rest.pop(name) for name in results.METRICS if name in rest}
    for name, value in (*values.items(), ("sigma", sigma)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise InputError(f"{name} is {value!r}; it must be a number")
    if not values:
        raise InputError(f"it has no value of {', '.join(results.METRICS)}")
    for name, value in rest.items():
        if isinstance(value, list):
            raise InputError(f"{name} must be one value, not {value}")
    (variant,) = expanded(rest)
    return {
        Key(dataset, backbone, variant, m, None if m == results.DISTANCE else float(sigma)): Value(
            float(value), source
        )
        for m, value in values.items()
    }
