"""Classes of files that belong together are matched by name."""

import re

import numpy as np
import pytest

from src.core.errors import DataError
from src.database import SPLITS, Database, EmbeddingSet, write

DATA = {"train": [0, 1, 2] * 3, "val": [0, 1, 2], "test": [0, 1, 1, 2]}


def database(root, names, labels=DATA):
    """Three splits whose embeddings say the class that each row shows, by name."""
    found = Database(root, "d", "b")
    for split in SPLITS:
        shown = [names[split][label] for label in labels[split]]
        rows = np.array([[ord(name[0]), i] for i, name in enumerate(shown)], np.float32)
        meta = {"class_names": names[split], "backbone": "b"}
        write(found.path(split), EmbeddingSet(rows, np.array(labels[split], np.int64), meta))
    return found


def shown(data):
    return [data.class_names[label][0] for label in data.labels]


def test_another_order_is_mapped(tmp_path):
    names = {
        "train": ["ant", "bee", "cat"],
        "val": ["cat", "ant", "bee"],
        "test": ["bee", "cat", "ant"],
    }
    splits = database(tmp_path, names).read()
    for split in SPLITS:
        data = getattr(splits, split)
        assert data.class_names == ["ant", "bee", "cat"]
        assert shown(data) == [chr(int(row[0])) for row in data.embeddings]
    assert splits.test.labels.tolist() == [1, 2, 2, 0]


def test_classes_without_rows_may_be_more_or_fewer(tmp_path):
    names = {"train": ["ant", "bee", "cat"], "val": ["dog", "cat", "bee"], "test": ["bee", "cat"]}
    labels = {"train": DATA["train"], "val": [1, 2], "test": [0, 1]}
    splits = database(tmp_path, names, labels).read()
    assert splits.val.labels.tolist() == [2, 1]
    assert splits.test.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant", "bee", "dog"], "val.npz has rows of class 'dog', which the training rows do not "
         "name (they name: ant, bee, cat)"),
        (["bee", "ant", "ant"], "are in another order, and a name occurs twice"),
    ],
)  # fmt: skip
def test_classes_that_do_not_fit_are_named(tmp_path, names, message):
    ours = ["ant", "bee", "cat"]
    with pytest.raises(DataError, match=re.escape(message)):
        database(tmp_path, {"train": ours, "val": names, "test": ours}).read()


def test_files_that_name_no_classes_are_taken_by_number(tmp_path):
    ours = ["ant", "bee", "cat"]
    found = database(tmp_path, dict.fromkeys(SPLITS, ours))
    data = found.read().val
    write(found.path("val"), EmbeddingSet(data.embeddings, data.labels, {}))
    assert found.read().val.labels.tolist() == DATA["val"]


def test_a_release_is_mapped_too(tmp_path):
    ours = ["ant", "bee", "cat"]
    found = database(tmp_path, dict.fromkeys(SPLITS, ours))
    train = found.read().train
    theirs = EmbeddingSet(
        train.embeddings, 2 - train.labels, {"class_names": ours[::-1], "backbone": "b"}
    )
    found.write("train", theirs, "x")
    released = found.read_release("x", train)
    assert released.labels.tolist() == train.labels.tolist()
    assert released.class_names == ours
