"""`python -m src.audit`: what it prints and writes, and what it refuses."""

import dataclasses
import json

import pytest

from src.anonymizers import methods
from src.audit import records
from src.audit.measures import MEASURES
from src.audit.settings import AuditSettings
from src.database import Database
from tests.audit.people import crowd
from tests.audit.support import ATTACKS, RESOURCES
from tests.support import call, files_below

AUDIT = "src.audit.__main__"
# attacks that find every row of a release of the rows themselves
WHOLE = ("nearest_", "calibrated_", "shadow_", "linkability", "copying_", "exact_", "near_copies",
         "close_", "very_near", "standardised_c")  # fmt: skip


def test_identity_on_digits_is_the_ceiling_of_every_attack(roots, tmp_path):
    figure = tmp_path / "figures" / "roc.pdf"
    done = call(
        AUDIT, *roots, "--anonymizer", "Identity", "--seed", 3, "--output_root", tmp_path / "logs",
        "--shadows", 4, "--bootstrap", 100, "--figure", figure,
    )  # fmt: skip
    assert done.status == 0, done.err
    path = tmp_path / "logs/digits/pixels/digits_identity-s3_audit.json"
    content = json.loads(path.read_text())
    assert content["sizes"]["members"] == 1293
    assert content["sizes"]["non_members"] + content["sizes"]["references"] == 360
    settings = {"shadows": 4, "bootstrap": 100, "unit": "row", "most_rows": 20_000}
    assert content["audit"] == settings
    for key in (key for key in ATTACKS if key.startswith(WHOLE)):
        row = content["metrics"][key]
        if key.endswith("tpr_at_0.001"):  # 240 non-members cannot resolve it: not 0
            assert row["value"]["value"] is row["ceiling"]["value"] is None
            assert row["verdict"].startswith("n/a: needs 1,000 non-members")
        else:
            assert row["value"]["value"] > 0.99
            assert row["value"]["value"] == row["ceiling"]["value"] > row["chance"]["high"]
            said = "as much as the training rows" if MEASURES[key].proof else "near: 100.0%"
            assert said in row["verdict"]
    assert content["metrics"]["coverage"]["value"]["value"] == 1
    assert figure.read_bytes().startswith(b"%PDF")
    assert done.out.splitlines()[-2:] == [str(path), str(figure)]
    assert done.out.count("n/a: needs") == 3


def test_audits_of_the_same_seed_are_the_same_and_are_found_again(
    roots, tmp_path, database, digits
):
    folder = tmp_path / "logs"
    flags = [*roots, "--anonymizer", "gaussian", "--seed", 1, "--output_root", folder]
    assert call("anonymize", *roots, "--anonymizer", "gaussian", "--seed", 1).status == 0
    path = folder / "digits/pixels/digits_gaussian-s1_audit.json"
    contents = []
    for _ in range(2):
        assert call(AUDIT, *flags, "--shadows", 2, "--bootstrap", 50).status == 0
        contents.append(json.loads(path.read_text()))
        contents[-1].pop("seconds")
    assert contents[0] == contents[1]
    gaussian = methods.parse("gaussian", {})
    released = gaussian.anonymize(digits.train, digits.val, seed=1, resources=RESOURCES)
    options = AuditSettings(shadows=2, bootstrap=50)
    case = records.case(database, digits, gaussian.subject(1, released), options, 1)
    assert case.path(folder) == path
    assert records.read(folder, case)["metrics"] == contents[0]["metrics"]
    assert records.read(folder, dataclasses.replace(case, seed=2)) is None
    path.write_text(path.read_text().replace('"shadows": 2', '"shadows": 3'))
    assert records.read(folder, case) is None


