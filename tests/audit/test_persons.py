"""Audits by person: nobody is on two sides, and nothing misleads that misleads by row."""

import dataclasses
import json
import re

import numpy as np
import pytest

from src.anonymizers import methods
from src.audit import attacks, auditing, records, statistics, units
from src.audit.settings import AuditSettings
from src.audit.statistics import Bootstrap
from src.core.errors import InputError
from src.database import Database, EmbeddingSet, Splits
from tests.audit.people import crowd, people
from tests.audit.support import CPU, PERSONAL, QUICK, RESOURCES, audited, blobs, splits

FAST = AuditSettings(shadows=0, bootstrap=50)
BY_ROW = dataclasses.replace(FAST, unit="row")


def joined(*parts):
    """Rows of several sets, their persons as they are."""
    return EmbeddingSet(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.labels for part in parts]),
        persons=np.concatenate([part.persons for part in parts]),
    )


def numbers(report):
    """What an audit says, without what only persons have."""
    content = report.content()
    del content["unit"]
    content["sizes"] = {k: n for k, n in content["sizes"].items() if "person" not in k}
    content["notes"] = [note.replace("test persons", "test rows") for note in content["notes"]]
    return content


@pytest.mark.parametrize(("name", "settings"), [("ksame", {"k": 3}), ("gaussian", {})])
def test_one_row_per_person_gives_the_numbers_of_rows(name, settings):
    rows = splits(blobs(310, 2), train=120)
    ids = np.random.default_rng(0).permutation(10**6)
    persons = Splits(
        *(
            dataclasses.replace(part, persons=ids[start : start + len(part)])
            for part, start in ((rows.train, 0), (rows.val, 1000), (rows.test, 2000))
        )
    )
    by_person, by_row = audited(persons, name, **settings), audited(rows, name, **settings)
    assert (by_person.unit, by_row.unit) == ("person", "row")
    assert by_person.sizes["references"] == by_person.sizes["reference_persons"] > 0
    assert json.dumps(numbers(by_person)) == json.dumps(numbers(by_row))
    for attack, curve in by_row.curves.items():
        for ours, theirs in zip(by_person.curves[attack], curve, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_sizes_count_rows_and_persons():
    report = audited(crowd(60, 40, rows=3), options=FAST)
    assert report.content()["unit"] == "person"
    assert report.sizes == {
        "members": 180,
        "non_members": 120,
        "references": 0,
        "released_rows": 180,
        "distinct_released_rows": 180,
        "member_persons": 60,
        "non_member_persons": 40,
        "reference_persons": 0,
    }
    assert "needs 300 test persons" in report.notes[0]
    assert "120 non-member" not in report.metrics["nearest_tpr_at_0.01"].verdict
    assert "40 are available" in report.metrics["nearest_tpr_at_0.01"].verdict
    assert "60 member persons" in report.table().splitlines()[4]


def test_a_third_of_many_persons_are_the_attackers_own():
    report = audited(crowd(20, 300, rows=2), options=FAST)
    assert (report.sizes["references"], report.sizes["reference_persons"]) == (200, 100)
    assert (report.sizes["non_members"], report.sizes["non_member_persons"]) == (400, 200)
    assert report.metrics["calibrated_max_auc"].value.value == 1


def shared():
    """Sixty persons in training; in test, further rows of theirs and of as many new ones."""
    everyone = people(60, 0, rows=8, noise=0.3)
    turn = np.zeros(len(everyone), dtype=int)  # the how manieth row of its person each row is
    for person in range(60):
        turn[everyone.persons == person] = np.arange(8)
    train, again, val = (
        attacks.subset(everyone, rows) for rows in (turn < 4, (turn > 3) & (turn < 7), turn == 7)
    )
    return Splits(train, val, joined(again, people(60, 2, first=500, rows=3, noise=0.3)))


def test_persons_on_both_sides_are_left_out_of_the_non_members_and_counted():
    data = shared()
    released = attacks.subset(data.test, data.test.persons < 60)  # other rows of the members
    report = audited(data, "gaussian", released=released, options=FAST)
    assert report.sizes["non_member_persons"] == 60
    assert report.notes[0] == (
        "60 persons (180 test rows) left out of the non-members, as other rows of theirs are in "
        "the training or validation split"
    )
    assert report.metrics["nearest_auc"].value.low > 0.95
    # the broken version hides the leak: half of its non-members are in the release
    by_row = audited(data, "gaussian", released=released, options=BY_ROW).metrics["nearest_auc"]
    assert by_row.value.value < 0.5


def test_persons_of_the_validation_split_are_no_non_members():
    data = crowd(20, 30)
    known = attacks.subset(data.test, np.isin(data.test.persons, [20_000, 20_001]))
    report = audited(dataclasses.replace(data, val=joined(data.val, known)), options=FAST)
    assert report.sizes["non_member_persons"] == 28
    assert report.notes[0].startswith("2 persons (10 test rows) left out")


@pytest.mark.parametrize(("persons", "few"), [(5, True), (9, True), (10, False)])
def test_few_non_members_are_said_to_be_few(persons, few):
    notes = audited(crowd(20, persons), options=FAST).notes
    said = f"intervals are too short, as only {persons} persons are non-members"
    assert (said in notes) == few


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (people(4, 2, first=900), "20 rows of 4 persons whom training has not seen"),
        (people(9, 2, first=900, rows=1), "9 rows of 9 persons"),
        (people(20, 2), "0 rows of 0 persons"),  # all of them are in training
    ],
)
def test_too_few_new_persons_are_refused(test, said):
    with pytest.raises(InputError, match=said):
        audited(dataclasses.replace(crowd(20), test=test), options=FAST)


