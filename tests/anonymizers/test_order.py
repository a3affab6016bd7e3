"""The order of a release says nothing of the originals' order."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from src.anonymizers import base, methods
from src.anonymizers.base import ordered
from src.core.devices import Resources
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
QUICK = {"cvae": {"num_epochs": 2}, "ksame": {"k": 2}, "gaussian": {}}


def people(rng, rows=60):
    """Rows whose labels are in no order, as in a list of files."""
    labels = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 5)) + 4 * labels[:, None]
    return EmbeddingSet(x.astype(np.float32), labels)


@pytest.fixture(autouse=True, params=[1 << 22, 4])
def _chunk(request, monkeypatch):
    """Parts of all rows, and of one row each."""
    monkeypatch.setattr(base, "CHUNK", request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays.arrays(np.float32, (6, 3), elements=st.floats(-2, 2, width=32)),
    arrays.arrays(np.int64, 6, elements=st.integers(0, 2)),
)
def test_rows_are_sorted_by_label_then_by_value(rows, labels):
    released, classes = ordered(rows, labels)
    expected = sorted(zip(labels.tolist(), (rows + 0.0).tolist(), strict=True))
    assert list(zip(classes.tolist(), (released + 0.0).tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", QUICK)
def test_a_release_is_in_that_order_whatever_the_originals(name):
    train = people(np.random.default_rng(0))
    method = methods.parse(name, QUICK[name])
    released = method.anonymize(train, people(np.random.default_rng(1)), seed=0, resources=CPU)
    assert (np.diff(released.labels) >= 0).all()
    again = ordered(released.embeddings, released.labels)
    np.testing.assert_array_equal(released.embeddings, again[0])


def test_without_sorting_a_place_tells_the_label(monkeypatch):
    """The broken version: k-Same in the originals' places gives every row's label away."""
    train = people(np.random.default_rng(0))
    method = methods.KSame(k=2)
    kept = method.anonymize(train, train, seed=0, resources=CPU)
    monkeypatch.setattr(base, "sort", lambda rows, labels: None)
    leaking = method.anonymize(train, train, seed=0, resources=CPU)
    assert (leaking.labels == train.labels).all()
    assert (kept.labels == train.labels).mean() < 0.6


def test_identity_keeps_its_places():
    train = people(np.random.default_rng(0))
    released = methods.Identity().anonymize(train, train, seed=0, resources=CPU)
    np.testing.assert_array_equal(released.embeddings, train.embeddings)


def test_dropped_rows_are_counted_by_class():
    labels = np.array([0, 0, 1, 1, 0, 2, 1])
    train = EmbeddingSet(
        np.arange(14, dtype=np.float32).reshape(7, 2), labels, {"class_names": ["a", "b", "c"]}
    )
    facts = methods.KSame(k=4).anonymize(train, train, seed=0, resources=CPU).meta["facts"]
    assert facts == {
        "groups": 1,
        "dropped_rows": 3,
        "dropped_by_class": {"a": 1, "b": 1, "c": 1},
    }
