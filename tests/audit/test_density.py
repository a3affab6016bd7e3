"""How likely candidates are under the spread of a release."""

import numpy as np
import pytest

from src.audit import density
from src.database import EmbeddingSet, Splits
from tests.audit.support import audited, rows


def draws(n, dim, seed):
    return np.random.default_rng(seed).normal(size=(n, dim))


@pytest.mark.parametrize(("n", "dim"), [(50, 20), (15, 30), (30, 30)])
def test_the_score_is_the_mahalanobis_distance_under_the_shrunk_covariance(n, dim):
    from sklearn.covariance import OAS

    release, candidates = (draws(size, dim, seed).astype("f4") for size, seed in ((n, 0), (9, 1)))
    found = density.scores(rows(candidates), rows(release))
    fitted = OAS().fit(release.astype(float))
    assert found.mahalanobis == pytest.approx(-fitted.mahalanobis(candidates.astype(float)))


def test_the_distance_from_the_span_of_a_plane():
    plane = [[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    found = density.scores(rows([[5, 7, 1], [0, 0, 3], [0.5, 0.5, 0]]), rows(plane))
    assert found.span == pytest.approx([0, -4, -1], abs=1e-6)
    assert found.mahalanobis[2] > found.mahalanobis[1]


def test_one_row_several_equal_rows_and_a_missing_label():
    candidates = rows([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]], [0, 0, 1])
    for release in ([[0.0, 0.0]], [[0.0, 0.0]] * 3):
        found = density.scores(candidates, rows(release))
        assert list(found.mahalanobis) == list(found.span) == [0, -25, -np.inf]


def test_ranks_are_within_labels_and_ties_share_one():
    shares = density.within_labels(
        np.array([1, 2, 2, -np.inf, 9, 8]), np.array([0, 0, 0, 0, 1, 1])
    )
    assert shares == pytest.approx([2 / 4, 3.5 / 4, 3.5 / 4, 1 / 4, 2 / 2, 1 / 2])


def test_a_gaussian_fitted_to_fewer_rows_than_dimensions_leaks_by_its_density_alone():
    """What led a reader to the wrong release: the nearest neighbour shows next to nothing."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(150, 150)) / 12
    data = Splits(*(rows(draws(n, 150, seed) @ mix) for n, seed in ((100, 1), (20, 2), (100, 3))))
    fitted = data.train.embeddings.astype(float)
    drawn = rng.multivariate_normal(fitted.mean(0), np.cov(fitted.T, bias=True), 100)
    report = audited(data, "gaussian", released=rows(drawn))
    assert report.metrics["density_auc"].value.value > 0.9
    assert report.metrics["nearest_auc"].value.value < 0.75
    assert report.summary.leak is True
    fresh = audited(data, "gaussian", released=EmbeddingSet(*_other(mix)))
    assert fresh.summary.leak is not True


def _other(mix):
    return (draws(100, 150, 4) @ mix).astype("f4"), np.zeros(100, dtype=np.int64)