def test_rows_that_only_one_side_names_are_attacked_one_by_one():
    data = crowd(30, 30)
    partly = dataclasses.replace(data, test=data.test.by("row"))
    report = audited(partly, "ksame", options=QUICK, k=2)
    assert report.unit == "row"
    assert report.notes[0].startswith("audit by row, as only one of")
    assert "shadow_auc" in report.metrics
    with pytest.raises(InputError, match="--unit person: the embeddings do not say whose"):
        audited(partly, options=dataclasses.replace(FAST, unit="person"))


def require_whole_persons(data, monkeypatch):
    """Audit, and check that each half that a shadow is made of has all of a person or nothing."""
    everyone, seen = joined(data.train, data.test).persons, []
    original = methods.Identity.release

    def noted(self, train, val, *, seed, resources):
        seen.append(train.persons)
        return original(self, train, val, seed=seed, resources=resources)

    with monkeypatch.context() as patch:
        patch.setattr(methods.Identity, "release", noted)
        audited(data, released=data.train, options=dataclasses.replace(QUICK, bootstrap=2))
    times = np.bincount(everyone)
    assert len(seen) >= 4
    for half in seen[:4]:
        counts = np.bincount(half, minlength=len(times))
        assert ((counts == times) | (counts == 0)).all()


def test_shadow_halves_are_of_persons(monkeypatch):
    data = crowd(30, 30)
    require_whole_persons(data, monkeypatch)
    original = units.of
    with monkeypatch.context() as broken:
        broken.setattr(auditing.units, "of", lambda rows: original(rows.by("row")))
        with pytest.raises(AssertionError):
            require_whole_persons(data, monkeypatch)


def test_an_audit_by_row_still_makes_releases_by_person():
    """Who is attacked does not change the method that is attacked."""
    data = crowd(24, 24)
    by_row = AuditSettings(shadows=2, bootstrap=2, unit="row")
    notes = audited(data, "ksame", released=data.train, options=by_row, k=60).notes
    assert "shadow attack left out" in notes[1]  # half of the rows are 120
    assert re.search("--k 60 is larger than the 4[0-9] persons of the training set", notes[1])
    assert notes[-1].startswith("promise to persons not checked")


def covered(unit, audits=120):
    """How often the intervals of harmless releases contain chance, by metric."""
    held = dict.fromkeys(("nearest", "linked", "copying"), 0)
    for seed in range(0, 3 * audits, 3):
        release, members, others = (
            people(40, 7000 + seed + i, first=1000 * i, effect=1.5).by(unit) for i in range(3)
        )
        whole, n = units.of(attacks.together(members, others)), len(units.of(members))
        everyone = attacks.together(members, others)
        bootstrap = Bootstrap(150, np.random.default_rng(seed))
        scores = whole.means(attacks.nearest_neighbour_scores(everyone, release, CPU))
        linked = whole.means(
            attacks.linked(everyone, release, np.arange(6), np.arange(6, 12), CPU)
        )
        hits = attacks.nearest_real_rows(
            *(
                attacks.closest(release.embeddings, rows.embeddings, CPU)
                for rows in (members, others)
            ),
            len(members),
            len(others),
        )
        rates = units.of(members).means(hits.members), units.of(others).means(hits.non_members)
        found = {
            "nearest": statistics.membership(
                scores[:n], scores[n:], fprs=(), bootstrap=bootstrap
            ).auc,
            "linked": statistics.of_means(
                attacks.excess_linkability, linked[:n], linked[n:], bootstrap=bootstrap
            ),
            "copying": statistics.of_means(attacks.copying_share, *rates, bootstrap=bootstrap),
        }
        for key, estimate in found.items():
            useless = 0.0 if key == "linked" else 0.5
            held[key] += (estimate.low <= useless <= estimate.high) / audits
    return held


