"""Which column is what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import DataError, InputError
from src.embedding.imports import columns


def found(names, **said):
    """(embedding, label, split, person) by name."""
    result = columns.find(names, said, "file")
    places = columns.dimensions(names, result.rest, said.get("embedding"), "file")
    single = [None if i is None else names[i] for i in result[:3]]
    return [names[i] for i in places], *single


@pytest.mark.parametrize(
    "names",
    [
        ["feat_0", "feat_1", "label", "split", "patient_id"],
        ["Feature 1", "Feature 2", "Class", "Fold", "Subject"],
        ["0", "1", "y", "subset", "Person ID"],
        ["x[0]", "x[1]", "target", "partition", "PatientID"],
        ["emb.0", "emb.1", "DX", "Splits", "subject-id"],
        ["deep7_0", "deep7_1", "diagnosis", "split", "patient id"],
    ],
)
def test_usual_names(names):
    assert found(names) == (names[:2], *names[2:])


@given(st.permutations(range(1, 13)), st.booleans())
def test_dimensions_are_sorted_by_number(order, zero):
    names = [f"v{i - zero}" for i in order]
    assert found([*names, "label"])[0] == [f"v{i - zero}" for i in range(1, 13)]


def test_what_is_said_wins():
    names = ["feat0", "feat1", "code0", "code1", "label", "class", "id"]
    with pytest.raises(DataError, match="'label' and 'class', each of which could be the label"):
        found(names)
    assert found(names, label="class")[:2] == (["feat0", "feat1"], "class")
    assert found(names, label="class", embedding="code")[0] == ["code0", "code1"]
    assert found(names, label="class", embedding="code1,feat0")[0] == ["code1", "feat0"]
    assert found(names, label="class", person="id", embedding="*")[0] == [*names[:4], "label"]
    assert found(["feat0", "label", "person"], person="")[3] is None


@pytest.mark.parametrize(
    ("names", "said", "message"),
    [
        (["a0", "a1", "b0", "b1", "label"], {}, "the embedding could be 'a0' or 'b0'"),
        (["x", "x0", "x1", "label"], {}, "the embedding could be 'x' or 'x0'"),
        (["mean", "std", "label"], {}, "does not say what is embedding; --columns embedding=NAME"),
        (["f0", "f2", "label"], {}, "the columns up to 'f2' are not complete: number 1 is miss"),
        (["f2", "f3", "label"], {}, "the columns up to 'f3' are not complete: number 1 is missi"),
        (["f0", "f00", "f1", "label"], {}, "the number of column 'f00' occurs twice"),
        (["f0", "label"], {"embedding": "g"}, "has no column 'g' or 'g0'"),
        (
            ["f0", "label"],
            {"embedding": "f0,f1"},
            "has no column 'f1' .--columns embedding=f1; it has",
        ),
        (["f0", "label", "Label"], {"label": "LABEL"}, "has several columns 'LABEL'"),
        (["f0", "label"], {"person": "label"}, "one column of file cannot be two things"),
        ([f"c{i}x" for i in range(99)], {"embedding": "q"}, "c9x, and 89 more"),
    ],
)
def test_what_is_not_clear_is_refused(names, said, message):
    with pytest.raises(InputError, match=message):
        found(names, **said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label"], "it must be ROLE=NAME"),
        (["labels=x"], "unknown role in --columns 'labels'; did you mean 'label'?"),
        (["label=x", "label=y"], "label is given twice"),
        (["embedding="], "it needs the name of a column"),
    ],
)
def test_words_that_say_nothing(words, message):
    with pytest.raises(InputError, match=message):
        columns.parse(words)
    assert columns.parse(["label=a=b", "person="]) == {"label": "a=b", "person": ""}
