"""The measurements of docs/persons.md, on fewer persons."""

import csv

import numpy as np
import pytest
import torch

from benchmarks import persons
from src.anonymizers import methods
from src.core.devices import Resources

CPU = Resources(torch.device("cpu"))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(persons, "PERSONS", {"train": 40, "val": 10, "test": 40})
    monkeypatch.setattr(persons, "HEADS", range(1))


def test_each_person_has_five_rows_in_one_split_and_an_effect():
    people = persons.lesions()
    seen = [np.unique(part.persons, return_counts=True) for part in vars(people.splits).values()]
    assert all((counts == 5).all() for _, counts in seen)
    assert len(np.unique(np.concatenate([whose for whose, _ in seen]))) == 90
    assert people.splits.train.embeddings.shape == (200, 768)
    assert 0.5 < people.effect < 0.95
    again = persons.lesions()
    assert again.splits.fingerprints == people.splits.fingerprints


def test_the_effect_is_the_share_of_variance_between_persons():
    rows = np.array([[0.0], [2.0], [4.0], [6.0]], np.float32)  # means 1 and 5, within them ± 1
    data = persons.EmbeddingSet(rows, np.arange(4) % 2, persons=np.array([7, 7, 9, 9]))
    made = dict.fromkeys(("train", "val", "test"), data)
    assert persons._people(made).effect == pytest.approx(4 / 5)


def test_groups_of_rows_hold_one_person_and_groups_of_persons_do_not():
    train = persons.lesions().splits.train
    by_row = persons._groups(train, methods.KSame(k=2, unit="row"), CPU)
    by_person = persons._groups(train, methods.KSame(k=2, unit="person"), CPU)
    assert by_row["one_person"] > 0
    assert by_row["persons_per_group"] == pytest.approx(2 - by_row["one_person"])
    assert by_person == {"persons_per_group": 2, "one_person": 0}


def test_the_table_is_printed_and_written(tmp_path, capsys, monkeypatch):
    chosen = [methods.Identity(), methods.KSame(k=2, unit="person")]
    monkeypatch.setattr(persons, "releases", lambda: chosen)
    monkeypatch.setattr(persons, "MAKERS", {"lesions": persons.lesions})
    monkeypatch.setattr(persons.logging, "disable", lambda level: None)
    path = tmp_path / "persons.csv"
    persons.main(["--device", "cpu", "--output", str(path)])
    header, identity, grouped = csv.reader(path.read_text().splitlines())
    assert header == persons.HEADER
    assert identity[:4] == ["lesions", "identity", "–", "–"]
    assert grouped[:4] == ["lesions", "k-Same 2 of persons", "2.0", "0.0%"]
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in (*header, *identity, *grouped))
    assert float(identity[-1]) == 0 < float(grouped[-1])
