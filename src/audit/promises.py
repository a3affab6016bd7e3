"""What a release promises, held against its rows, their persons, and the attacks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from src.anonymizers import ksame
from src.anonymizers.base import Anonymizer
from src.anonymizers.methods import KSame
from src.audit import attacks, units
from src.audit.measures import FPRS
from src.audit.statistics import expected_fpr, tpr_bound
from src.audit.tables import Comparison, Guarantee
from src.audit.verdicts import shifted
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import PERSON, ROW, EmbeddingSet


def guarantee(released: EmbeddingSet, *, several: bool = False) -> Guarantee | None:
    """The differential privacy that the release's file promises to those who are attacked.

    Args:
        several: whether persons with several rows are; a promise to rows is none to them.
    """
    facts = released.meta.get("facts", {})
    if "epsilon" not in facts or (several and unit(released) == ROW):
        return None
    return Guarantee(facts["epsilon"], facts["delta"])


def unit(released: EmbeddingSet) -> str:
    """To whom the release's file promises what it promises, PERSON or ROW."""
    return PERSON if released.meta.get("unit") == PERSON else ROW


def of_groups(
    released: EmbeddingSet,
    anonymizer: Anonymizer | None,
    train: EmbeddingSet,
    resources: Resources,
) -> list[str]:
    """Of k-Same, whether rows are k identical ones each, and groups of k different persons.

    Args:
        anonymizer: what made the release; None where nobody knows.
        train: the rows that it was made from.
    """
    if not isinstance(anonymizer, KSame):
        return []
    fewest = int(np.bincount(attacks.copies(released, labels=False)).min())
    notes = [
        f"promise {_state(fewest, anonymizer.k)}: every released row occurs at least "
        f"k = {anonymizer.k} times (fewest: {fewest})"
    ]
    if units.of(train).several:
        notes.append(_of_persons(released, anonymizer, train, resources))
    return notes


def _of_persons(
    released: EmbeddingSet, anonymizer: KSame, train: EmbeddingSet, resources: Resources
) -> str:
    """How many persons the groups are of.

    Which rows a mean was made of cannot be read off it; so the rows are grouped again, by person
    or by row, and those groups are the release's whose means are its rows.
    """
    k = anonymizer.k
    for rows in (train.by(anonymizer.unit), train.by(ROW)):
        try:
            groups = ksame.groups(
                rows,
                k,
                per_class=anonymizer.per_class,
                block_rows=anonymizer.block_rows,
                resources=resources,
            )
        except InputError:  # k is larger than the number of persons
            continue
        means = ksame.means(rows.embeddings, groups)
        if not len(attacks.unlike(released, EmbeddingSet(means, rows.labels[groups[:, 0]]))):
            break
    else:
        return (
            "promise to persons not checked: grouping the training rows again does not give the "
            "released rows"
        )
    persons = np.sort(units.persons(train)[groups], axis=1)
    people = 1 + (np.diff(persons, axis=1) > 0).sum(1)
    if unit(released) == PERSON:
        return (
            f"promise {_state(int(people.min()), k)}: every group has rows of k = {k} "
            f"different persons (fewest: {people.min()}, in groups that give the released rows)"
        )
    return (
        f"no promise to persons: of the groups of k = {k} rows {(people == 1).mean():.0%} are of "
        f"one person alone, and the mean is {people.mean():.1f} persons"
    )


def of_privacy(
    released: EmbeddingSet,
    metrics: Mapping[str, Comparison],
    non_members: int,
    *,
    several: bool = False,
) -> list[str]:
    """One line per false-positive rate: whether the attacks keep within the guarantee.

    Args:
        metrics: of the audit.
        non_members: their number.
        several: whether persons with several rows are attacked.
    """
    promised = guarantee(released, several=several)
    if promised:
        return [_judge(promised, rate, metrics, non_members) for rate in FPRS]
    if to_rows := guarantee(released):
        return [
            f"promise not judged: ε = {to_rows.epsilon:.3g} is promised to rows; to a person it "
            "is that times their number of rows"
        ]
    return []


def _state(fewest: int, promised: int) -> str:
    return "kept" if fewest >= promised else "BROKEN"


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
