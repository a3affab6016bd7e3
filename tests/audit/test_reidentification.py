"""Finding persons by a further row: what is known to be found, and what is no leak."""

import dataclasses

import numpy as np
import pytest

from src.anonymizers import methods
from src.audit import attacks, reidentification
from src.audit.auditing import audit
from src.audit.reidentification import Queries
from src.audit.settings import AuditSettings
from src.database import Splits
from tests.audit.people import crowd, fives, people
from tests.audit.support import CPU, RESOURCES, audited, rows

FAST = AuditSettings(shadows=0, bootstrap=50)
RANK1, AUC = "reidentification_rank1", "reidentification_auc"


def owned(values, persons):
    return dataclasses.replace(rows(values), persons=np.asarray(persons))


def test_found_by_hand():
    real = owned([0.0, 1, 10, 20], [1, 1, 2, 3])
    queries = Queries(
        rows([0.9, 14, 21]), real, owned([2.0, 12, 18, 0], [1, 2, 3, 3]), owned([30.0, 5], [8, 9])
    )
    # 2 → 0.9 → 1 of person 1; 12 → 14 → 10 of 2; 18 → 21 → 20 of 3; 0 → 0.9 → person 1, not 3
    assert reidentification.found(queries, queries.known, CPU).tolist() == [True] * 3 + [False]
    assert len(reidentification.found(queries, queries.unknown, CPU)) == 0  # no other row of them
    known, unknown = reidentification.scores(queries, CPU)
    np.testing.assert_allclose(known, [-1.1, -2, -3, -0.9], rtol=1e-6)
    np.testing.assert_allclose(unknown, [-9, -4.1], rtol=1e-6)


def test_a_row_of_every_person_with_another_one_is_held_out_if_it_has_no_copy():
    data = owned([1, 2, 3, 3, 4, 5, 5, 6], [1, 1, 2, 2, 3, 4, 4, 4])
    for seed in range(5):
        held = reidentification.held_out(data, np.random.default_rng(seed))
        assert sorted(data.persons[held]) == [1, 4]
        assert held[7]


def made(name, data, **settings):
    method = methods.parse(name, settings)
    return method.anonymize(data.train, data.val, seed=0, resources=RESOURCES)


def test_the_real_rows_are_the_ceiling_and_nobody_outside_is_found_in_them():
    report = audited(crowd(), options=FAST)
    rank1, auc = report.metrics[RANK1], report.metrics[AUC]
    assert rank1.value == rank1.ceiling
    assert rank1.value.value > 0.85
    assert rank1.chance.value == 0
    assert rank1.verdict.startswith("leak: another row finds")
    assert rank1.verdict.endswith("as much as the training rows themselves")
    assert auc.value.low > 0.8
    assert auc.chance.value < 0.7
    assert report.notes[-1] == (
        "re-identification looks for 60 persons by a training row, left out of a release that was "
        "made again for this"
    )


def test_groups_of_rows_give_away_whom_groups_of_persons_hide():
    data = crowd(effect=1.5)
    by_row, by_person = (
        audited(data, "ksame", options=FAST, k=5, unit=unit).metrics for unit in ("row", "person")
    )
    assert by_row[RANK1].value.low > 0.6
    assert by_row[RANK1].verdict.startswith("leak")
    assert by_person[RANK1].value.high < 0.5
    assert by_person[RANK1].value.value < 1 / 5 + 0.1
    assert by_row[AUC].value.value > by_person[AUC].value.value + 0.1


def test_digits_of_five_jittered_rows(digits):
    def first(data, n, start):
        return fives(attacks.subset(data, np.arange(n)), start, first=start)

    data = Splits(first(digits.train, 120, 0), first(digits.val, 20, 500),
                  first(digits.test, 60, 900))  # fmt: skip
    by_row, by_person = (
        audited(data, "ksame", options=FAST, k=5, unit=unit) for unit in ("row", "person")
    )
    assert "100% are of one person alone" in by_row.notes[-1]
    assert by_row.metrics[RANK1].value.low > 0.6
    assert by_person.metrics[RANK1].value.value < 0.5
    assert by_person.notes[-1].startswith("promise kept: every group has rows of k = 5 different")
    assert by_row.metrics["nearest_auc"].value.low > by_person.metrics["nearest_auc"].value.high
    fours = audited(data, "ksame", options=FAST, k=4, unit="row")
    assert fours.metrics[RANK1].value.value == 1  # of a person's five rows, one looks for four


@pytest.mark.parametrize("per_person", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_a_release_of_other_persons_is_no_leak_however_dense(per_person):
    """A row near everybody leads to the right person often, in and outside alike."""
    for seed in range(4):
        data = crowd(effect=0.7, seed=10 * seed)
        others = people(120, 500 + seed, rows=per_person, effect=0.7)

        class Other(methods.Identity):
            def release(self, train, val, *, seed, resources, others=others):
                return methods.Rows(others.embeddings, others.labels, {})

        report = audit(data, others, Other(), FAST, seed=seed, resources=RESOURCES)
        rank1 = report.metrics[RANK1]
        assert rank1.value.value < rank1.ceiling.value
        assert rank1.verdict.startswith(("no leak", "not told from chance")), (seed, rank1)


def test_persons_in_both_splits_are_looked_for_in_the_release_itself():
    everyone = people(40, 0, rows=4)
    last = np.zeros(len(everyone), dtype=bool)
    last[[np.flatnonzero(everyone.persons == person)[-1] for person in range(40)]] = True
    train, again = attacks.subset(everyone, ~last), attacks.subset(everyone, last)
    new = people(40, 2, first=500, rows=4)
    test = attacks.together(again, new)
    data = Splits(train, people(10, 3, first=900), test)
    report = audited(data, options=FAST)
    assert report.notes[-1] == "re-identification looks for 40 persons by a test row"
    assert report.metrics[RANK1].value == report.metrics[RANK1].ceiling
    assert report.metrics[RANK1].value.value > 0.8
    # the release itself: one of other rows is searched in vain
    elsewhere = audited(data, released=people(40, 9, first=700), options=FAST)
    assert elsewhere.metrics[RANK1].value.value < 0.5


def test_persons_outside_with_one_row_each_leave_rank_1_without_a_control():
    data = dataclasses.replace(crowd(), test=people(60, 2, first=500, rows=1))
    found = audited(data, options=FAST).metrics
    assert found[RANK1].chance.value is None
    assert found[RANK1].verdict == "not judged: no persons outside the release have two rows"
    assert found[AUC].verdict.startswith("leak")


def test_what_cannot_be_looked_for_is_said():
    few = dataclasses.replace(
        crowd(), train=attacks.together(people(6, 0), people(30, 1, first=90, rows=1))
    )
    report = audited(few, options=FAST)
    assert (
        "re-identification left out: 6 persons have two different rows; 10 are needed"
        in report.notes
    )
    assert RANK1 not in report.metrics
    copies = crowd()
    copied = fives(people(60, 0, rows=1), 0, jitter=0)
    report = audited(dataclasses.replace(copies, train=copied), options=FAST)
    assert "re-identification left out: 0 persons" in " ".join(report.notes)
    alone = audited(crowd(rows=1), options=FAST)
    assert "re-identification" not in " ".join(alone.notes)
    large = audited(crowd(12, 40), "ksame", options=FAST, released=crowd(12).train, k=12)
    assert RANK1 in large.metrics
