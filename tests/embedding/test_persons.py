"""Numbers in the place of ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import DataError
from src.embedding import persons

PARTS = st.tuples(*[st.lists(st.integers(0, 6), min_size=1, max_size=9)] * 3)


@given(PARTS, st.permutations(range(7)))
def test_numbers_follow_from_the_grouping_alone(parts, renamed):
    names = ("train", "val", "test")
    splits = {name: np.array(part) for name, part in zip(names, parts, strict=True)}
    found = persons.numbered(splits)
    other = persons.numbered({name: np.array(renamed)[part] for name, part in splits.items()})
    for name in names:
        assert found[name].tolist() == other[name].tolist()
    before, after = (np.concatenate(list(s.values())) for s in (splits, found))
    assert (before[:, None] == before).tolist() == (after[:, None] == after).tolist()
    seen = list(dict.fromkeys(after.tolist()))
    assert seen == list(range(len(seen)))


def test_counts_by_hand():
    splits = {
        "train": np.array([0, 0, 1, 2]),
        "val": np.array([2, 3]),
        "test": np.array([4, 2, 2]),
    }
    assert persons.counts(splits) == {
        "persons": 5, "persons_in_train": 3, "persons_in_val": 2, "persons_in_test": 2,
        "persons_in_several_splits": 1,
    }  # fmt: skip
    assert persons.counts({}) == {}


def test_a_warning_with_counts(caplog):
    splits = {
        "train": np.array([0, 0, 1, 2]),
        "val": np.array([2, 3]),
        "test": np.array([4, 2, 2]),
    }
    persons.warn(splits)
    assert caplog.messages == [
        "persons across splits: 1 of 5 persons are in more than one (2 of 3 rows of test and 1 of "
        "2 rows of val are of persons who are in train); results will not be those for new "
        "persons; --split person makes the splits by person"
    ]
    caplog.clear()
    persons.warn({"train": np.array([0]), "val": np.array([1]), "test": np.array([2])})
    persons.warn({})
    assert not caplog.messages


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["a", " a ", "A"], [0, 0, 1]),
        (["100", "100.0", "0100", "100.", "100.5"], [0, 0, 0, 0, 1]),
        (["Zo\u00eb", "Zoe\u0308"], [0, 0]),
        (["1.2.840", "1.2.84"], [0, 1]),
        (["9" * 5000, "9" * 5001], [0, 1]),
    ],
)
def test_spellings_of_an_id(ids, groups):
    assert persons.codes(ids, "here").tolist() == groups


@pytest.mark.parametrize("missing", ["", "  ", "nan", "NaN", "NA", "None", "n/a", "<NA>"])
def test_missing_ids_are_counted_and_none_is_printed(missing):
    with pytest.raises(DataError, match="^here: 2 of 4 rows have no person; all") as error:
        persons.codes(["Anna", missing, "Ruth", missing], "here")
    assert "Anna" not in str(error.value)
