"""What a release promises, held against its rows and against the attacks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from src.anonymizers.base import Anonymizer
from src.anonymizers.methods import KSame
from src.audit import attacks
from src.audit.measures import FPRS
from src.audit.statistics import expected_fpr, tpr_bound
from src.audit.tables import Comparison, Guarantee
from src.audit.verdicts import shifted
from src.database import EmbeddingSet


def guarantee(released: EmbeddingSet) -> Guarantee | None:
    """The differential privacy that the release's file promises."""
    facts = released.meta.get("facts", {})
    return Guarantee(facts["epsilon"], facts["delta"]) if "epsilon" in facts else None


def check(
    released: EmbeddingSet,
    anonymizer: Anonymizer,
    metrics: Mapping[str, Comparison],
    non_members: int,
) -> list[str]:
    """One line per promise, and whether it was seen to be kept.

    Args:
        anonymizer: what made the release.
        metrics: of the audit.
        non_members: their number.
    """
    notes = []
    if isinstance(anonymizer, KSame):
        fewest = int(np.bincount(attacks.copies(released, labels=False)).min())
        state = "kept" if fewest >= anonymizer.k else "BROKEN"
        notes.append(
            f"promise {state}: every released row occurs at least k = {anonymizer.k} times "
            f"(fewest: {fewest})"
        )
    if promised := guarantee(released):
        notes += [_judge(promised, rate, metrics, non_members) for rate in FPRS]
    return notes


def _judge(
    promised: Guarantee, rate: float, metrics: Mapping[str, Comparison], non_members: int
) -> str:
    """Whether the attacks' true positives at a false-positive rate keep within the promise."""
    # H's few rows place a threshold at a higher rate than they show; that one bounds the attack
    actual = expected_fpr(rate, non_members)
    bound, exceeded = (float(tpr_bound(np.array(r), *promised)) for r in (rate, actual))
    found = [
        compared
        for key, compared in metrics.items()
        if key.endswith(f"tpr_at_{rate:g}") and compared.value.low is not None
    ]
    if shifted({key: compared.chance for key, compared in metrics.items()}):
        # the bound is for two candidates of one distribution
        state = "cannot be judged, as train and test differ"
    elif not found:
        state = "not measured"
    elif any((c.value.low or 0) > max(exceeded, c.chance.high or 0) for c in found):
        state = "BROKEN"
    else:
        state = "not contradicted"
    return (
        f"promise {state}: with ε = {promised.epsilon:.3g}, δ = {promised.delta:.3g} no "
        f"attack finds more than {bound:.1%} of members at {100 * rate:g}% FPR"
    )
