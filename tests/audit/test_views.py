"""Coordinates in which a release cannot hide behind a map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.audit import attacks, views
from src.database import EmbeddingSet
from tests.audit.support import CPU, blobs, rows


def mapped(data, change):
    return EmbeddingSet(change(data.embeddings.astype(float)).astype("f4"), data.labels)


def auc(release, members, non_members):
    scores = [attacks.nearest_neighbour_scores(r, release, CPU) for r in (members, non_members)]
    return np.mean(scores[0][:, None] > scores[1]) + np.mean(scores[0][:, None] == scores[1]) / 2


@given(st.floats(-5, 5).filter(lambda a: abs(a) > 0.1), st.floats(-10, 10), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_shapes_do_not_see_what_is_done_to_rows_as_a_whole(scale, shift, seed):
    rng = np.random.default_rng(seed)
    real = blobs(20, 0)
    order = rng.permutation(real.dim)
    view = views.shapes(mapped(real, lambda x: scale * x[:, order] + shift), real)
    assert len(view.release) == 40  # as they are, and mirrored
    found = attacks.closest(view.real.embeddings, view.release.embeddings, CPU)
    assert found.distances.max() < 1e-3
    assert list(found.indices % 20) == list(range(20))


def test_standardising_undoes_shifts_and_scales_of_features():
    real = blobs(50, 0)
    factors = np.linspace(0.1, 9, real.dim)
    view = views.standardised(mapped(real, lambda x: x * factors + 3), real)
    assert view.release.embeddings == pytest.approx(view.real.embeddings, abs=1e-4)
    assert view.real.embeddings.mean(0) == pytest.approx(0, abs=1e-5)


def test_rows_without_spread_are_no_error():
    flat = rows(np.ones((20, 3)))
    assert not views.standardised(flat, flat).release.embeddings.any()
    assert not views.shapes(flat, flat).release.embeddings.any()
    assert views.whitened(flat, flat) is None


@pytest.mark.parametrize("classes", [1, 2, 9])
def test_whitening_finds_the_map_whatever_it_was(classes):
    rng = np.random.default_rng(classes)
    labels = rng.permutation(np.arange(700) % classes)
    # skewed, as rows of a Gaussian look alike from every side
    x = 2 * rng.normal(size=(classes, 10))[labels] + rng.exponential(size=(700, 10))
    members, others = rows(x[:500], labels[:500]), rows(x[500:], labels[500:])
    for change in (
        lambda x: 1 - x,
        lambda x: x[:, rng.permutation(10)],
        lambda x: x @ np.linalg.qr(rng.normal(size=(10, 10)))[0],
    ):
        release = mapped(members, change)
        assert auc(release, members, others) < 0.8
        view = views.whitened(release, attacks.together(members, others))
        sides = (attacks.subset(view.real, r) for r in (np.arange(500), np.arange(500, 700)))
        assert auc(view.release, *sides) > 0.85


def test_whitening_shows_nothing_where_the_release_holds_nothing():
    members, others, release = (blobs(400, seed, classes=5, dim=10) for seed in (0, 1, 2))
    view = views.whitened(release, attacks.together(members, others))
    parts = (attacks.subset(view.real, r) for r in (np.arange(400), np.arange(400, 800)))
    assert auc(view.release, *parts) == pytest.approx(0.5, abs=0.07)


def test_the_map_is_fitted_to_one_row_of_each_person():
    """Who has many rows must not draw the release to them."""
    real, release = blobs(200, 0, dim=6), blobs(200, 1, dim=6)
    persons = np.arange(200)
    alone = views.whitened(release, EmbeddingSet(real.embeddings, real.labels, persons=persons))
    several = EmbeddingSet(
        np.concatenate((real.embeddings, np.repeat(real.embeddings[:50], 9, 0) + 0.01)),
        np.concatenate((real.labels, np.repeat(real.labels[:50], 9))),
        persons=np.concatenate((persons, np.repeat(persons[:50], 9))),
    )
    view = views.whitened(release, several)
    assert view.release.embeddings == pytest.approx(alone.release.embeddings)
    assert len(view.real) == 650


def test_noise_that_cancels_in_pairs_is_taken_out():
    real = blobs(60, 0)
    noise = 20 * np.random.default_rng(1).normal(size=real.embeddings.shape)
    both = np.concatenate((real.embeddings + noise, real.embeddings - noise))
    order = np.random.default_rng(2).permutation(120)
    release = rows(both[order], np.concatenate((real.labels, real.labels))[order])
    assert attacks.closest(real.embeddings, release.embeddings, CPU).distances.min() > 1
    middles = views.midpoints(release, np.ones(len(release), bool), CPU)
    found = attacks.closest(real.embeddings, middles.embeddings, CPU).distances
    assert np.quantile(found, 0.9) < 1e-3


def test_values_of_single_features_are_seen_though_shuffled():
    members, others = blobs(200, 0), blobs(200, 1)
    rng = np.random.default_rng(0)
    x = members.embeddings.copy()
    for label in (0, 1):
        x[members.labels == label] = rng.permuted(x[members.labels == label], axis=0)
    release = EmbeddingSet(x, members.labels)
    seen = [attacks.value_scores(r, release) for r in (members, others)]
    assert seen[0].min() > seen[1].max()
    assert np.isinf(attacks.value_scores(rows(np.zeros((1, 8)), [5]), release)).all()
    assert attacks.value_scores(rows([2.5]), rows([0.0, 2.0, 4.0])) == pytest.approx(
        -np.log(0.125)
    )


def test_linked_shares_and_hits_by_hand():
    release = rows([[0, 0], [10, 10], [0, 10]])
    halvings = [attacks.Halving(np.array([0]), np.array([1]))] * 2
    candidates = rows([[1, 1], [9, 1]])
    assert list(attacks.often_linked(candidates, release, halvings, CPU)) == [1, 0]
    assert list(attacks.often_linked(candidates, release, [], CPU)) == [0, 0]
    assert list(attacks.hits(rows([[0, 0], [10, 9]]), release, CPU)) == [2, 1]
