"""The sums of private Gaussians: their formulas, what one person can do, and their noise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.anonymizers.dp import contributions, noisy_sums, persons
from src.anonymizers.dp.contributions import Blocks
from src.anonymizers.methods import DPGaussian
from src.database import EmbeddingSet

CPU = torch.device("cpu")
NAMES = tuple(DPGaussian(epsilon=1.0).shares(pixels=False))
NONE = dict.fromkeys(NAMES, 0.0)


def rows_of(n=300, dim=5, classes=3, seed=0, **more):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, dim)) * np.exp(rng.normal(size=dim)) + rng.normal(size=dim)
    return EmbeddingSet(rows.astype(np.float32), np.arange(n) % classes, **more)


def take(data, noise=NONE, bound=None, classes=3, elements=contributions.ELEMENTS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = Blocks(data, CPU, elements)
    return noisy_sums.take(found, classes, noise, bound, generator)


def shortened(x, norm):
    return x / np.maximum(np.linalg.norm(x, axis=1), norm)[:, None]


def test_without_noise_they_are_the_formulas():
    data = rows_of()
    sums, (bound, radius) = take(data)
    x = data.embeddings.astype(float)
    norms = np.linalg.norm(x, axis=1)
    assert np.median(norms) <= bound <= np.median(norms) * 2 ** (1 / 4)
    centre = shortened(x, bound).sum(0) * bound / 300
    np.testing.assert_allclose(sums.centre, centre, rtol=1e-6)
    scale = np.sqrt(shortened(np.abs(x - centre), bound).sum(0) * bound / 300)
    np.testing.assert_allclose(sums.scale, scale, rtol=1e-6)
    z = (x - centre) / scale
    lengths = np.linalg.norm(z, axis=1)
    quartile = np.quantile(lengths, 0.25)
    assert quartile <= radius <= quartile * 2 ** (1 / 4)
    assert sums.radius == radius
    z = shortened(z, radius)
    y = np.eye(3)[data.labels]
    np.testing.assert_allclose(sums.counts, [100] * 3)
    np.testing.assert_allclose(sums.class_sums, y.T @ z, rtol=1e-5)
    np.testing.assert_allclose(sums.squares, (z**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(sums.moments, z.T @ z, rtol=1e-5, atol=1e-5)


def test_a_public_bound_and_a_shared_unit_are_not_asked_for():
    noise = {name: 0.0 for name in NAMES if name not in ("norms", "scaling")}
    sums, (bound, _) = take(rows_of(), noise, 3.0)
    assert bound == 3.0
    assert sums.scale.tolist() == [1.0] * 5


def test_blocks_change_nothing_but_rounding():
    data = rows_of(501)
    whole, one_row = (take(data, elements=elements)[0] for elements in (1 << 20, 1))
    for ours, theirs in zip(whole, one_row, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


class Seen:
    """The sums before their noise, and how each is divided by its bound."""

    def __init__(self, monkeypatch):
        self.totals = {}
        original = noisy_sums.Taker.with_noise

        def with_noise(taker, name, total):
            self.totals[name] = total.clone()
            return original(taker, name, total)

        monkeypatch.setattr(noisy_sums.Taker, "with_noise", with_noise)
        symmetric = noisy_sums.with_symmetric_noise

        def with_symmetric_noise(moments, multiplier, generator):
            self.totals["moments"] = moments.clone()
            return symmetric(moments, multiplier, generator)

        monkeypatch.setattr(noisy_sums, "with_symmetric_noise", with_symmetric_noise)


FIXED = {"class_counts": 2.0, "norms": 5.0, "centre": 5.0, "scaling": 5.0, "radius": 5.0,
         "class_sums": 2.0, "squares": 2.0, "moments": 2.0}  # fmt: skip
row = st.lists(
    st.one_of(
        st.floats(-1e3, 1e3, width=32),
        st.sampled_from([0.0, 3e38, -3e38, 1e-44, math.inf, -math.inf, math.nan]),
    ),
    min_size=3,
    max_size=3,
)


def moved(monkeypatch, rows, whose, extra):
    """How far one person with `extra` rows moves each sum, those after it being in its units."""
    person = max(whose) + 1
    base = EmbeddingSet(
        np.array(rows, np.float32), np.arange(len(rows)) % 2, persons=np.array(whose)
    )
    more = EmbeddingSet(
        np.array([*rows, *extra], np.float32),
        np.r_[base.labels, np.arange(len(extra)) % 2],
        persons=np.array([*whose, *[person] * len(extra)]),
    )
    seen, answers = Seen(monkeypatch), {}
    found = []
    # both datasets get the same answers, as the comparison of neighbours asks for
    answer = noisy_sums.Taker.with_noise

    def same(taker, name, total):
        noisy = answer(taker, name, total)
        return answers.setdefault(name, noisy)

    monkeypatch.setattr(noisy_sums.Taker, "with_noise", same)
    for data in (base, more):
        take(data, FIXED, classes=2)
        found.append(dict(seen.totals))
    return {name: float((found[1][name] - found[0][name]).norm()) for name in found[0]}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(row, min_size=1, max_size=6),
    st.lists(row, min_size=1, max_size=50),
    st.randoms(use_true_random=False),
)
def test_a_person_moves_every_sum_by_at_most_one(rows, extra, random):
    whose = [random.randint(0, 3) for _ in rows]
    with pytest.MonkeyPatch.context() as patch:
        for name, distance in moved(patch, rows, whose, extra).items():
            assert distance <= 1 + 1e-6, name


def test_a_person_of_fifty_rows_uses_what_there_is():
    """Fifty equal rows move the sums as one does; counted by row they would move them by fifty."""
    with pytest.MonkeyPatch.context() as patch:
        far = moved(patch, [[1.0, 2, 3]] * 40, range(40), [[9.0, 9, 9]] * 50)
    assert far["centre"] == pytest.approx(1)
    assert far["moments"] == pytest.approx(1)
    assert far["class_sums"] == pytest.approx(math.sqrt(0.5))  # half of the rows in each class
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(persons, "weights_of", lambda _, rows: np.ones(rows))
        by_row = moved(patch, [[1.0, 2, 3]] * 40, range(40), [[9.0, 9, 9]] * 50)
    assert min(by_row[name] for name in FIXED) > 20


def test_without_shortening_the_test_fails():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noisy_sums, "limited", lambda rows, radius: rows / radius)
        far = moved(patch, [[1.0, 2, 3]] * 40, range(40), [[900.0, 9, 9]])
    assert far["centre"] > 1.1


@pytest.mark.parametrize("value", [3e38, math.inf, math.nan])
def test_what_is_not_finite_or_huge_leaves_the_sums_finite(value):
    data = rows_of()
    data.embeddings[7] = value
    sums, _ = take(data, FIXED)
    assert all(part.isfinite().all() for part in sums)


def test_persons_of_one_row_are_rows():
    ours, theirs = (
        take(rows_of(persons=persons), FIXED)[0]
        for persons in (None, np.random.default_rng(0).permutation(300))
    )
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(one, two)


def test_each_sum_has_the_noise_that_is_stated(monkeypatch):
    seen = Seen(monkeypatch)
    noise = dict(zip(NAMES, (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0), strict=True))
    added = {name: [] for name in ("class_counts", "class_sums", "squares", "moments")}
    for seed in range(60):
        sums, _ = take(rows_of(dim=12), noise, seed=seed)
        noisy = {"class_counts": sums.counts[:, None], "class_sums": sums.class_sums,
                 "squares": sums.squares, "moments": sums.moments}  # fmt: skip
        for name, values in noisy.items():
            added[name].append(values - seen.totals[name].view(values.shape))
    off = ~np.eye(12, dtype=bool)
    moments = np.stack(added.pop("moments"))
    for name, values in added.items():
        spread = float(torch.stack(values).std())
        assert spread == pytest.approx(noise[name], rel=0.25), name
    assert moments[:, ~off].std() == pytest.approx(noise["moments"], rel=0.1)
    assert moments[:, off].std() == pytest.approx(noise["moments"] / math.sqrt(2), rel=0.05)
    np.testing.assert_allclose(moments, moments.transpose(0, 2, 1), atol=1e-9)
    # as one vector (the diagonal, √2 times what is above it): σ on each number
    upper = np.triu(np.ones((12, 12), bool), 1)
    vector = np.concatenate([moments[:, ~off], math.sqrt(2) * moments[:, upper]], 1)
    assert vector.std() == pytest.approx(noise["moments"], rel=0.05)


def test_the_median_norm_is_found_in_noise():
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(2.0, 0.2, 2000)
    data = EmbeddingSet(np.c_[lengths].astype(np.float32), np.zeros(2000, int))
    (block,) = Blocks(data, CPU)
    histogram = block.octaves(block.rows)
    assert histogram.sum() == 2000
    for seed in range(20):
        noise = 40 * torch.randn(
            contributions.BINS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        found = contributions.norm_quantile(histogram + noise, 40.0, 0.5)
        assert 0.8 * np.median(lengths) < found < 1.4 * np.median(lengths)
