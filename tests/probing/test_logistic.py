"""Logistic regression against scikit-learn's own, and what it promises beyond that."""

import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_info, threadpool_limits

from src.core.errors import InputError
from src.probing import logistic
from src.probing.logistic import STRENGTHS, Labelled

GRID = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10)


def rows(n, classes, *, dim=6, apart=1.0, seed=0):
    """Unit Gaussians around one centre per class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    centres = apart * np.random.default_rng(99).normal(size=(classes, dim))
    x = rng.normal(size=(n, dim)) + centres[labels]
    return Labelled(x.astype(np.float32), labels)


def theirs(train, strength):
    """scikit-learn's regression, fitted from zero for this C alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=1000).fit(
            train.x.astype(np.float64), train.labels
        )


def probabilities(found, x):
    logits = torch.from_numpy(x.astype(np.float64) @ found.weight.T.astype(np.float64))
    return (logits + torch.from_numpy(found.bias)).softmax(1).numpy()


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("apart", [0.2, 1.0, 3.0])
def test_probabilities_are_scikit_learns_at_the_chosen_strength(classes, apart):
    train, val = rows(300, classes, apart=apart), rows(90, classes, apart=apart, seed=1)
    found = logistic.fit(train, val, classes)
    expected = theirs(train, found.strength).predict_proba(val.x)
    np.testing.assert_allclose(probabilities(found, val.x), expected, atol=1e-5)
    assert found.loss == pytest.approx(log_loss(val.labels, expected, labels=range(classes)), 1e-4)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("apart", [0.0, 0.3, 2.0, 9.0])
def test_the_strength_is_the_one_with_the_least_validation_loss(classes, apart):
    train, val = rows(120, classes, apart=apart), rows(60, classes, apart=apart, seed=1)
    losses = [
        log_loss(val.labels, theirs(train, c).predict_proba(val.x), labels=range(classes))
        for c in GRID
    ]
    found = logistic.fit(train, val, classes)
    assert STRENGTHS == GRID
    assert found.strength == GRID[int(np.argmin(losses))]
    assert found.loss == pytest.approx(min(losses), 1e-4, 1e-6)


def test_both_ends_of_the_grid_are_chosen_where_they_are_best():
    noise, other = rows(60, 2, apart=0), rows(60, 2, apart=0, seed=1)
    other.labels[:] = 1 - theirs(noise, 10).predict(other.x)  # whatever is learnt is wrong
    assert logistic.fit(noise, other, 2).strength == 1e-5
    assert logistic.fit(rows(60, 2, apart=9), rows(60, 2, apart=9, seed=1), 2).strength == 10


def test_equal_losses_go_to_the_smaller_strength(monkeypatch):
    train = rows(40, 3)
    monkeypatch.setattr(logistic, "cross_entropy", lambda *_: 0.5)
    assert logistic.fit(train, train, 3).strength == 1e-5
    losses = iter([0.9, 0.4, 0.7, 0.4, 0.8, 0.4, 0.6])
    monkeypatch.setattr(logistic, "cross_entropy", lambda *_: next(losses))
    assert logistic.fit(train, train, 3).strength == 1e-4


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), apart=st.floats(0, 3))
def test_the_gradient_of_the_stated_objective_is_at_most_1e_4(seed, classes, apart):
    """Mean cross-entropy + ‖W‖² / (2·C·n), the intercept free; W of two classes is one row."""
    train = rows(80, classes, apart=apart, seed=seed)
    found = logistic.fit(train, rows(40, classes, apart=apart, seed=seed + 1), classes)
    weight = torch.from_numpy(found.weight).double().requires_grad_()
    bias = torch.from_numpy(found.bias).double().requires_grad_()
    logits = torch.from_numpy(train.x).double() @ weight.T + bias
    mean = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.labels))
    (mean + weight.square().sum() / (2 * found.strength * len(train.labels))).backward()
    free = slice(1, None) if classes == 2 else slice(None)
    assert weight.grad[free].abs().max() < 1.1e-4
    assert bias.grad.abs().max() < 1.1e-4