def test_intervals_of_persons_contain_chance_and_those_of_their_rows_are_too_short():
    by_person, by_row = covered("person"), covered("row")
    assert min(by_person.values()) > 0.88, by_person
    assert by_row["nearest"] < 0.75, by_row  # five rows of a person are hardly more than one


def test_the_largest_score_is_judged_by_its_own_control():
    """Where members have more rows, the largest of their scores is larger without a leak."""
    data = dataclasses.replace(crowd(80), test=people(80, 3, first=500, rows=1))
    released = people(80, 9, first=900)  # has seen none of them
    found = audited(data, "gaussian", released=released, options=FAST).metrics
    assert found["nearest_max_auc"].value.low > 0.5
    assert found["nearest_max_auc"].verdict.startswith("train and test differ")
    assert found["nearest_auc"].verdict.startswith("no leak")


def test_what_ksame_promises_is_checked_on_persons():
    data = crowd(24, 24, noise=0.1)
    by_person, by_row = (
        methods.parse("ksame", {"k": 5, "unit": unit}).anonymize(
            data.train, data.val, seed=0, resources=RESOURCES
        )
        for unit in (None, "row")
    )
    kept = audited(data, "ksame", released=by_person, options=FAST, k=5)
    assert kept.notes[-1].startswith("promise kept: every group has rows of k = 5 different")
    honest = audited(data, "ksame", released=by_row, options=FAST, k=5, unit="row").notes
    assert honest[-2].startswith("promise kept: every released row occurs at least k = 5")
    assert honest[-1] == (
        "no promise to persons: of the groups of k = 5 rows 100% are of one person alone, and the "
        "mean is 1.0 persons"
    )
    claimed = dataclasses.replace(by_row, meta={**by_row.meta, "unit": "person"})
    broken = audited(data, "ksame", released=claimed, options=FAST, k=5).notes
    assert broken[-1].startswith("promise BROKEN: every group has rows of k = 5 different")
    assert "(fewest: 1, " in broken[-1]
    elsewhere = audited(data, "ksame", released=data.train, options=FAST, k=5).notes
    assert elsewhere[-1].startswith("promise to persons not checked")


def test_a_guarantee_to_rows_is_not_held_against_attacks_on_persons():
    data = crowd(30, 30)
    meta = {"facts": {"epsilon": 1.0, "delta": 1e-5}, "unit": "row"}
    to_rows = audited(data, released=dataclasses.replace(data.train, meta=meta), options=FAST)
    assert to_rows.guarantee is None
    assert to_rows.notes[-1].startswith("promise not judged: ε = 1 is promised to rows")
    released = dataclasses.replace(data.train, meta=meta)
    to_persons = dataclasses.replace(data.train, meta={**meta, "unit": "person"})
    for promised, options in ((to_persons, FAST), (released, BY_ROW)):
        report = audited(data, released=promised, options=options)
        assert report.guarantee == (1.0, 1e-5)
        assert "promise not judged" not in " ".join(report.notes)


def test_no_id_of_a_person_leaves(tmp_path):
    data = crowd(24, 24)
    odd = Splits(
        *(
            dataclasses.replace(part, persons=part.persons + 987_650_000)
            for part in (data.train, data.val, data.test)
        )
    )
    report = audited(odd, "ksame", options=QUICK, k=3)
    subject = methods.parse("ksame", {"k": 3}).subject(0, odd.train)
    case = records.case(Database(tmp_path, "small", "x"), odd, subject, QUICK, 0)
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    assert case.audit.unit == "person"
    assert json.loads(path.read_text())["unit"] == "person"
    assert "98765" not in path.read_text() + report.table()
    assert numbers(report) == numbers(audited(data, "ksame", options=QUICK, k=3))
    assert set(PERSONAL) - report.metrics.keys() == {"calibrated_max_auc"}
