import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from src.embedding import datasets
from src.embedding.datasets.decoding import to_array


def test_digits():
    digits = load_digits()
    x = digits.images / 16
    rest, test = train_test_split(
        np.arange(1797), test_size=0.2, random_state=12345, stratify=digits.target
    )
    train, val = train_test_split(
        rest, test_size=0.1, random_state=12345, stratify=digits.target[rest]
    )
    splits = datasets.load("digits", root="absent")
    assert [len(train), len(val), len(test)] == [1293, 144, 360]
    for split, rows in ((splits.train, train), (splits.val, val), (splits.test, test)):
        assert split.labels.dtype == np.int64
        assert (split.labels == digits.target[rows]).all()
        pixels = np.stack([to_array(split[i])[0] for i in range(len(split))])
        assert (pixels == x[rows]).all()
    assert splits.class_names == [str(c) for c in range(10)]
