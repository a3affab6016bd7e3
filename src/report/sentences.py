"""What the page says: the answer, what is promised to whom, and what was not tested."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from src.anonymizers.methods import KSame
from src.database import PERSON
from src.report.evidence import Evidence, OneRun, Strongest
from src.report.recommendation import Choice, Thresholds, objections
from src.report.spread import interval


class Said(NamedTuple):
    """A part of the answer."""

    about: str
    text: str


def answer(
    chosen: Evidence, everything: Sequence[Evidence], choice: Choice, seed: int
) -> list[Said]:
    """Which release, what it keeps, what attacks find, what is guaranteed to whom, what is not.

    Args:
        everything: the evidence of all releases of the place.
        seed: of the release that is named.
    """
    file = f"train_{chosen.anonymizer.release_id(seed)}.npz"
    return [
        Said("Release", f"{chosen.anonymizer.label}: {file}. {_why(chosen, choice)}"),
        Said("Utility", utility(chosen, everything)),
        Said("Strongest attack", attack(chosen)),
        Said("Guaranteed", guaranteed(chosen)),
        Said("Not guaranteed", not_guaranteed(chosen)),
    ]


def nothing(everything: Sequence[Evidence], thresholds: Thresholds) -> list[Said]:
    """That no release qualifies, why, and what would help."""
    reasons: dict[str, list[str]] = {}
    for evidence in (e for e in everything if not e.reference):
        for reason in objections(evidence.candidate(), thresholds):
            reasons.setdefault(reason, []).append(evidence.anonymizer.label)
    why = " ".join(f"{', '.join(names)}: {reason}." for reason, names in reasons.items())
    return [
        Said("Release", "No release qualifies, so none is recommended."),
        Said("Why", why),
        Said("What would help", " ".join(_help(everything, thresholds))),
    ]


def utility(evidence: Evidence, everything: Sequence[Evidence]) -> str:
    """What heads reach, beside heads on the real rows."""
    real = next((e for e in everything if e.reference), None)
    said = []
    for sigma in evidence.sigma:
        aucs = evidence.values("auc", sigma)
        noise = f" with noise of σ = {sigma:g} on test features" if sigma else ""
        text = f"AUC {percent(aucs)}{noise}"
        theirs = real.values("auc", sigma) if real else ()
        if theirs:
            kept = statistics.fmean(aucs) / statistics.fmean(theirs)
            text += f", {100 * kept:.1f} % of the {percent(theirs)} that the real rows give"
        said.append(f"{text}.")
    return " ".join(said)


def spread_of(evidence: Evidence) -> str:
    """What the intervals of utility cover."""
    aucs = evidence.values("auc", evidence.sigma[0])
    if len(aucs) == 1:
        return "One seed gives no interval."
    if interval(aucs, 0, 100) is None:
        return (
            f"All {len(aucs)} seeds give the same: neither release nor head depends on them, "
            "so there is no interval, and nothing is said of other rows."
        )
    varies = "fits, draws and heads" if evidence.anonymizer.seeded else "heads and noise alone"
    few = "; of so few they are wide" if len(aucs) < 5 else ""
    return (
        f"Intervals are 95 % t-intervals over {len(aucs)} seeds{few}. They cover {varies}, not "
        "the drawing of training and test rows."
    )


def attack(evidence: Evidence) -> str:
    """What the strongest attack finds, and what one run proves."""
    worst = evidence.worst
    if worst is None:
        said = ["Not tested: no audit says what attacks find."]
    else:
        said = [_strongest(worst, len(evidence.summaries)), _verdict(evidence, worst)]
    if one := evidence.strongest_run:
        said.append(_proven(one, len(evidence.one_runs)))
    return " ".join(said)


def _strongest(worst: Strongest, audits: int) -> str:
    value = f"{worst.value:.3f}"
    if worst.interval:
        value += f" [{worst.interval.low:.3f}, {worst.interval.high:.3f}]"
    of = f"the strongest of {audits} audits (seed {worst.seed})" if audits > 1 else "one audit"
    if worst.is_share:
        return f"{worst.label}: {value} of the released rows, in {of}."
    if worst.value < 0.5:
        value += f", turned round {worst.turned[0]:.3f},"
    control = "" if worst.control is None else f" ({worst.control:.3f} for disjoint real rows)"
    return f"{worst.label}: {value} in {of}, where guessing gives 0.5{control}."


def _verdict(evidence: Evidence, worst: Strongest) -> str:
    if worst.leak:
        return "That is a leak."
    if worst.leak is None:
        return f"The audit cannot tell whether that is a leak. {' '.join(worst.said)}".strip()
    if evidence.leak is None:
        return "No leak was found in it, but other seeds have no such audit."
    return "No leak was found, which is not a proof that there is none."


def _proven(one: OneRun, runs: int) -> str:
    which = f"the strongest of {runs} one-run audits (seed {one.seed})" if runs > 1 else "one run"
    rows = f" of {one.canaries:,} planted rows" if one.canaries else ""
    right = f"{one.right:,} of {one.guesses:,} guesses{rows} right in {which}"
    most = f"the most that could have been shown is {one.ceiling:.2f}"
    if one.lower > 0:
        return f"ε is at least {one.lower:.2f} with 95 % confidence ({right}); {most}."
    return f"One run proves no ε above 0 ({right}); {most}."


def guaranteed(evidence: Evidence) -> str:
    """What is promised, and to whom."""
    promise = evidence.promise
    if promise:
        delta = (
            "δ by default the largest power of ten up to 1 / (10 rows)"
            if promise.delta is None
            else f"δ = {promise.delta:g}"
        )
        guess = 1 / (1 + math.exp(-promise.epsilon))
        little = " So large an ε rules out little." if guess > 0.95 else ""
        broken = " An audit contradicts this." if evidence.contradicted else ""
        return (
            f"({promise.epsilon:g}, δ)-differential privacy to each {evidence.unit}, {delta}: "
            "whoever sees the release, whatever else they know and compute, guesses whether "
            f"{_somebody(evidence)} was among the training rows right with a probability of at "
            f"most {_at_most(guess)} (plus δ), where 50 % is a coin.{little}{broken}"
        )
    if isinstance(evidence.anonymizer, KSame):
        k = evidence.anonymizer.k
        different = "different persons" if evidence.unit == PERSON else "rows"
        return (
            f"Each released row is the mean of rows of k = {k} {different}. "
            "That limits no attack: who knows k − 1 of them can subtract."
        )
    return "Nothing. That attacks found little says only how these attacks ended."


def _at_most(share: float) -> str:
    """A share in percent, rounded up, so that no bound is understated."""
    return f"{math.ceil(share * 1000 - 1e-9) / 10:g} %"


def _somebody(evidence: Evidence) -> str:
    return "any one person" if evidence.unit == PERSON else "any one row"


def not_guaranteed(evidence: Evidence) -> str:
    """What no promise covers."""
    said = []
    promise = evidence.promise
    if evidence.kept_from_persons:
        said.append(
            "Persons have several rows, and what is promised to rows is not promised to them."
        )
    elif promise and evidence.unit != PERSON:
        said.append("To a person with n rows the promise is n times weaker.")
    if promise:
        said.append(
            "A second release of the same rows adds its ε. Not covered are validation and test "
            "rows, settings chosen by results on these rows, and the numbers on this page."
        )
        if evidence.leak is None:
            said.append("The audit could not confirm it; the guarantee does not depend on that.")
    else:
        said.append("Better attacks than those that were tried may find more.")
    return " ".join(said)


def _why(chosen: Evidence, choice: Choice) -> str:
    assert choice.best
    count, tied = len(choice.eligible), len(choice.tied)
    first = "It alone qualifies." if count == 1 else f"{count} releases qualify."
    if count == 1:
        return first
    if choice.best.name == chosen.anonymizer.label:
        why = "It has the highest AUC of them"
    else:
        why = f"Its AUC is not significantly below the highest of them, that of {choice.best.name}"
    strong = f", and the strongest promise of the {tied} that are so useful" if tied > 1 else ""
    return f"{first} {why}{strong}."


def _help(everything: Sequence[Evidence], thresholds: Thresholds) -> list[str]:
    said = []
    if any(e.missing for e in everything):
        said.append("Run the sweep again: it runs what is missing, and names what fails.")
    judged = [e for e in everything if not e.obstacle]
    if any(not e.summaries for e in judged):
        said.append("Audit the releases: 'audit: {shadows: 16, one_run: true}' in the sweep.")
    if any(e.leak is None and e.summaries for e in judged):
        said.append("Give the audit more rows that training has not seen (--held_out).")
    if all(math.isinf(e.candidate().epsilon(thresholds)) for e in everything):
        said.append(
            f"Add a method with a guarantee, such as dpcvae (ε ≤ {thresholds.max_epsilon:g})."
        )
    if any(e.leaks for e in judged):
        said.append("Protect more: a larger k, a smaller ε.")
    loosened = {
        "max_attack": replace(thresholds, max_attack=None),
        "min_auc": replace(thresholds, min_auc=None),
    }
    for name, looser in loosened.items():
        others = [e.anonymizer.label for e in judged if not objections(e.candidate(), looser)]
        if others:
            said.append(f"Without --{name} these would qualify: {', '.join(others)}.")
    return said


def percent(values: Sequence[float]) -> str:
    """`98.71 % [98.10, 99.32]`: mean and interval over seeds."""
    if not values:
        return "unknown"
    both = interval(values, 0, 100)
    reach = f" [{both.low:.2f}, {both.high:.2f}]" if both else ""
    return f"{statistics.fmean(values):.2f} %{reach}"
