"""Persons, or rows where persons are not known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.audit import units
from src.core.errors import InputError
from src.database import Splits
from tests.audit.support import blobs, rows


def whose(persons, labels=None):
    data = rows(np.arange(len(persons)), labels)
    return dataclasses.replace(data, persons=np.asarray(persons))


def test_persons_are_numbered_as_they_appear_and_have_the_label_of_their_first_row():
    found = units.of(whose([40, 7, 40, 9, 7], [1, 0, 0, 2, 1]))
    assert found.whose.tolist() == [0, 1, 0, 2, 1]
    assert found.labels.tolist() == [1, 0, 2]
    assert (len(found), found.several) == (3, True)
    inside = np.array([[True, False, False], [False, True, True]])
    assert found.rows(inside).astype(int).tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 1]]


def test_means_and_the_largest_by_hand():
    found = units.of(whose([40, 7, 40, 9, 7]))
    values = np.array([1.0, -np.inf, 4, -np.inf, -3])  # -inf: the release lacks the label
    assert found.means(values).tolist() == [2.5, -3, -np.inf]
    assert found.largest(values).tolist() == [4, -3, -np.inf]
    assert found.means(np.array([True, False, False, True, True])).tolist() == [0.5, 0.5, 1]


@given(st.permutations(range(12)), st.booleans())
def test_one_row_per_person_is_a_unit_of_its_own_in_the_order_of_the_rows(persons, known):
    data = whose(persons, np.arange(12) % 3)
    found = units.of(data if known else data.by("row"))
    assert found.whose.tolist() == list(range(12))
    assert found.labels.tolist() == data.labels.tolist()
    assert not found.several
    values = np.random.default_rng(0).normal(size=12)
    assert (found.means(values) == values).all()
    assert (found.largest(values) == values).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(0, 9))
def test_one_row_of_each_is_drawn(persons, seed):
    chosen = units.of(whose(persons)).one_each(np.random.default_rng(seed))
    assert sorted(np.array(persons)[chosen]) == sorted(set(persons))
    assert (np.diff(chosen) > 0).all()


def test_the_unit_is_the_person_where_both_sides_say_whose_rows_are():
    data = blobs(20, 0)
    named = dataclasses.replace(data, persons=np.arange(20))
    assert units.chosen(Splits(named, data, named), None) == "person"
    assert units.chosen(Splits(named, named, named), "row") == "row"
    for train, test in ((named, data), (data, named), (data, data)):
        assert units.chosen(Splits(train, data, test), None) == "row"
        with pytest.raises(InputError, match="--unit person: the embeddings do not say whose"):
            units.chosen(Splits(train, data, test), "person")
