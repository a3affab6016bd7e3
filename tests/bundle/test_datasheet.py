"""What a datasheet says, and what it must not say."""

import json
import re

import numpy as np
import pytest

from src.bundle import datasheet, rendering
from src.database import EmbeddingSet, read
from src.networks.cvae import Decoder


def test_a_local_backbone_loses_its_folder():
    assert datasheet.public_name("local-dir:/home/me/vit-7") == "local-dir:vit-7"
    assert datasheet.public_name("hf-hub:owner/model") == "hf-hub:owner/model"
    data = EmbeddingSet(np.ones((1, 1)), np.zeros(1, int), {"source": {"train": "0123"}})
    meta = datasheet.public_rows(data, "digits", "local-dir:/home/me/vit-7").meta
    assert meta == {"dataset": "digits", "backbone": "local-dir:vit-7", "unit": "row"}


def test_the_datasheet_states_the_guarantee_and_no_figure_outside_of_it(home):
    sheet = json.loads((home / "dp" / "datasheet.json").read_text())
    facts = read(home / "dp" / "train.npz").meta["facts"]
    assert sheet["facts"] == facts
    stated = float(re.match(r"\((.*), 1e-05\)-differential privacy", sheet["guarantee"])[1])
    assert facts["epsilon"] <= stated < facts["epsilon"] + 1e-4
    assert sheet["utility"] == sheet["audits"] == []
    text = (home / "dp" / "datasheet.md").read_text()
    assert sheet["guarantee"] in text
    assert "CC-BY-4.0" in text


def test_without_a_guarantee_it_says_so_and_quotes_what_was_measured(home):
    sheet = json.loads((home / "cvae" / "datasheet.json").read_text())
    assert sheet["guarantee"].startswith("None.")
    assert [figure["id"] for figure in sheet["utility"]] == ["cvae-num_epochs3-s0"]
    assert 50 < sheet["utility"][0]["auc"] <= 100
    assert [c["rows"] for c in sheet["classes"]] == np.bincount(
        read(home / "cvae" / "train.npz").labels
    ).tolist()
    ksame = json.loads((home / "ksame" / "datasheet.json").read_text())
    assert "Groups of 5 real rows" in ksame["guarantee"]
    assert ksame["utility"] == []  # those of another release


def test_a_class_of_which_no_row_was_drawn_is_described():
    rows = EmbeddingSet(np.ones((3, 4)), np.array([0, 0, 1]), {"class_names": ["a", "b", "c"]})
    expected = [("a", 2), ("b", 1), ("c", 0), ("3", 0)]
    classes = datasheet.described(rows, Decoder(4, 4, 3, 1))["classes"]
    assert [(c["name"], c["rows"]) for c in classes] == expected


def test_tables_for_people(home):
    sheet = json.loads((home / "ksame" / "datasheet.json").read_text())
    sheet["classes"][0]["name"] = "a|b\nc"
    text = rendering.render(sheet)
    counts = [entry["rows"] for entry in sheet["classes"]]
    assert "| label | name   | rows |\n|-------|--------|------|\n" in text
    assert f"| 0     | a\\|b c | {counts[0]:<4} |\n" in text


@pytest.mark.parametrize(
    ("head", "clip", "shown"),
    [
        ({"head": "logistic", "clip": 10.0}, "10", "logistic"),
        ({"head": "adam", "clip": None}, "none", "adam"),
        ({"learning_rate": 0.001}, "none", "adam"),  # of a version with one kind of head
        (["logistic"], "none", "adam"),
    ],
)
def test_the_table_of_utility_names_the_head(home, head, clip, shown):
    sheet = json.loads((home / "cvae" / "datasheet.json").read_text())
    sheet["utility"][0]["head"] = head
    lines = rendering.render(sheet).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("| id "))
    names, cells = (
        [cell.strip() for cell in lines[i].strip("|").split("|")] for i in (place, place + 2)
    )
    assert dict(zip(names, cells, strict=True)) | {"head": shown, "clip": clip} == dict(
        zip(names, cells, strict=True)
    )


# Records that can be quoted.

RESULT = {
    "id": "ksame-5", "sigma": None, "seed": 0, "head": {}, "auc": 99.5, "accuracy": 90,
    "balanced_accuracy": 89.5, "average_mindistance": 0.5,
}  # fmt: skip
ROW = {
    "value": {"value": 0.5, "low": 0, "high": 1},
    "ceiling": {"value": 1.0},
    "chance": {"value": None},
    "verdict": "no leak found",
}
AUDIT = {"seed": 0, "audit": {}, "sizes": {}, "figures": {"nearest_auc": ROW}, "notes": []}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"average_mindistance": None}, True),
        ({"average_mindistance": "far"}, False),
        ({"auc": None}, False),
        ({"auc": True}, False),
        ({"accuracy": float("nan")}, False),
        ({"head": {"learning_rate": float("inf")}}, False),
    ],
)
def test_results_are_quoted_where_their_figures_are_numbers(change, expected):
    assert datasheet.is_result({**RESULT, **change}) == expected


@pytest.mark.parametrize("key", RESULT)
def test_half_a_result_is_not_quoted(key):
    assert not datasheet.is_result({k: v for k, v in RESULT.items() if k != key})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"figures": 5}, False),
        ({"figures": {"nearest_auc": 0.5}}, False),
        ({"figures": {"nearest_auc": {**ROW, "value": {"value": "high"}}}}, False),
        ({"figures": {"nearest_auc": {**ROW, "value": {"value": float("nan")}}}}, False),
        ({"figures": {"nearest_auc": {k: v for k, v in ROW.items() if k != "chance"}}}, False),
    ],
)
def test_audits_are_quoted_where_their_figures_are_numbers(change, expected):
    assert datasheet.is_audit({**AUDIT, **change}) == expected


@pytest.mark.parametrize("key", AUDIT)
def test_half_an_audit_is_not_quoted(key):
    assert not datasheet.is_audit({k: v for k, v in AUDIT.items() if k != key})
