"""PLAN as a method: its ids, its walks, what it says of them, its bytes."""

import logging

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import Database, read
from tests.anonymizers.latent.support import COUNTS, CPU, TRAIN, VAL, release
from tests.support import call


def test_ids_and_needed_settings():
    for name in ("latent-ksame", "latent-linear", "plan"):
        assert methods.parse(name.upper(), {"k": 5}).release_id(0) == f"{name}-5-s0"
        with pytest.raises(InputError, match="needs --k"):
            methods.parse(name, {})
    other = methods.parse("plan", {"k": 5, "privacy_weight": 2, "path_points": 7})
    assert other.release_id(3) == "plan-5-T7-priv2-s3"
    with pytest.raises(InputError, match="path_points 2"):
        methods.parse("plan", {"k": 5, "path_points": 2})


def test_a_walk_that_does_not_move_is_the_straight_line():
    straight = release("latent-linear", path_points=7)
    still = release("plan", path_lr=1e-9)
    np.testing.assert_array_equal(still.labels, straight.labels)
    np.testing.assert_allclose(still.embeddings, straight.embeddings, atol=1e-5)


def test_walks_are_more_private_than_lines_and_the_run_says_how_much(caplog):
    caplog.set_level(logging.INFO)
    facts = release("plan", privacy_weight=5).meta["facts"]
    assert facts["walked_losses"]["privacy"] < 0.9 * facts["straight_losses"]["privacy"]
    assert facts["identity_accuracy"] > 0.9
    assert "of rows identified under held-out jitter" in caplog.text
    assert "weak" not in caplog.text


def test_a_weak_identity_classifier_is_warned_of(caplog):
    facts = release("plan", identity_jitter=5.0, path_steps=1).meta["facts"]
    assert facts["identity_accuracy"] < 0.5
    assert "identity classifier is weak" in caplog.text


def test_same_seed_same_bytes_with_and_without_checkpoints(tmp_path):
    kept = Resources(torch.device("cpu"), tmp_path)
    plain, fitted, reused = (release("plan", resources=r) for r in (CPU, kept, kept))
    assert plain.fingerprint == fitted.fingerprint == reused.fingerprint
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {
        "cvae-latent_dim4-num_epochs30-s0", "identity-jitter0.25-s0", "task-s0",
    }  # fmt: skip
    assert release("plan", seed=1).fingerprint != plain.fingerprint


def test_the_command_writes_as_many_rows_of_each_class_as_there_are(tmp_path):
    database = Database(tmp_path / "database", "small", "pixels")
    for split, data in {"train": TRAIN, "val": VAL, "test": VAL}.items():
        database.write(split, data)
    flags = [
        "--dataset", "small", "--backbone", "pixels", "--database_root", database.root,
        "--ckpt_root", tmp_path / "ckpts", "--device", "cpu", "--seed", "0", "--quiet",
    ]  # fmt: skip
    quick = ["--anonymizer", "plan", "--k", "3", "--num_epochs", "3", "--path_steps", "5"]
    done = call("anonymize", *flags, *quick)
    assert done.status == 0, done.err
    released = read(database.path("train", "plan-3-num_epochs3-steps5-s0"))
    assert np.bincount(released.labels).tolist() == list(COUNTS)
    assert "walked_losses" in done.out
