"""The classifiers that guide walks."""

import numpy as np
import pytest

from src.anonymizers.latent import classifiers
from src.core import distances
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.anonymizers.latent.support import CPU, TRAIN, VAL


def test_identity_accuracy_counts_rows_that_are_told_apart():
    twins = EmbeddingSet(np.repeat(TRAIN.embeddings[:20], 2, axis=0), np.zeros(40, np.int64))
    model = classifiers.fit_identity(twins, jitter=0.05, seed=0, resources=CPU)
    accuracy = classifiers.identity_accuracy(model, twins, jitter=0.05, seed=0)
    assert 0.3 < accuracy < 0.75  # which of two equal rows it is cannot be known


def test_the_task_classifier_knows_the_labels():
    model = classifiers.fit_task(TRAIN, VAL, seed=0, resources=CPU)
    assert classifiers.task_accuracy(model, VAL) > 0.9
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["identity", "task"])
def test_one_that_diverges_names_what_helps_and_no_flag_that_it_ignores(monkeypatch, name):
    fast = classifiers.SCHEDULE._replace(learning_rate=1e38)
    monkeypatch.setattr(classifiers, "SCHEDULE", fast)
    with pytest.raises(InputError) as error:
        if name == "identity":
            classifiers.fit_identity(TRAIN, jitter=0.25, seed=0, resources=CPU)
        else:
            classifiers.fit_task(TRAIN, VAL, seed=0, resources=CPU)
    text = str(error.value)
    assert f"{name}" in text.partition(" classifier diverged: ")[0]
    assert "--learning_rate" not in text
    assert "learning rate is fixed; look for training rows far larger than the others" in text


def test_a_feature_that_varies_by_rounding_alone_tells_nobody_apart(monkeypatch):
    """Twins that differ in the last bits of one feature are the same to the classifier."""
    ulp = np.spacing(np.float32(0.1))
    rows = np.repeat(TRAIN.embeddings[:20], 2, axis=0)
    rows[:, 5] = np.float32(0.1) + 5 * ulp * (np.arange(40) % 2)
    twins = EmbeddingSet(rows, np.zeros(40, np.int64))

    def fitted():
        model = classifiers.fit_identity(twins, jitter=0.05, seed=0, resources=CPU)
        accuracy = classifiers.identity_accuracy(model, twins, jitter=0.05, seed=0)
        return model.std[5].item(), accuracy

    deviation, accuracy = fitted()
    assert deviation == 0
    assert 0.3 < accuracy < 0.75
    monkeypatch.setattr(distances, "ROUNDING", 0)
    deviation, accuracy = fitted()
    assert deviation > 0
    assert accuracy > 0.9  # as it was: rounding is blown up to deviations
