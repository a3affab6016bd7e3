"""One Gaussian per class: its moments, its bytes, and what it refuses."""

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
MIX = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0.5]])


def rows(counts, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(size=(len(labels), 3)) @ MIX.T + 10 * labels[:, None]
    return EmbeddingSet(x.astype(np.float32), labels)


def release(data, seed=0):
    return methods.Gaussian().anonymize(data, data, seed=seed, resources=CPU)


def test_draws_have_the_counts_means_and_covariances_of_the_classes():
    released = release(rows([20_000, 10_000]))
    assert np.bincount(released.labels).tolist() == [20_000, 10_000]
    for label in (0, 1):
        drawn = released.embeddings[released.labels == label]
        np.testing.assert_allclose(drawn.mean(0), 10 * label, atol=0.1)
        np.testing.assert_allclose(np.cov(drawn.T), MIX @ MIX.T, atol=0.15)


def test_fewer_rows_than_dimensions_and_constant_features_are_no_trouble():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 30)).astype(np.float32)
    x[:, 3] = 7
    released = release(EmbeddingSet(x, np.repeat([0, 2], 6)))
    assert np.isfinite(released.embeddings).all()
    assert released.labels.tolist() == [0] * 6 + [2] * 6


def test_same_seed_same_bytes_and_another_seed_other_draws():
    data = rows([30, 20])
    assert release(data).fingerprint == release(data).fingerprint
    assert release(data).fingerprint != release(data, seed=1).fingerprint


def test_a_class_of_one_row_is_refused():
    with pytest.raises(InputError, match="class 1 has 1 training row"):
        release(rows([5, 1]))


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("noise", [0, 1e-7])
def test_a_class_of_equal_rows_is_refused(count, noise):
    """The field case: two equal rows; and rows that differ by rounding alone."""
    data = rows([9, count])
    rng = np.random.default_rng(0)
    equal = np.float32(3) * (1 + noise * rng.choice([-1, 1], (count, 3)))
    data.embeddings[data.labels == 1] = equal
    message = f"class 1 has {count} training rows that are equal, which gaussian would release; it"
    with pytest.raises(InputError, match=message):
        release(data)
    data.embeddings[data.labels == 1] += np.arange(count)[:, None] == 0  # one is another
    assert np.isfinite(release(data).embeddings).all()


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_unit_of_the_rows_does_not_matter(scale):
    data = rows([9, 2])
    scaled = EmbeddingSet((data.embeddings * scale).astype(np.float32), data.labels)
    found = release(scaled).embeddings / scale
    np.testing.assert_allclose(found, release(data).embeddings, rtol=1e-3, atol=1e-3)
