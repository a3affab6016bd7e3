"""What a release promises, held against the attacks."""

import dataclasses

import pytest

from src.audit import promises
from tests.audit.support import audited, blobs, splits


def test_what_ksame_promises_is_checked():
    data = splits(blobs(120, 2))
    assert "promise kept" in audited(data, "ksame", k=3).notes[-1]
    broken = audited(data, "ksame", released=data.train, k=3)
    assert "promise BROKEN" in broken.notes[-1]
    assert "(fewest: 1)" in broken.notes[-1]


@pytest.mark.parametrize("facts", [{}, {"groups": 3}])
def test_a_release_without_epsilon_promises_no_privacy(facts):
    released = dataclasses.replace(blobs(20, 0), meta={"facts": facts})
    assert promises.guarantee(released) is None
    assert promises.of_privacy(released, {}, 100) == []


def test_an_epsilon_beyond_all_numbers_is_a_promise_of_nothing():
    released = dataclasses.replace(blobs(20, 0), meta={"facts": {"epsilon": 1e6, "delta": 0}})
    notes = promises.of_privacy(released, {}, 100)
    assert all("finds more than 100.0% of members" in note for note in notes)
    assert len(notes) == 2


def test_a_privacy_guarantee_is_held_against_the_attacks():
    data = splits(blobs(120, 2))
    promised = dataclasses.replace(data.train, meta={"facts": {"epsilon": 1.0, "delta": 1e-5}})
    report = audited(data, released=promised)
    assert report.guarantee == (1.0, 1e-5)
    assert "promise BROKEN" in report.notes[-2]
    assert "2.7% of members at 1% FPR" in report.notes[-2]
    assert "promise not measured" in report.notes[-1]  # 0.1 % FPR cannot be resolved
    harmless = dataclasses.replace(blobs(300, 5), meta=promised.meta)
    assert "promise not contradicted" in audited(data, released=harmless).notes[-2]
    shifted_data = splits(blobs(120, 2, shift=1.0))
    for released in (promised, harmless):
        for note in audited(shifted_data, released=released).notes[-2:]:
            assert "promise cannot be judged, as train and test differ" in note