def test_the_summary_comes_first_and_row_numbers_where_asked_for(roots, tmp_path):
    flags = [
        *roots, "--anonymizer", "identity", "--seed", 0, "--shadows", 0, "--bootstrap", 5,
        "--output_root", tmp_path / "logs",
    ]  # fmt: skip
    done = call(AUDIT, *flags)
    assert done.status == 0, done.err
    path = tmp_path / "logs/digits/pixels/digits_identity-s0_audit.json"
    summary = json.loads(path.read_text())["summary"]
    assert list(summary) == [
        "strongest", "value", "control", "low", "high", "ceiling", "leak", "said"
    ]  # fmt: skip
    assert summary["leak"] is True
    assert (summary["strongest"], summary["value"], summary["control"]) == ("close_copies", 1, 0)
    assert done.out.splitlines()[:3] == summary["said"]
    assert "1,293 of 1,293 released rows are copies" in summary["said"][0]
    assert "training row 7" not in done.out
    asked = call(AUDIT, *flags, "--proof")
    assert "released row 7: training row 7" in asked.out.splitlines()
    assert json.loads(path.read_text())["summary"] == summary


@pytest.mark.parametrize(
    ("facts", "promised"),
    [
        ({"epsilon": 1.0}, False),
        ({"delta": 1e-5}, False),
        ({"epsilon": "1", "delta": None}, False),
        ({"epsilon": 1.0, "delta": 1e-5}, True),
    ],
)
def test_half_a_guarantee_in_a_release_is_none(roots, tmp_path, database, digits, facts, promised):
    meta = {**digits.train.meta, "facts": facts}
    database.write("train", dataclasses.replace(digits.train, meta=meta), "gaussian-s0")
    done = call(
        AUDIT, *roots, "--anonymizer", "gaussian", "--seed", 0, "--shadows", 0, "--bootstrap", 5,
        "--output_root", tmp_path / "logs",
    )  # fmt: skip
    assert done.status == 0, done.err
    path = tmp_path / "logs/digits/pixels/digits_gaussian-s0_audit.json"
    notes = json.loads(path.read_text())["notes"]
    assert len(notes) == (2 if promised else 0)  # one per false-positive rate
    assert all("with ε = 1, δ = 1e-05 no attack finds" in note for note in notes)


def test_who_is_attacked_and_whom_groups_are_of_are_two_flags(tmp_path):
    data = crowd(24, 24)
    database = Database(tmp_path / "database", "people", "pixels")
    for split in ("train", "val", "test"):
        database.write(split, getattr(data, split))
    where = ["--dataset", "people", "--backbone", "pixels", "--database_root", database.root]
    ksame = ["--anonymizer", "kSAME", "--k", 3]
    assert call("anonymize", *where, *ksame, "--unit", "row").status == 0
    quick = ["--seed", 0, "--shadows", 0, "--bootstrap", 20, "--output_root", tmp_path / "logs"]
    path = tmp_path / "logs/people/pixels/people_ksame-3-unitrow-s0_audit.json"
    missing = call(AUDIT, *where, *ksame, *quick, "--unit", "row")
    assert missing.status == 2
    assert "train_ksame-3-unitrow.npz does, which --fit_unit row would name" in missing.err
    assert not (tmp_path / "logs/people/pixels").exists() or not path.exists()
    for flags, unit in (
        ([], "person"),
        (["--unit", "row"], "row"),
        (["--unit", "person"], "person"),
    ):
        done = call(AUDIT, *where, *ksame, "--fit_unit", "row", *quick, *flags)
        assert done.status == 0, done.err
        content = json.loads(path.read_text())
        assert content["unit"] == content["audit"]["unit"] == unit
        assert ("member_persons" in content["sizes"]) == (unit == "person")
        assert ("reidentification_rank1" in content["metrics"]) == (unit == "person")
        assert "no promise to persons" in content["notes"][-1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--anonymizer", "kSAME", "--k", 5], "train_ksame-5.npz does not exist"),
        (["--anonymizer", "cvae-online"], "cvae-online"),
        (["--anonymizer", "identity", "--unit", "person"], "--unit person: the embeddings do not"),
        (["--anonymizer", "identity", "--unit", "patient"], "unknown unit 'patient'"),
        (["--anonymizer", "identity", "--shadows", 1], "--shadows 1"),
        (["--anonymizer", "identity", "--bootstrap", 0], "--bootstrap 0"),
        (["--anonymizer", "identity", "--figure", "roc.doc"], "roc.doc"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(roots, tmp_path, flags, said):
    before = files_below(tmp_path)
    done = call(AUDIT, *roots, "--output_root", tmp_path / "logs", *flags)
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == before
