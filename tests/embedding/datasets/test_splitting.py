"""Splits that are made here: as scikit-learn's without persons, and by person with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from src.core.errors import DataError
from src.database import SPLITS
from src.embedding.datasets import splitting
from src.embedding.datasets.splitting import divided, hold_out

NAMES = list("abcd")


@pytest.mark.parametrize("fraction", [0.1, 0.2])
def test_where_each_person_has_one_row_the_split_is_that_of_rows(fraction):
    labels = np.random.default_rng(0).integers(0, 3, 90)
    expected = train_test_split(
        np.arange(90), test_size=fraction, random_state=12345, stratify=labels
    )
    alone = np.random.default_rng(1).permutation(90)
    for persons in (None, alone):
        for part, wanted in zip(hold_out(labels, fraction, persons), expected, strict=True):
            assert part.tolist() == wanted.tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(12, 60), st.integers(2, 4))
def test_nobody_is_in_two_parts_and_no_class_is_lost(seed, people, classes):
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(people), rng.integers(1, 7, people))
    labels = rng.integers(0, classes, len(persons))
    labels[: 2 * classes] = np.arange(2 * classes) % classes
    persons = rng.permutation(people)[persons]
    parts, made = divided(np.full(len(labels), ""), labels, persons, "here", NAMES)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    whose = [set(persons[parts[split]].tolist()) for split in SPLITS]
    assert sum(map(len, whose)) == len(set().union(*whose)) == people
    assert set(labels[parts["train"]]) == set(labels)
    assert made["split_seed"] == 12345
    again, _ = divided(np.full(len(labels), ""), labels, persons + 7, "here", NAMES)
    assert all((again[split] == parts[split]).all() for split in SPLITS)


def test_a_split_of_rows_would_put_persons_into_two_parts(monkeypatch):
    """The broken version of the test before."""
    persons, labels = np.repeat(np.arange(30), 4), np.tile([0, 1], 60)
    kept, held_out = hold_out(labels, 0.2, persons)
    assert not set(persons[kept]) & set(persons[held_out])
    kept, held_out = hold_out(labels, 0.2)
    assert set(persons[kept]) & set(persons[held_out])


def test_persons_are_stratified_as_well_as_that_allows():
    """1,000 rows, 200 persons, classes of 60, 30 and 10 %."""
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(200), 5)
    labels = np.repeat(rng.choice(3, 200, p=[0.6, 0.3, 0.1]), 5)
    _, held_out = hold_out(labels, 0.2, persons)
    shares = np.bincount(labels[held_out]) / np.bincount(labels)
    assert shares == pytest.approx([0.2] * 3, abs=0.03)


def test_a_class_of_one_person_stays_where_it_can_be_learnt():
    persons = np.repeat(np.arange(12), 4)
    labels = np.repeat([0] * 9 + [1, 1, 2], 4)
    kept, held_out = hold_out(labels, 0.1, persons)
    assert (labels[kept] == 2).sum() == 4
    assert 2 not in labels[held_out]
    assert len(held_out)


@pytest.mark.parametrize(
    ("persons", "labels"), [([0] * 12, [0, 1] * 6), ([0] * 6 + [1] * 6, [0] * 6 + [1] * 6)]
)
def test_too_few_persons(persons, labels):
    with pytest.raises(DataError, match="persons with rows of 2 classes are too few to hold out"):
        hold_out(np.array(labels), 0.1, np.array(persons))


def test_splits_that_are_said_are_kept():
    said = np.array(["train"] * 40 + ["test"] * 5)
    labels, persons = np.arange(45) % 2, np.arange(45) // 4
    parts, made = divided(said, labels, persons, "here", NAMES)
    assert parts["test"].tolist() == list(range(40, 45))
    assert not set(persons[parts["train"]]) & set(persons[parts["val"]])
    assert made == {"val": "held out by person", "split_seed": splitting.SPLIT_SEED}
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"here has no rows of the split {split}"):
            divided(said[said != split], labels[said != split], None, "here", NAMES)


@pytest.mark.parametrize("said", ["", "train"])
def test_a_class_of_one_row_is_named(said):
    labels = np.array([0] * 20 + [1] * 20 + [2])
    splits = np.array([said] * 41)
    if said:
        labels, splits = np.append(labels, [0, 1]), np.append(splits, ["test"] * 2)
    with pytest.raises(
        DataError, match="^here has no .*, and class 'c' has only 1 row, which can"
    ):
        divided(splits, labels, None, "here", NAMES)
