"""Audits in files: which are found again, and which are as good as none."""

import dataclasses
import json

import pytest

from src.anonymizers import methods
from src.audit import records
from src.audit.settings import AuditSettings
from src.database import Database
from tests.audit.support import audited, blobs, splits

OPTIONS = AuditSettings(shadows=0, bootstrap=5)


@pytest.fixture(scope="module")
def data():
    return splits(blobs(60, 2), train=80)


@pytest.fixture(scope="module")
def report(data):
    return audited(data, options=OPTIONS)


@pytest.fixture
def case(data, tmp_path):
    database = Database(tmp_path / "database", "small", "hub/name:1")
    subject = methods.parse("identity", {}).subject(3, data.train)
    return records.case(database, data, subject, OPTIONS, 3)


def test_a_record_says_what_it_depends_on_and_what_came_out(case, report, data, tmp_path):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1.23456)
    assert path == tmp_path / "small/hub_name_1/small_identity-s3_audit.json"
    content = json.loads(path.read_text())
    assert list(content) == [
        "format", "dataset", "backbone", "id", "anonymizer", "settings", "seed", "audit", "inputs",
        "unit", "summary", "sizes", "metrics", "notes", "device", "versions", "seconds",
        "sum",
    ]  # fmt: skip
    assert content["inputs"] == {**data.fingerprints, "release": data.train.fingerprint}
    settings = {"shadows": 0, "bootstrap": 5, "unit": "row", "most_rows": 20_000}
    assert content["audit"] == settings
    assert content["unit"] == "row"
    assert content["seconds"] == 1.235
    assert records.read(tmp_path, case) == content


def test_an_id_that_ends_in_the_seed_does_not_repeat_it(case, tmp_path):
    seeded = dataclasses.replace(case, id="gaussian-s3", anonymizer="gaussian")
    assert seeded.path(tmp_path).name == "small_gaussian-s3_audit.json"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"k": 2}},
        {"audit": AuditSettings(shadows=0, bootstrap=6)},
        {"audit": AuditSettings(shadows=0, bootstrap=5, unit="person")},
        {"audit": AuditSettings(shadows=0, bootstrap=5, most_rows=1000)},
        {"inputs": {"train": "0" * 16}},
        {"anonymizer": "other"},
    ],
)
def test_an_audit_of_something_else_is_not_found(case, report, tmp_path, change):
    records.write(tmp_path, case, report, device="cpu", seconds=1)
    assert records.read(tmp_path, dataclasses.replace(case, **change)) is None


def test_an_audit_from_before_rows_were_drawn_looked_at_all(case, report, tmp_path):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    older = {key: value for key, value in json.loads(path.read_text()).items() if key != "sum"}
    del older["audit"]["most_rows"]
    path.write_text(json.dumps(older))
    assert records.read(tmp_path, case) == older


def test_an_audit_that_names_no_unit_is_by_row(case, report, tmp_path):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    content = json.loads(path.read_text())
    older = {key: value for key, value in content.items() if key not in ("unit", "sum")}
    del older["audit"]["unit"]
    path.write_text(json.dumps(older))
    for options in (OPTIONS, dataclasses.replace(OPTIONS, unit="row")):
        assert records.read(tmp_path, dataclasses.replace(case, audit=options))
    by_person = dataclasses.replace(OPTIONS, unit="person")
    assert records.read(tmp_path, dataclasses.replace(case, audit=by_person)) is None


def test_an_audit_from_before_the_summary_is_read_under_todays_names(case, report, tmp_path):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    content = json.loads(path.read_text())
    rows = content["metrics"]
    older = {
        key: part for key, part in content.items() if key not in ("metrics", "summary", "sum")
    }
    older["figures"] = {"nearest_auc": rows["nearest_auc"], "near_copies": rows["very_near"]}
    path.write_text(json.dumps(older))
    found = records.read(tmp_path, case)
    assert found["metrics"] == {"nearest_auc": rows["nearest_auc"], "very_near": rows["very_near"]}
    assert "figures" not in found


@pytest.mark.parametrize(
    "metrics",
    [None, [], "", {"nearest_auc": None}, {"nearest_auc": 0.5}, {"nearest_auc": {"value": 0.5}},
     {"nearest_auc": {"value": {}}}],
)  # fmt: skip
def test_an_audit_without_all_its_metrics_is_not_found(case, report, tmp_path, metrics):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    whole = path.read_text()
    path.write_text(whole[:100])
    assert records.read(tmp_path, case) is None
    path.write_text(json.dumps({**json.loads(whole), "metrics": metrics}))
    assert records.read(tmp_path, case) is None


def test_an_audit_of_another_format_is_not_found(case, report, tmp_path):
    path = records.write(tmp_path, case, report, device="cpu", seconds=1)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert records.read(tmp_path, case) is None
