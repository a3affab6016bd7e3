"""The attacks, on cases where the answer is known."""

import dataclasses

import numpy as np
import pytest

from src.audit import attacks, statistics
from src.audit.statistics import Bootstrap
from src.database import EmbeddingSet
from tests.audit.support import CPU, real, rows

HALVES = (np.arange(0, 12, 2), np.arange(1, 12, 2))


def noisy(data, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(size=data.embeddings.shape)
    return EmbeddingSet((data.embeddings + sigma * noise).astype(np.float32), data.labels)


def hits_of(release, members, non_members):
    found = [
        attacks.closest(release.embeddings, rows.embeddings, CPU)
        for rows in (members, non_members)
    ]
    return attacks.nearest_real_rows(*found, len(members), len(non_members))


# Rows


def test_copies_are_removed_in_order_and_another_label_is_not_a_copy():
    kept = attacks.distinct(rows([3, 1, 3, 3, 1, -0.0, 0.0], [0, 0, 0, 1, 0, 0, 0]))
    assert kept.embeddings[:, 0].tolist() == [3, 1, 3, 0]
    assert kept.labels.tolist() == [0, 0, 1, 0]


def test_rows_that_are_copies_of_members_are_not_non_members():
    left = attacks.unlike(rows([1, 2, 3, 2], [0, 0, 0, 1]), rows([2, 9], [0, 0]))
    assert left.embeddings[:, 0].tolist() == [1, 3]


def test_rows_stay_with_their_persons():
    data = dataclasses.replace(rows([1, 2, 2, 3]), persons=np.array([7, 8, 8, 9]))
    assert attacks.subset(data, np.array([3, 0])).persons.tolist() == [9, 7]
    assert attacks.distinct(data).persons.tolist() == [7, 8, 9]
    assert attacks.unlike(data, rows([2])).persons.tolist() == [7, 9]
    assert attacks.together(data, data).persons.tolist() == [7, 8, 8, 9] * 2
    assert attacks.together(rows([1]), rows([2])).persons is None
    mixed = attacks.together(rows([5, 6]), data).persons.tolist()
    assert mixed[2:] == [7, 8, 8, 9]
    assert len({*mixed}) == 5  # each row of the others is a person of its own


# Scores by hand


def test_nearest_neighbour_score_looks_at_the_same_label_only():
    release = rows([0, 10, 4], [0, 0, 1])
    scores = attacks.nearest_neighbour_scores(rows([3, 3, 10, 5], [0, 1, 0, 2]), release, CPU)
    assert scores.tolist() == [-3, -1, 0, -np.inf]


def test_calibrated_score_by_hand():
    references, release = rows([0.0, 7]), rows([4.0, 7])
    scores = attacks.calibrated_scores(rows([1.0, 4, 7]), release, references, CPU)
    np.testing.assert_allclose(scores[0], np.log(1 / 3), rtol=1e-6)
    assert scores[1] > 80  # a copy in the release, none among the references
    assert scores[2] == 0  # a copy in both tells nothing


def test_shadow_halves_are_balanced_for_every_row_and_label():
    labels = np.repeat([0, 1, 2], [11, 4, 1])
    inside = attacks.shadow_memberships(labels, 16, np.random.default_rng(0))
    assert (inside.sum(0) == 8).all()
    assert (inside[::2] == ~inside[1::2]).all()
    for shadow in inside:
        assert shadow[labels == 0].sum() in (5, 6)
        assert shadow[labels == 1].sum() == 2
    assert len(np.unique(inside, axis=0)) > 10


def test_likelihood_ratio_by_hand_where_gaps_are_equal():
    # in: mean 2, out: mean 0, all four residuals of a row ±1, so that the variance is 4/2
    inside = np.array([[True], [True], [False], [False]]).repeat(3, axis=1)
    shadows = np.array([[1.0], [3], [-1], [1]]).repeat(3, axis=1)
    target = np.array([2.0, 0.0, 1.0])
    # (t² - (t - 2)²) / (2 · 2)
    np.testing.assert_allclose(attacks.likelihood_ratios(target, shadows, inside), [1, -1, 0])


def test_likelihood_ratio_shrinks_gaps_that_are_noise_and_keeps_those_that_are_not():
    rng = np.random.default_rng(0)
    inside = attacks.shadow_memberships(np.zeros(2000), 16, rng)
    noise = rng.normal(size=inside.shape)
    far = np.full(2000, 100.0)  # the ratio is then 100 times the gap, over the variance of 1
    same = attacks.likelihood_ratios(far, noise + inside, inside) / 100
    assert same.mean() == pytest.approx(1, abs=0.05)
    assert same.std() < 0.15  # 0.5 without shrinking
    gaps = np.repeat([0.0, 20.0], 1000)
    ratios = attacks.likelihood_ratios(far, noise + gaps * inside, inside) / 100
    assert ratios[1000:].mean() - ratios[:1000].mean() == pytest.approx(18, abs=1)  # 20 · 0.9


def test_likelihood_ratio_takes_identical_scores_and_missing_labels():
    inside = attacks.shadow_memberships(np.zeros(6), 4, np.random.default_rng(0))
    shadows = np.where(inside, 0.0, -1.0)
    target = np.array([0.0, 0, 0, -1, -1, -np.inf])
    ratios = attacks.likelihood_ratios(target, shadows, inside)
    assert np.isfinite(ratios).all()
    assert ratios[:3].min() > 0 > ratios[3:].max()


def test_linked_where_both_halves_point_to_the_same_row():
    release = rows([[0, 0], [10, 10], [10, 10]], [0, 0, 1])
    found = attacks.linked(rows([[1, 1], [1, 9], [9, 9]]), release, [0], [1], CPU)
    assert found.tolist() == [True, False, True]  # copies with two labels are one row


def test_excess_linkability_by_hand():
    excess = attacks.excess_linkability(np.array([0.6, 1.0]), np.array([0.2, 1.0]))
    np.testing.assert_allclose(excess, [0.5, np.nan])


def test_hits_and_copying_share_by_hand():
    members, non_members = rows([0, 10, 20]), rows([14])
    hits = hits_of(rows([1, 2, 12, 13, 21]), members, non_members)
    assert hits.members.tolist() == [2, 0.5, 1]
    assert hits.non_members.tolist() == [1.5]
    # 3.5 hits over 3 members, 1.5 over 1 non-member: 1.1667 / 2.6667
    assert attacks.copying_share(hits.members.mean(), hits.non_members.mean()) == pytest.approx(
        0.4375
    )


# Constructed releases


def bootstrap():
    return Bootstrap(200, np.random.default_rng(0))


def membership(scores, n):
    return statistics.membership(scores[:n], scores[n:], fprs=(), bootstrap=bootstrap())


def metrics(release, members, non_members, references):
    """One metric or two of every attack."""
    everyone, n = attacks.together(members, non_members), len(members)
    nn = attacks.nearest_neighbour_scores(everyone, release, CPU)
    calibrated = attacks.calibrated_scores(everyone, release, references, CPU)
    linked = attacks.linked(everyone, release, *HALVES, CPU)
    hits = hits_of(release, members, non_members)
    return {
        "nearest": membership(nn, n).auc,
        "balanced": membership(nn, n).balanced_accuracy,
        "calibrated": membership(calibrated, n).auc,
        "copying": statistics.of_means(attacks.copying_share, *hits, bootstrap=bootstrap()),
        "linked": statistics.of_means(
            attacks.excess_linkability, linked[:n], linked[n:], bootstrap=bootstrap()
        ),
    }


def shadow_auc(make, release, members, non_members):
    everyone, n = attacks.together(members, non_members), len(members)
    inside = attacks.shadow_memberships(everyone.labels, 8, np.random.default_rng(1))
    shadows = np.stack(
        [
            attacks.nearest_neighbour_scores(
                everyone, make(attacks.subset(everyone, half), 100 + i), CPU
            )
            for i, half in enumerate(inside)
        ]
    )
    target = attacks.nearest_neighbour_scores(everyone, release, CPU)
    return membership(attacks.likelihood_ratios(target, shadows, inside), n).auc


def test_releasing_the_members_themselves_is_found_by_every_attack():
    members, non_members = real(300, 0), real(120, 1)
    found = metrics(members, members, non_members, real(100, 2))
    assert found["nearest"].value == found["calibrated"].value == 1
    assert found["balanced"].value > 0.99
    assert found["copying"].value == found["linked"].value == 1
    assert shadow_auc(lambda half, _: half, members, members, non_members).value > 0.99
    distances = attacks.closest(non_members.embeddings, members.embeddings, CPU).distances
    share = statistics.share_below_quantile(
        np.zeros(300), distances, 0.01, whose=np.arange(120), bootstrap=bootstrap()
    )
    assert share.value == 1


def test_releasing_disjoint_rows_gives_intervals_that_contain_chance():
    chance = {"nearest": 0.5, "balanced": 0.5, "calibrated": 0.5, "copying": 0.5, "linked": 0.0}
    held = dict.fromkeys(chance, 0)
    for seed in range(10_000, 10_800, 4):
        found = metrics(*(real(n, seed + i) for i, n in enumerate((150, 150, 100, 100))))
        for name, value in chance.items():
            held[name] += found[name].low <= value <= found[name].high
    assert min(held.values()) >= 0.93 * 200, held


def test_noise_moves_every_attack_towards_chance():
    members, non_members, references = real(300, 0), real(150, 1), real(150, 2)
    by_noise = []
    for sigma in (0, 0.5, 1, 2, 8):
        release = noisy(members, sigma)
        values = {
            k: e.value for k, e in metrics(release, members, non_members, references).items()
        }
        values["shadow"] = shadow_auc(
            lambda half, seed, sigma=sigma: noisy(half, sigma, seed), release, members, non_members
        ).value
        by_noise.append(values)
    for name in by_noise[0]:
        series = [values[name] for values in by_noise]
        assert all(np.diff(series) < 0.02), (name, series)  # 0.02: both may be at chance already
        assert series[0] - series[-1] > 0.35, (name, series)
    assert by_noise[-1]["nearest"] == pytest.approx(0.5, abs=0.1)