def test_a_class_without_rows_is_never_predicted():
    train, val = rows(200, 3), rows(60, 3, seed=1)
    train.labels[train.labels == 1] = 4  # of six classes 0, 2 and 4 occur
    val.labels[val.labels == 1] = 4
    found = logistic.fit(train, val, 6)
    assert found.weight.shape == (6, 6)
    assert found.bias.shape == (6,)
    given = probabilities(found, 1e3 * val.x)  # as test rows under noise
    assert given[:, [1, 3, 5]].max() < 1e-12
    assert set(given.argmax(1)) <= {0, 2, 4}
    expected = theirs(train, found.strength).predict_proba(val.x)
    np.testing.assert_allclose(probabilities(found, val.x)[:, [0, 2, 4]], expected, atol=1e-5)


def test_of_two_present_classes_the_absent_ones_change_nothing():
    train, val = rows(100, 2), rows(50, 2, seed=1)
    two = logistic.fit(train, val, 2)
    moved = [part._replace(labels=3 * part.labels) for part in (train, val)]
    four = logistic.fit(*moved, 4)
    np.testing.assert_array_equal(four.weight[[0, 3]], two.weight)
    assert four.strength == two.strength
    assert four.loss == pytest.approx(two.loss)


def test_a_validation_row_of_a_class_without_rows_leaves_the_loss_finite():
    train, val = rows(100, 2), rows(50, 3, seed=1)
    found = logistic.fit(train, val, 3)
    assert 1 < found.loss < 100
    assert found.strength in GRID


def test_rows_of_one_class_are_one_line():
    train = Labelled(rows(9, 2).x, np.ones(9, np.int64))
    with pytest.raises(InputError, match="needs rows of two classes") as error:
        logistic.fit(train, rows(9, 2), 2)
    assert "\n" not in str(error.value)


def test_validation_rows_that_overflow_are_one_line(recwarn):
    val = rows(9, 2)
    val.x[3, 1] = np.inf
    with pytest.raises(InputError, match="validation rows are too far.*--clip 10"):
        logistic.fit(rows(9, 2), val, 2)
    val.x[3, 1] = 3e38  # the largest that does not
    assert np.isfinite(logistic.fit(rows(9, 2), val, 2).loss)
    assert not recwarn.list


def test_no_random_number_is_drawn_and_no_warning_shown(monkeypatch, recwarn):
    train, val = rows(100, 3), rows(50, 3, seed=1)
    monkeypatch.setattr(logistic, "MOST_STEPS", 2)  # which scikit-learn warns of
    found = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = np.random.get_state()[1].tobytes(), torch.get_rng_state()
        found.append(logistic.fit(train, val, 3))
        assert np.random.get_state()[1].tobytes() == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])
    assert found[0].weight.tobytes() == found[1].weight.tobytes()
    assert found[0].bias.tobytes() == found[1].bias.tobytes()
    assert found[0].steps <= 2 * len(GRID)
    assert not recwarn.list


def test_the_number_of_threads_changes_nothing(monkeypatch):
    train, val = rows(500, 4, dim=200), rows(100, 4, dim=200, seed=1)
    used, original = [], LogisticRegression.fit

    def fit(self, *args):
        used.extend(pool["num_threads"] for pool in threadpool_info())
        return original(self, *args)

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(logistic.fit(train, val, 4))
            assert {pool["num_threads"] for pool in threadpool_info()} == {threads}  # given back
    assert found[0].weight.tobytes() == found[1].weight.tobytes()
    assert found[0].bias.tobytes() == found[1].bias.tobytes()
    assert found[0][2:] == found[1][2:]
    assert set(used) == {1}


@pytest.mark.parametrize("classes", [2, 10])
def test_time_of_4000_rows_of_1280_features(classes):
    """Printed, not asserted: at most 5 s for two classes and 20 s for ten are wanted."""
    train = rows(4000, classes, dim=1280, apart=0.1)
    val = rows(400, classes, dim=1280, apart=0.1, seed=1)
    started, busy = time.perf_counter(), time.process_time()
    found = logistic.fit(train, val, classes)
    taken, busy = time.perf_counter() - started, time.process_time() - busy
    print(f"\n{classes} classes: {taken:.1f} s, {busy:.1f} s of them busy, {found.steps} steps")
    assert found.strength < 10
