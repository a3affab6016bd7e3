"""Figures in plain words that claim no more than the figures support."""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.audit.measures import MEASURES, Measure
from src.audit.statistics import Estimate, expected_fpr

NOTHING = Estimate(None)
SHIFT_CONTROLS = ("nearest_auc", "calibrated_auc", "shadow_auc", "linkability", "copying_share")
# Four standard errors against the interval's 1.96: one of the five controls strays by accident in
# 3 of 10,000 audits, and in about 1 of 100 where an interval is a quarter too short.
WIDER = 4 / 1.96


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
        chances: the whole table's figures for disjoint real rows, by key. Where these show that
            members and non-members differ by themselves, no figure is called a leak.
        non_members: how many there are.
    """
    row, chance = MEASURES[key], chances.get(key, NOTHING)
    if row.useless is None:
        return f"utility: {row.finding}"
    if value.value is None or value.low is None or value.high is None:
        return _not_available(row, non_members)
    useless = row.useless if row.fpr is None else expected_fpr(row.fpr, non_members)
    above = value.low > useless
    finding = row.finding.format(f"{value.value:.1%}")
    if not row.proof:
        return f"near: {finding}; averages do that too" if above else f"not shown near: {finding}"
    if shifted(chances):
        differ = f"train and test differ ({_shown(chance)} without a leak)"
        if not above:
            return f"{differ}: no leak found, but one may be hidden"
        more = chance.high is not None and value.low > chance.high
        return f"{differ}: the rest may be a leak" if more else f"{differ}: no leak shown"
    if above:
        if chance.value is not None and value.low <= chance.value:
            return f"no leak shown: disjoint real rows give {_shown(chance)}"
        as_bad = ceiling.low is not None and value.value >= ceiling.low
        return f"leak: {finding}{', as much as from the training rows' if as_bad else ''}"
    if value.high < useless:
        return "no leak found; below chance"
    return f"no leak found; {value.high:.3f} is not excluded"


def shifted(chances: Mapping[str, Estimate]) -> bool:
    """Whether members and non-members can be told apart without a leak.

    Decided once for the whole table: a shift that one attack shows may help another whose own
    control hides it, and one that makes members look like non-members to disjoint real rows may
    do the opposite to other releases.

    Args:
        chances: figures for disjoint real rows, by keys of MEASURES.
    """
    return any(_strays(key, chances.get(key, NOTHING)) for key in SHIFT_CONTROLS)


def _strays(key: str, chance: Estimate) -> bool:
    """Whether a control is off the figure of an attack that learns nothing, on either side."""
    useless = MEASURES[key].useless
    if useless is None or chance.value is None or chance.low is None or chance.high is None:
        return False
    above = chance.value - useless > WIDER * (chance.value - chance.low)
    below = useless - chance.value > WIDER * (chance.high - chance.value)
    return above or below


def _not_available(row: Measure, non_members: int) -> str:
    if row.resolution and non_members * row.resolution < 1:
        needed = math.ceil(1 / row.resolution)
        return f"n/a: takes {needed:,} non-members, there are {non_members:,}"
    return "n/a: not defined for this release"


def _shown(estimate: Estimate) -> str:
    return "n/a" if estimate.value is None else f"{estimate.value:.3f}"
