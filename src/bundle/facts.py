"""Facts of a release: held against what follows from other numbers, or named as stated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from src.core.errors import DataError


class Promise(NamedTuple):
    """What is guaranteed, what of it a bundle shows, and what it can only state."""

    guarantee: str
    shown: list[str]
    stated: list[str]


def unchecked(facts: Mapping[str, Any], *checked: str) -> list[str]:
    """The facts that nothing was compared with."""
    return [f"fact: {name}" for name in sorted(facts.keys() - {*checked})]


def require(name: str, stated: object, derived: object, source: str) -> None:
    """Raise DataError where a number or text is not what follows from the source, in its type."""
    if type(stated) is not type(derived) or stated != derived:
        raise DataError(f"states {name} {stated!r:.80}, but {source} {derived!r:.80}")


def number(facts: Mapping[str, Any], name: str) -> float:
    """A fact that is a number above 0.

    Raises:
        DataError: it is not.
    """
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DataError(f"states {name} {value!r:.80}, which is not a number above 0")
    return float(value)
