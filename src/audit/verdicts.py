"""Metrics in plain words that claim no more than the numbers support."""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.audit.measures import ATTACKS, LOOKS, MEASURES, Measure
from src.audit.statistics import Estimate, expected_fpr

NOTHING = Estimate(None)
SHIFT_CONTROLS = (*LOOKS, "linkability", "copying_share")
# The more rows a person has, the larger is their largest score: also without a leak, where one
# side has more rows per person than the other. That concerns no other metric.
OWN_CONTROLS = {f"{attack}_max_auc" for attack in ATTACKS}
# Four standard errors, where an interval has 1.96: by chance one of the five controls strays in
# 3 of 10,000 audits, and in about 1 of 100 where an interval is a quarter too short.
WIDER = 4 / 1.96


def verdict(
    key: str,
    value: Estimate,
    ceiling: Estimate,
    chances: Mapping[str, Estimate],
    *,
    non_members: int,
    leak: bool = True,
) -> str:
    """What a metric says, in one line.

    Args:
        key: of MEASURES.
        value, ceiling: for the release and for the training rows released as they are.
        chances: all metrics of disjoint real rows, by key. Where these show that members and
            non-members differ without a leak, no metric is called a leak.
        non_members: their number.
        leak: whether the summary, which looks at all metrics with one error rate, calls a leak;
            if not, no single one does.
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
    if shifted(chances) or (key in OWN_CONTROLS and _strays(key, chance)):
        differ = f"train and test differ ({_shown(chance)} without a leak)"
        if not above:
            return f"{differ}: cannot tell, as a leak may be hidden"
        more = chance.high is not None and value.low > chance.high
        return f"{differ}: the rest may be a leak" if more else f"{differ}: cannot tell"
    if above:
        as_bad = ceiling.low is not None and value.value >= ceiling.low
        much = f"{finding}{', as much as the training rows themselves' if as_bad else ''}"
        called = "leak" if leak else "above chance, but not as one of so many looks"
        return _excused(row, value, chance) or f"{called}: {much}"
    if value.high < useless:
        return "no leak found; below chance"
    return f"no leak found (up to {value.high:.3f} not ruled out)"


def _excused(row: Measure, value: Estimate, chance: Estimate) -> str | None:
    """Why a value above that of a useless attack is not a leak, if chance gives as much."""
    low = value.low or 0.0
    if not row.control:
        as_much = chance.value is not None and low <= chance.value
        return (
            f"not told from chance: disjoint real rows give {_shown(chance)}" if as_much else None
        )
    if chance.high is None:
        return "not judged: no persons outside the release have two rows"
    # measured on few persons: only what is above the whole interval is a leak
    as_much = low <= chance.high
    return (
        f"not told from chance: {chance.value:.1%} of persons outside are found"
        if as_much
        else None
    )


def shifted(chances: Mapping[str, Estimate]) -> bool:
    """Whether members and non-members can be told apart without a leak.

    Decided once for the whole table. A shift that one attack shows may help another whose own
    control hides it. And a shift that makes members look like non-members beside disjoint real
    rows may do the opposite beside other releases.

    Args:
        chances: metrics of disjoint real rows, by the keys of MEASURES.
    """
    return any(_strays(key, chances.get(key, NOTHING)) for key in SHIFT_CONTROLS)


def _strays(key: str, chance: Estimate) -> bool:
    """Whether a control is off the value of an attack that learns nothing, on either side."""
    useless = MEASURES[key].useless
    if useless is None or chance.value is None or chance.low is None or chance.high is None:
        return False
    above = chance.value - useless > WIDER * (chance.value - chance.low)
    below = useless - chance.value > WIDER * (chance.high - chance.value)
    return above or below


def _not_available(row: Measure, non_members: int) -> str:
    if row.resolution and non_members * row.resolution < 1:
        needed = math.ceil(1 / row.resolution)
        return f"n/a: needs {needed:,} non-members; {non_members:,} are available"
    return "n/a: undefined for this release"


def _shown(estimate: Estimate) -> str:
    return "n/a" if estimate.value is None else f"{estimate.value:.3f}"
