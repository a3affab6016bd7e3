"""Coverage, density and Fréchet distance, by hand."""

import numpy as np
import pytest

from src.audit import fidelity
from tests.audit.support import CPU, real, rows


def test_coverage_and_density_by_hand(monkeypatch):
    monkeypatch.setattr(fidelity, "NEIGHBOURS", 2)
    truth = rows([0, 1, 3, 100, 101, 103, 7], [0, 0, 0, 1, 1, 1, 2])  # radii 3 2 3, 3 2 3, none
    release = rows([2.5, 3.5, 1], [0, 0, 1])
    found = fidelity.manifold(release, truth, CPU)
    assert found.coverage.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.density.tolist() == [1.5, 0.5, 0]


def test_releasing_the_real_rows_has_coverage_and_density_1():
    data = real(80, 0)
    found = fidelity.manifold(data, data, CPU)
    assert found.coverage.mean() == found.density.mean() == 1


def test_frechet_distance_by_hand():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(50, 3))
    base = np.linalg.qr(base - base.mean(0))[0] * np.sqrt(50)  # mean 0, covariance I
    moved = base * [1, 2, 3] + [3, 0, 4]
    # |shift|² = 25, and (1 - 1)² + (2 - 1)² + (3 - 1)² of the deviations
    assert fidelity.frechet_distance(base, moved) == pytest.approx(30)
    assert fidelity.frechet_distance(base, base) == pytest.approx(0, abs=1e-9)
