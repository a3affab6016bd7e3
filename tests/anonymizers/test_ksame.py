"""k-Same: the fast grouping against a slow transcription of its definition, and its promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.anonymizers import ksame, methods
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet

HELD = Resources(torch.device("cpu"), memory=1 << 30)
ON_THE_FLY = Resources(torch.device("cpu"), memory=0)


def slow_groups(rows, k):
    """The definition, word by word: correctly rounded sums of float64 distances.

    The first row of equal sums starts a group, the later of equally near rows join it.
    """
    wide = rows.astype(np.float64)
    left = list(range(len(rows) - len(rows) % k))
    groups = []
    while left:
        squares = {i: np.square(wide[left] - wide[i]).sum(axis=1) for i in left}
        sums = [math.fsum(np.sqrt(squares[i])) for i in left]
        seed = left[sums.index(max(sums))]
        others = sorted(
            (square, -j) for square, j in zip(squares[seed], left, strict=True) if j != seed
        )
        group = sorted([seed] + [-j for _, j in others[: k - 1]])
        groups.append(group)
        left = [i for i in left if i not in group]
    return groups


def both_paths(rows, k):
    held = ksame.group(rows, k=k, resources=HELD)
    np.testing.assert_array_equal(ksame.group(rows, k=k, resources=ON_THE_FLY), held)
    return held.tolist()


def test_four_points_on_a_line():
    # sums: 0 → 18, 1 → 16, 7 → 16, 10 → 22: 10 with 7, then 0 with 1
    rows = np.array([[0.0], [1.0], [7.0], [10.0]], np.float32)
    assert both_paths(rows, 2) == [[2, 3], [0, 1]]


def test_of_equal_sums_the_first_and_of_equal_distances_the_last():
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    assert both_paths(square, 2) == [[0, 2], [1, 3]]
    assert both_paths(np.zeros((6, 3), np.float32), 3) == [[0, 4, 5], [1, 2, 3]]


@pytest.mark.parametrize("k", [2, 3, 5, 7])
@pytest.mark.parametrize("shape", [(40, 1), (61, 3), (100, 16), (150, 64)])
def test_normal_rows_are_grouped_as_the_definition_says(shape, k):
    rows = np.random.default_rng(sum(shape) + k).normal(3, 2, shape).astype(np.float32)
    assert both_paths(rows, k) == slow_groups(rows, k)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_full_of_ties_and_copies_are_grouped_as_the_definition_says(data):
    n = data.draw(st.integers(2, 40), "n")
    dim = data.draw(st.integers(1, 4), "D")
    levels = data.draw(st.integers(1, 4), "grey levels")
    values = data.draw(
        st.lists(st.integers(0, levels), min_size=n * dim, max_size=n * dim), "values"
    )
    k = data.draw(st.integers(2, n), "k")
    rows = np.array(values, np.float32).reshape(n, dim) / 16
    assert both_paths(rows, k) == slow_groups(rows, k)


def test_digits_which_tie_often_are_grouped_as_the_definition_says(digits):
    rows = digits.train.embeddings[:300]
    assert both_paths(rows, 5) == slow_groups(rows, 5)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_more_rows_than_a_tile_and_a_front_take_the_same_groups_on_both_paths(shift, monkeypatch):
    monkeypatch.setattr(ksame, "TILE", 64)
    monkeypatch.setattr(ksame, "FRONT", 7)
    rows = (np.random.default_rng(5).normal(size=(500, 8)) + shift).astype(np.float32)
    monkeyed = both_paths(rows, 3)
    monkeypatch.undo()
    assert both_paths(rows, 3) == monkeyed


def test_the_number_of_threads_makes_no_difference():
    rows = np.random.default_rng(6).normal(size=(700, 20)).astype(np.float32)
    before, groups = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            groups.append(ksame.group(rows, k=5, resources=HELD))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*groups)


def test_scaling_all_rows_by_a_power_of_two_changes_no_group():
    rows = np.random.default_rng(7).normal(size=(90, 5)).astype(np.float32)
    expected = ksame.group(rows, k=4, resources=HELD)
    for factor in (2.0**-100, 2.0**60):
        np.testing.assert_array_equal(
            ksame.group(rows * np.float32(factor), k=4, resources=HELD), expected
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 80))
def test_whole_numbers_keep_every_distance_within_rounding(seed, n, dim):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(n, dim)) * 10.0 ** rng.integers(-20, 20)).astype(np.float32)
    whole = ksame.whole_numbers(rows)
    assert np.array_equal(whole, np.rint(whole))
    squares = np.square(whole).sum(axis=1)
    assert 4 * squares.max() < 2**53  # so that squared distances are exact
    unit = 2.0 ** (np.frexp(np.linalg.norm(rows - rows.mean(0, np.float64), axis=1).max())[1] - 25)
    there = np.linalg.norm(rows[0].astype(np.float64) - rows, axis=1)
    ours = np.linalg.norm(whole[0] - whole, axis=1) * unit
    assert np.abs(ours - there).max() <= unit * math.sqrt(dim) * (1 + 1e-9) + 1e-12 * there.max()


def example(n=60, dim=4, classes=3):
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    return EmbeddingSet(rows, rng.integers(0, classes, n), {"class_names": ["a", "b", "c"]})


@pytest.mark.parametrize("k", [2, 7, 60])
def test_every_centroid_occurs_k_times_and_rows_keep_place_and_label(k):
    data = example()
    made = ksame.release(data, k, per_class=False, resources=HELD)
    rows = 60 - 60 % k
    assert made.facts["groups"] == rows // k
    assert made.facts["dropped_rows"] == 60 - rows
    assert sum(made.facts["dropped_by_class"].values()) == 60 - rows
    np.testing.assert_array_equal(made.labels, data.labels[:rows])
    _, counts = np.unique(made.embeddings, axis=0, return_counts=True)
    assert counts.tolist() == [k] * (rows // k)
    for members in slow_groups(data.embeddings, k):
        mean = data.embeddings[members].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(made.embeddings[members], np.tile(mean, (k, 1)), rtol=1e-6)


def test_per_class_no_centroid_mixes_classes_and_each_class_drops_its_last_rows():
    data = example()
    made = ksame.release(data, 4, per_class=True, resources=ON_THE_FLY)
    kept = np.sort(
        np.concatenate(
            [(rows := np.flatnonzero(data.labels == c))[: len(rows) // 4 * 4] for c in range(3)]
        )
    )
    np.testing.assert_array_equal(made.labels, data.labels[kept])
    assert made.facts["dropped_rows"] == 60 - len(kept)
    centroids, group = np.unique(made.embeddings, axis=0, return_inverse=True)
    for i in range(len(centroids)):
        assert len(np.unique(made.labels[group == i])) == 1
        assert (group == i).sum() == 4


def test_k_above_the_number_of_rows_is_refused():
    data = example()
    with pytest.raises(InputError, match="--k 61 is larger than the 60 rows of the training set"):
        ksame.release(data, 61, per_class=False, resources=HELD)
    most = int(np.bincount(data.labels).min()) + 1
    message = (
        f"--k {most} is larger than the {most - 1} rows of class [abc]; k up to {most - 1} is"
    )
    with pytest.raises(InputError, match=message):
        ksame.release(data, most, per_class=True, resources=HELD)
    alone = EmbeddingSet(data.embeddings, np.where(np.arange(60) == 5, 3, data.labels))
    with pytest.raises(InputError, match="than the 1 row of class 3; no k is possible: leave the"):
        ksame.release(alone, 2, per_class=True, resources=HELD)


@pytest.mark.parametrize("per_class", [False, True])
def test_memory_changes_nothing_and_the_release_says_how_it_was_made(digits, per_class):
    method = methods.KSame(k=3, per_class=per_class)
    held, fly = (
        method.anonymize(digits.train, digits.val, seed=0, resources=resources)
        for resources in (HELD, ON_THE_FLY)
    )
    assert held.embeddings.tobytes() == fly.embeddings.tobytes()
    assert held.meta == fly.meta
    assert held.meta["settings"] == {
        "k": 3,
        "unit": None,
        "per_class": per_class,
        "block_rows": None,
    }
    assert held.meta["seed"] is None
