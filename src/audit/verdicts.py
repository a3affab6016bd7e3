"""Figures in plain words that claim no more than the figures support."""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.audit.measures import MEASURES, Measure
from src.audit.statistics import Estimate

NOTHING = Estimate(None)
WIDER = (
    3.29 / 1.96
)  # 99.9 % against 95 %: of an audit's many controls none is to stray by accident


def verdict(
    key: str,
    value: Estimate,
    ceiling: Estimate,
    chances: Mapping[str, Estimate],
    *,
    non_members: int,
) -> str:
    """What a figure says, in one line.

    Args:
        key: of MEASURES.
        value, ceiling: for the release and for the training rows released as they are.
        chances: for disjoint real rows, by key. Where an attack succeeds with these, members
            and non-members differ by themselves, and nothing is called a leak.
        non_members: how many there are.
    """
    row, chance = MEASURES[key], chances.get(key, NOTHING)
    if row.useless is None:
        return f"utility: {row.finding}"
    if value.value is None or value.low is None or value.high is None:
        return _not_available(row, non_members)
    differ = f"train and test differ ({_shown(chance)} without a leak)"
    shift = _shift(row.control or key, chances)
    if value.low > row.useless:
        if shift > 0:
            more = chance.high is not None and value.low > chance.high
            return f"{differ}: the rest may be a leak" if more else f"{differ}: no leak shown"
        if chance.value is not None and value.low <= chance.value:
            return f"no leak shown: disjoint real rows give {_shown(chance)}"
        as_bad = ceiling.low is not None and value.value >= ceiling.low
        finding = row.finding.format(f"{value.value:.1%}")
        return f"leak: {finding}{', as much as from the training rows' if as_bad else ''}"
    if shift < 0:
        return f"{differ}: no leak found, but one may be hidden"
    if value.high < row.useless:
        return "no leak found; below chance"
    return f"no leak found; {value.high:.3f} is not excluded"


def _not_available(row: Measure, non_members: int) -> str:
    if row.resolution and non_members * row.resolution < 1:
        needed = math.ceil(1 / row.resolution)
        return f"n/a: takes {needed:,} non-members, there are {non_members:,}"
    return "n/a: not defined for this release"


def _shift(key: str, chances: Mapping[str, Estimate]) -> int:
    """1 where members are recognised without a leak, -1 where non-members are, else 0."""
    useless, chance = MEASURES[key].useless or 0.0, chances.get(key, NOTHING)
    if chance.value is None or chance.low is None or chance.high is None:
        return 0
    above = chance.value - useless > WIDER * (chance.value - chance.low)
    below = useless - chance.value > WIDER * (chance.high - chance.value)
    return int(above) - int(below)


def _shown(estimate: Estimate) -> str:
    return "n/a" if estimate.value is None else f"{estimate.value:.3f}"
