"""Copies across splits and persons seen before: counted in a result, said in a line each."""

import json
import logging

import numpy as np
import pytest
import torch

from src.core.copies import among
from src.database import Database, EmbeddingSet, Splits
from src.networks.heads import LinearHead
from src.networks.training import Fit
from src.probing import caveats
from src.probing.head import Head
from tests.support import call

HEAD = Head(LinearHead(3, 2), torch.zeros(3), torch.ones(3), Fit(7, 4, 0.5, 1.2))


def splits(persons=None, shared=0):
    """6 / 4 / 5 rows; the first of test are those of train, of which one has a zero of each sign.

    Args:
        persons: of train, val and test.
    """
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)).astype(np.float32) for n in (6, 4, 5)]
    parts[0][0, 0] = 0.0
    parts[2][:shared] = parts[0][:shared]
    parts[2][0, 0] = -0.0
    whose = persons or (None, None, None)
    return Splits(
        *(
            EmbeddingSet(rows, np.arange(len(rows)) % 2, persons=p and np.array(p))
            for rows, p in zip(parts, whose, strict=True)
        )
    )


def of(data, caplog, originals=True):
    with caplog.at_level(logging.WARNING):
        found = caveats.of(HEAD, data, data.train if originals else None)
    return found, [record.getMessage() for record in caplog.records]


def test_nothing_is_said_where_nothing_is_shared(caplog):
    found, said = of(splits(), caplog)
    assert found == (0, {"val": 0, "test": 0}, None)
    assert found.content() == {"extreme_test_rows": 0, "copies": {"val": 0, "test": 0}}
    assert not said


def test_copies_are_counted_and_said_in_one_line(caplog):
    found, said = of(splits(shared=2), caplog)
    assert found.copies == {"val": 0, "test": 2}
    (line,) = said
    assert line.startswith("2 of 5 test rows and 0 of 4 val rows equal a training row")
    assert "--drop_copies" in line


def test_persons_are_counted_and_those_seen_before_are_said(caplog):
    people = ([4, 4, 4, 7, 7, 9], [4, 8, 8, 8], [9, 9, 7, 1, 1])
    found, said = of(splits(people), caplog)
    assert found.content()["persons"] == {
        "train": 3, "val": 2, "test": 3, "test_in_train": 2, "val_in_train": 1
    }  # fmt: skip
    (line,) = said
    assert line.startswith("2 of 3 persons in test and 1 of 2 persons in val are in train too")
    assert "not of new people" in line
    _, said = of(splits(([4, 4, 4, 7, 7, 9], [1] * 4, [2, 2, 2, 3, 3])), caplog)
    assert said == [line]


def test_without_the_originals_copies_and_their_persons_are_not_known(caplog):
    people = ([4, 4, 4, 7, 7, 9], [4, 8, 8, 8], [9, 9, 7, 1, 1])
    found, said = of(splits(people, shared=3), caplog, originals=False)
    assert found == (0, None, {"val": 2, "test": 3})
    assert not said


def test_large_sets_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr("src.core.copies.BLOCK", 7)
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    others = np.asfortranarray(rows[::3])
    assert np.flatnonzero(among(rows, others)).tolist() == list(range(0, 20, 3))


# At the command line.


@pytest.fixture
def site(tmp_path, digits):
    """Digits of persons with two rows each, of whom five are in train and in test; six copies."""
    database, first = Database(tmp_path / "database", "digits", "pixels"), 0
    for name, data in vars(digits).items():
        persons = first + np.arange(len(data)) // 2
        rows = data.embeddings.copy()
        if name == "test":
            persons[:10] = np.arange(10) // 2
            rows[-6:] = digits.train.embeddings[:6]
        database.write(name, EmbeddingSet(rows, data.labels, data.meta, persons))
        first += len(data)
    return tmp_path


FLAGS = ["--dataset", "digits", "--backbone", "pixels", "--device", "cpu", "--seed", "0"]
COUNTS = {"train": 647, "val": 72, "test": 180, "test_in_train": 5, "val_in_train": 0}


@pytest.mark.parametrize(
    ("script", "anonymizer", "unit"),
    [
        ("probing", ["identity"], "row"),
        ("probing", ["kSAME", "--k", "5"], "person"),
        ("probing_noise", ["kSAME", "--k", "5", "--unit", "row"], "row"),
        ("probing_noise_cvae", ["cvae-online", "--fit_num_epochs", "2"], "row"),
    ],
)
def test_every_result_says_copies_persons_and_unit(site, script, anonymizer, unit):
    place = [*FLAGS, "--database_root", site / "database"]
    method = ["--anonymizer", *anonymizer]
    if anonymizer[0] == "kSAME":
        assert call("anonymize", *place, "--ckpt_root", site / "ckpts", *method).status == 0
    noise = [] if script == "probing" else ["--sigma", "1"]
    fits = ["--ckpt_root", site / "ckpts"] if script.endswith("cvae") else []
    logs = ["--output_root", site / "logs", *noise]
    done = call(script, *place, *fits, *method, "-e", "2", *logs)
    assert done.status == 0, done.err
    (path,) = (site / "logs").rglob("*.json")
    content = json.loads(path.read_text())
    assert content["unit"] == unit
    assert content["copies"] == {"val": 0, "test": 6}
    assert content["persons"] == COUNTS
    assert done.err.count("6 of 360 test rows and 0 of 144 val rows equal a training row") == 1
    assert done.err.count("5 of 180 persons in test and 0 of 72 persons in val are in train") == 1
