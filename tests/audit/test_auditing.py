"""Who is attacked with what: the rows, and the attacks that have to be left out."""

import dataclasses

import numpy as np
import pytest

from src.anonymizers.methods import RELEASING
from src.audit.settings import AuditSettings
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.audit.support import audited, blobs, splits


def test_every_anonymizer_that_releases_rows_can_be_audited():
    pytest.importorskip("opacus")
    quick = {"k": 2, "epsilon": 8.0, "num_epochs": 2, "epochs": 2, "path_steps": 2}
    data = splits(blobs(60, 2), train=80)
    for name, method in RELEASING.items():
        fields = {field.name for field in dataclasses.fields(method)}
        settings = {key: value for key, value in quick.items() if key in fields}
        report = audited(data, name, options=AuditSettings(shadows=2, bootstrap=10), **settings)
        assert report.metrics["shadow_auc"].value.value is not None, name


def test_validation_rows_take_no_part():
    data = splits(blobs(120, 2))
    other = dataclasses.replace(data, val=blobs(60, 9, shift=5.0))
    assert audited(data).content() == audited(other).content()


def test_copies_of_training_rows_are_not_non_members():
    data = splits(blobs(120, 2))
    copied = EmbeddingSet(
        np.concatenate((data.test.embeddings, data.train.embeddings[:30])),
        np.concatenate((data.test.labels, data.train.labels[:30])),
    )
    report = audited(dataclasses.replace(data, test=copied))
    assert report.sizes["non_members"] == 120
    assert "30 test rows left out" in report.notes[0]
    assert report.metrics["nearest_auc"].value.value == 1
    with pytest.raises(InputError, match="has 0 rows that are not copies"):
        audited(dataclasses.replace(data, test=data.train))


@pytest.mark.parametrize(("rows", "references"), [(297, 0), (300, 100)])
def test_a_test_split_too_small_for_references_leaves_the_calibrated_attack_out(rows, references):
    report = audited(splits(blobs(rows, 2)), options=AuditSettings(shadows=0, bootstrap=10))
    assert report.sizes["references"] == references
    assert report.sizes["non_members"] == rows - references
    assert ("calibrated_auc" in report.metrics) == bool(references)
    assert any("calibrated attack left out" in note for note in report.notes) != bool(references)
    assert "shadow_auc" not in report.metrics


def test_a_refit_that_fails_leaves_the_shadow_attack_out_and_says_so():
    report = audited(splits(blobs(20, 2)), "ksame", k=200)  # half of the 320 rows are 160
    assert "shadow attack left out" in " ".join(report.notes)
    assert "--k 200 is larger than the 160 rows" in " ".join(report.notes)
    assert "shadow_auc" not in report.metrics
