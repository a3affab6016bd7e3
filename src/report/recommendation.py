"""Which release to give away: a rule, from utility, attacks and promises alone.

Among the releases that are protected, by a guarantee or by an audit that found no leak, the most
useful ones are those whose utility is not significantly below the best; of these the one with the
strongest promise is recommended.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from src.core.settings import Settings, setting
from src.report.spread import below


@dataclass(frozen=True, kw_only=True)
class Thresholds(Settings):
    """Recommendation: what a release has to keep to."""

    max_attack: float | None = setting(
        "largest AUC of the strongest attack, at the end of its interval (default: no limit)",
        None,
        minimum=0.5,
        maximum=1,
    )
    max_epsilon: float = setting("largest ε that counts as a guarantee", 10.0, above=0)
    min_auc: float | None = setting(
        "lowest mean AUC of a head on clean test rows, in percent (default: no limit)",
        None,
        minimum=0,
        maximum=100,
    )


class Promise(NamedTuple):
    """(ε, δ)-differential privacy."""

    epsilon: float
    delta: float | None  # None: the method's default, which depends on the number of rows
    unit: str  # to whom: PERSON or ROW


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What the rule knows of a release.

    Attributes:
        obstacle: why it is not to be given away, whatever it keeps or shows ("" if it may be).
        aucs: of heads on clean test rows, percent, one per seed; at least one unless there is an
            obstacle.
        promise: what is guaranteed to those who are attacked.
        contradicted: whether an audit shows that a promise is not kept.
        groups: of how many rows (persons) each released row is the mean; 0 where it is none.
        leak: True where any audit found one, False where all seeds' audits found none, None where
            that cannot be told or was not tested.
        proven: the ε that one-run audits prove, 0 where they prove none or are missing. Without a
            guarantee any is a leak; a guarantee allows as much as it says.
        attack: AUC up to which the strongest attack is not ruled out; None where not measured.
    """

    name: str
    obstacle: str = ""
    aucs: tuple[float, ...] = ()
    promise: Promise | None = None
    contradicted: bool = False
    groups: int = 0
    leak: bool | None = None
    proven: float = 0.0
    attack: float | None = None

    @property
    def auc(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.aucs)

    def epsilon(self, thresholds: Thresholds) -> float:
        """The ε that is guaranteed; infinite where none is, or one too large to count."""
        epsilon = self.promise.epsilon if self.promise else math.inf
        return epsilon if epsilon <= thresholds.max_epsilon else math.inf


class Choice(NamedTuple):
    """What the rule chooses, and out of which."""

    chosen: Candidate | None
    best: Candidate | None  # the most useful of the eligible
    tied: tuple[Candidate, ...]  # those whose utility is not significantly below
    eligible: tuple[Candidate, ...]


def objections(candidate: Candidate, thresholds: Thresholds) -> list[str]:
    """Why the rule cannot choose a release; nothing where it can."""
    if candidate.obstacle:
        return [candidate.obstacle]
    found = []
    if candidate.leak:
        found.append("an audit found a leak")
    if candidate.contradicted:
        found.append("an audit contradicts its promise")
    found += _unguarded(candidate, thresholds)
    if (most := thresholds.max_attack) is not None:
        if candidate.attack is None:
            found.append(f"the strongest attack was not measured (--max_attack {most:g})")
        elif candidate.attack > most:
            found.append(
                f"the strongest attack may reach {candidate.attack:.3f} (--max_attack {most:g})"
            )
    if (least := thresholds.min_auc) is not None and candidate.auc < least:
        found.append(f"its AUC of {candidate.auc:.2f} % is too low (--min_auc {least:g})")
    return found


def choose(candidates: Sequence[Candidate], thresholds: Thresholds) -> Choice:
    """Apply the rule; of equals the first."""
    eligible = tuple(c for c in candidates if not objections(c, thresholds))
    if not eligible:
        return Choice(None, None, (), ())
    best = max(eligible, key=lambda c: c.auc)
    tied = tuple(c for c in eligible if not below(c.aucs, best.aucs))

    def rank(candidate: Candidate) -> tuple[float, ...]:
        attack = math.inf if candidate.attack is None else candidate.attack
        return candidate.epsilon(thresholds), -candidate.groups, -candidate.auc, attack

    return Choice(min(tied, key=rank), best, tied, eligible)


def rule(thresholds: Thresholds) -> list[str]:
    """The rule in sentences, with the thresholds in use."""
    limits = []
    if thresholds.max_attack is not None:
        limits.append(
            f"its strongest attack stays within {thresholds.max_attack:g} (--max_attack)"
        )
    if thresholds.min_auc is not None:
        limits.append(f"its mean AUC is at least {thresholds.min_auc:g} % (--min_auc)")
    also = f", and if {' and '.join(limits)}" if limits else ""
    return [
        "A release qualifies if it has a guarantee of differential privacy with "
        f"ε ≤ {thresholds.max_epsilon:g} (--max_epsilon), or if the audits of all its seeds found "
        f"no leak and one run proves none{also}.",
        "A release in which any audit found a leak, or of which a promise is contradicted, never "
        "qualifies; nor do real rows, methods that release no rows, and releases with missing "
        "seeds.",
        "Of those that qualify, the most useful are the one with the highest mean AUC and all "
        "whose AUC is not significantly lower (Welch's t-test over seeds, one-sided, 5 %; with "
        "a single seed the highest alone).",
        "Of these the one with the strongest promise is recommended: the smallest ε, then the "
        "largest group of different rows or persons behind each released row, then the highest "
        "AUC.",
    ]


def _unguarded(candidate: Candidate, thresholds: Thresholds) -> list[str]:
    """What a guarantee would excuse, where there is none that counts."""
    if not math.isinf(candidate.epsilon(thresholds)):
        return []
    why = "it has no guarantee"
    if candidate.promise:
        epsilon, most = candidate.promise.epsilon, thresholds.max_epsilon
        why = f"ε = {epsilon:g} does not count as a guarantee (--max_epsilon {most:g})"
    doubts = ["no audit denies a leak"] * (candidate.leak is None)
    doubts += ["one run proves a leak"] * (candidate.proven > 0)
    return [f"{why}, and {' and '.join(doubts)}"] if doubts else []
