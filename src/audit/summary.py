"""What all looks at a release say together, with one error rate.

Of twenty audits of harmless rows at most one calls a leak: 1 % of them for copies, and 4 % for the
farthest of all other looks, whose intervals are as wide as that takes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from src.audit import looks
from src.audit.copies import Copied
from src.audit.looks import Look
from src.audit.measures import MEASURES
from src.audit.scenarios import Metrics
from src.audit.statistics import interval, number
from src.audit.verdicts import NOTHING, shifted

LEVEL = 0.04  # how often one of the looks calls a leak where there is nothing to find
WIDEST = 0.15  # what chance may add to an AUC: if it is more, hardly a leak could be seen
EXPOSED = 2.6  # standard errors above chance by which releases made again expose somebody
PROOF = "close_copies"  # the metric that copies are proven by
RAREST = 1e-9  # chance that is still written out


class Summary(NamedTuple):
    """The strongest of all looks, and what follows."""

    strongest: str  # its metric
    value: float | None
    control: float  # where there is nothing to find
    low: float | None  # of an interval that is right although the look was chosen among many
    high: float | None
    ceiling: float | None  # of the training rows, released as they are
    leak: bool | None  # None: cannot tell
    said: tuple[str, str, str]  # the same in three sentences


class _Candidate(NamedTuple):
    """A look beside the same look at the controls."""

    key: str  # of MEASURES
    label: str
    look: Look
    control: float  # chance or disjoint real rows, whichever is nearer to the value
    ceiling: float | None

    @property
    def strength(self) -> float:
        """How many standard errors the value is off the control."""
        return abs(self.look.value - self.control) / self.look.error if self.look.error else 0.0


class _Doubt(NamedTuple):
    """Why it cannot be told whether a release leaks."""

    reason: str
    remedy: str


def judge(
    value: Metrics, ceiling: Metrics, chance: Metrics, proof: Copied, classes: list[str]
) -> Summary:
    """The summary of a release beside its two controls.

    Args:
        proof: what was found of copies.
        classes: the names of the labels.
    """
    worst = _exposed(value)
    if len(proof.released):
        return _proven(proof, worst)
    candidates = _candidates(value, ceiling, chance, classes)
    width = looks.width([candidate.look for candidate in candidates], LEVEL)
    best = max(candidates, key=lambda candidate: candidate.strength)
    doubt = _doubt(candidates, best, value, chance, width)
    leak = None if doubt else bool(best.strength > width)
    found = best.look.estimate(width)
    beside = "" if best.ceiling is None else f", {best.ceiling:.3f} for the training rows"
    second = (
        f"The strongest of {len(candidates)} looks, {best.label}, is {interval(found)}; "
        f"{best.control:.3f} by chance{beside}."
    )
    if doubt:
        said = f"CANNOT TELL: {doubt.reason}.", second, f"To tell, {doubt.remedy}."
    elif leak:
        nearer = "training rows" if best.look.value > best.control else "test rows"
        said = f"LEAK: the release tells {nearer} from others.", second, worst
    else:
        said = f"No leak found; up to {number(found.high)} is not ruled out.", second, worst
    return Summary(
        best.key, found.value, best.control, found.low, found.high, best.ceiling, leak, said
    )


def _candidates(
    value: Metrics, ceiling: Metrics, chance: Metrics, classes: list[str]
) -> list[_Candidate]:
    """All looks at members, over all classes and class by class."""
    found = []
    for key, look in value.looks.items():
        top = ceiling.estimates.get(key, NOTHING).value
        control = _control(look, chance.looks.get(key))
        found.append(_Candidate(key, MEASURES[key].label, look, control, top))
    for place, look in value.classes.items():
        key, label = place
        name = f"{MEASURES[key].label} in class {classes[label]}"
        highest = ceiling.classes.get(place)
        control = _control(look, chance.classes.get(place))
        found.append(_Candidate("worst_class_auc", name, look, control, highest and highest.value))
    return found


def _control(look: Look, other: Look | None) -> float:
    """What disjoint real rows give or chance does, whichever is nearer to the value."""
    low, high = sorted((look.chance, look.chance if other is None else other.value))
    return min(max(look.value, low), high)


def _doubt(
    candidates: list[_Candidate], best: _Candidate, value: Metrics, chance: Metrics, width: float
) -> _Doubt | None:
    """Why a leak can be neither called nor denied, if so."""
    if shifted(chance.estimates):
        return _Doubt(
            "train and test differ, so members can be told from test rows without a leak",
            "use --one_run, which needs no test rows, or --held_out with rows of the same source",
        )
    if best.strength > width:
        return None
    if any(abs(candidate.look.off) > width for candidate in candidates):
        return _Doubt(
            "the release stands out, but no more than disjoint real rows do",
            "use --one_run, or --held_out with more rows of the same source",
        )
    if any(look.off > EXPOSED for look in value.exposed.values()):
        return _Doubt(
            f"this release shows no leak, but others made like it do. {_exposed(value)[:-1]}",
            "use --one_run, which measures what such a release risks",
        )
    spread = max(c.look.spread for c in candidates if c.key == "nearest_auc")
    if (reach := width * spread) > WIDEST:
        return _Doubt(
            f"there are so few non-members that chance alone reaches an AUC of {0.5 + reach:.2f}",
            f"bring about {math.ceil((reach / WIDEST) ** 2)} times as many with --held_out",
        )
    return None


def _proven(proof: Copied, worst: str) -> Summary:
    found = proof.share
    count, of_test = len(proof.released), int((proof.real >= proof.members).sum())
    which = f" ({of_test:,} of them to a test row)" if of_test else ""
    least = "at least " if proof.sampled < proof.rows else ""
    rarely = f"one in {1 / max(proof.p_value, RAREST):,.0f}"
    said = (
        f"LEAK, with proof: {least}{count:,} of {proof.rows:,} released rows are copies.",
        f"Compared {proof.view}, they lie nearer to one real row{which} than real rows lie to "
        f"each other; of harmless releases {'fewer than ' * (proof.p_value < RAREST)}{rarely} do.",
        worst,
    )
    return Summary(PROOF, found.value, 0.0, found.low, found.high, 1.0, True, said)


def _exposed(value: Metrics) -> str:
    """What the most exposed risk, as far as it was measured."""
    found = value.estimates.get("exposed_1_auc")
    if found is None or found.value is None:
        return "What the most exposed person risks was not measured; that takes --shadows 16."
    return (
        "Of the most exposed 1% an attacker tells whether they are in with an AUC of "
        f"{interval(found)}; 0.5 is chance."
    )
