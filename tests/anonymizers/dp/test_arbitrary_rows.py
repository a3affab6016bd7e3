"""Whether a fit ends, and what it says, does not hang on any row."""

import numpy as np
import pytest

from src.database import EmbeddingSet
from tests.anonymizers.dp.support import CPU, fit_at_the_command_line, short, without_meta

ZEROS = np.zeros((200, 64))
TINY = np.full((200, 64), 1e-45)
TYPICAL = np.random.default_rng(0).standard_normal((200, 64))
MIXED = np.random.default_rng(1).choice([0, 1e30, -1e30, 1e-45, 3e38, -3e38, 1], (200, 64))


@pytest.mark.parametrize(
    ("rows", "extra"),
    [
        (ZEROS, 1.0),
        (ZEROS, 1e30),
        (ZEROS, 1e-45),
        (TYPICAL, 3e38),
        (TYPICAL, -1e30),
        (TINY, 1e-45),  # a duplicate
        (1e30 * np.ones((200, 64)), -1e30),
        (3e38 * np.sign(TYPICAL), 0.0),
        (MIXED, 3e38),
    ],
)
def test_whether_a_fit_ends_and_what_it_says_tells_of_no_row(tmp_path, rows, extra):
    """At this learning rate noise drives the weights far out, with any rows."""
    flags = ["--learning_rate", 0.3, "--epochs", 25]
    more = np.concatenate([rows, np.full((1, 64), extra)])
    seen = [
        fit_at_the_command_line(tmp_path / name, data, *flags)
        for name, data in (("without", rows), ("with", more))
    ]
    for done, released in seen:
        assert done.status == 0, done.err
        assert np.isfinite(released.embeddings).all()
        assert sorted(set(released.labels)) == [0, 1]
    (without, one), (with_it, two) = seen
    assert without.err == with_it.err
    assert one.meta["facts"] == two.meta["facts"]
    assert without.out.splitlines()[1:] == with_it.out.splitlines()[1:]  # [0] has noisy counts


def test_the_fits_of_which_one_ended_and_one_did_not(tmp_path):
    for name, count in (("without", 200), ("with", 201)):
        data = np.zeros((count, 64))
        data[200:] = 1
        done, released = fit_at_the_command_line(tmp_path / name, data, "--learning_rate", 0.3)
        assert (done.status, done.err) == (0, "")
        assert released.meta["facts"]["steps"] == 400


def test_rows_of_a_library_that_are_not_finite_count_as_some_that_are(digits):
    rows = digits.train.embeddings.copy()
    rows[:3, :5] = [[np.nan], [np.inf], [-np.inf]]
    train = EmbeddingSet(rows, digits.train.labels, digits.train.meta)
    for data in (train, without_meta(train)):
        released = short().release(data, digits.val, seed=0, resources=CPU)
        assert np.isfinite(released.embeddings).all()
