"""Straight lines between centroids, and the points that are drawn from paths."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.anonymizers.latent import centroids, lines
from src.anonymizers.settings import FitSettings, part
from src.core.distances import nearest
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.anonymizers.latent.support import COUNTS, CPU, TRAIN, VAL, made, release


@given(items=st.integers(2, 9), data=st.data())
def test_pairs_meet_once_and_every_item_about_equally_often(items, data):
    count = data.draw(st.integers(1, items * (items - 1) // 2))
    pairs = lines._pairs(10 + torch.arange(items), count)
    assert pairs.shape == (count, 2)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == count
    used = torch.bincount(pairs.flatten() - 10, minlength=items)
    assert used.max() - used.min() <= 1 + items % 2


def test_lines_are_between_two_centroids_of_a_class():
    method = made("latent-linear")
    pairs = lines.lines(TRAIN, VAL, method, seed=0, resources=CPU)
    settings = part(method, FitSettings)
    found = centroids.centroids(TRAIN, VAL, settings, method.k, seed=0, resources=CPU)
    first, second = (
        nearest(ends, found.latents).indices[:, 0] for ends in (pairs.starts, pairs.ends)
    )
    assert torch.equal(found.latents[first], pairs.starts)
    assert torch.equal(found.labels[first], pairs.labels)
    assert torch.equal(found.labels[second], pairs.labels)
    assert (first != second).all()
    # 12 points per path, 10 of them between the ends: 20, 17 and 11 rows need 2 paths each
    assert torch.bincount(pairs.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["latent-linear", "plan"])
def test_class_counts_are_those_of_training_and_no_point_is_drawn_twice(name):
    released = release(name)
    assert np.bincount(released.labels).tolist() == list(COUNTS)
    assert (np.diff(released.labels) >= 0).all()
    assert len(np.unique(released.embeddings, axis=0)) == sum(COUNTS)
    assert (released.embeddings[:, 5] == 2).all()


def test_too_few_groups_are_named_with_what_would_do():
    with pytest.raises(InputError, match="11 rows of class c make 1 groups.*k up to 5"):
        release("latent-linear", k=8, path_points=40)
    with pytest.raises(InputError, match="11 rows of class c make 2 groups.*take 13 points"):
        release("latent-linear", k=5)
    assert len(release("latent-linear", k=5, path_points=13)) == sum(COUNTS)


@pytest.mark.parametrize("name", ["latent-linear", "plan"])
@pytest.mark.parametrize(
    ("count", "k", "possible"),
    [
        (9, 5, "k up to 4 is possible"),
        (4, 3, "k up to 2 is possible"),
        (3, 2, "no k is possible: leave the class out, or gather more of it"),
        (1, 5, "no k is possible"),
    ],
)
def test_a_small_class_is_named_before_any_fit(name, count, k, possible, monkeypatch):
    monkeypatch.setattr(centroids, "centroids", lambda *_, **__: pytest.fail("fitted"))
    kept = np.r_[np.flatnonzero(TRAIN.labels < 2), np.flatnonzero(TRAIN.labels == 2)[:count]]
    train = EmbeddingSet(TRAIN.embeddings[kept], TRAIN.labels[kept], TRAIN.meta)
    message = f"--k {k}: the {count} rows of class c make {count // k} groups, .* two; {possible}"
    with pytest.raises(InputError, match=message):
        made(name, k=k).release(train, VAL, seed=0, resources=CPU)
