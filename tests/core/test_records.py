"""Records: how they are named, and when one that exists will do."""

import json

import pytest

from src.core import records
from src.core.records import Subject


def subject(release_id, anonymizer):
    return Subject(id=release_id, anonymizer=anonymizer, settings={}, rows=None)


@pytest.mark.parametrize(
    ("release_id", "anonymizer", "stem"),
    [
        ("identity", "identity", "d_identity-s0"),
        ("ksame-5", "ksame", "d_ksame-5-s0"),
        ("cvae-s0", "cvae", "d_cvae-s0"),
        ("cvae-s10", "cvae", "d_cvae-s10-s0"),
        ("cvae-online-var0.5-s0", "cvae-online", "d_cvae-online-var0.5-s0"),
        ("bundle-0123abcd-s0", "cvae", "d_bundle-0123abcd-s0"),
        ("mine", "mine", "d_mine-s0"),
        ("mine-s0", "mine-s0", "d_mine-s0-s0"),  # not that of `mine`
        ("cvae-s0", "cvae-s0", "d_cvae-s0-s0"),  # made elsewhere, whatever it is called
    ],
)
def test_names_have_the_seed_once_where_an_anonymizer_put_it(release_id, anonymizer, stem):
    assert subject(release_id, anonymizer).stem("d", 0) == stem


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"a": 1, "b": {"c": [2]}, "more": 3}), True),
        (json.dumps({"format": 1, "a": 1, "b": {"c": [2]}}), True),
        (json.dumps({"format": 2, "a": 1, "b": {"c": [2]}}), False),
        (json.dumps({"a": 2, "b": {"c": [2]}}), False),
        (json.dumps({"a": 1, "b": {"c": [3]}}), False),
        (json.dumps({"a": 1}), False),
        ("[1]", False),
        ('{"a": 1, ', False),
    ],
)
def test_a_record_counts_where_all_that_is_expected_is_in_it(tmp_path, text, found):
    path = tmp_path / "a.json"
    path.write_text(text)
    expected = {"a": 1, "b": {"c": [2]}}
    assert records.read(path, expected) == (json.loads(text) if found else None)


def test_a_record_that_does_not_exist(tmp_path):
    assert records.read(tmp_path / "a.json", {}) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, True),
        ({"seconds": 9.0}, True),
        ({"auc": 98.5}, False),
        ({"more": 1}, False),
        ({"sum": None}, False),
        ({"settings": {"2": 5}}, False),
    ],
)
def test_a_digit_that_was_changed_is_noticed(tmp_path, caplog, change, found):
    path = tmp_path / "a.json"
    records.write(path, {"auc": 99.5, "settings": {1: (2, 3)}, "seconds": 1.5})
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    assert (records.read(path, {}) is not None) == found
    assert ("was changed since it was written" in caplog.text) == (not found)
    path.write_text(json.dumps({"auc": 98.5}))  # of an older version: taken as it is
    assert records.read(path, {}) == {"auc": 98.5}
