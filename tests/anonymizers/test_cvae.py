"""The CVAE as a method: its fit, its checkpoints and its releases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from src.anonymizers import cvae, methods
from src.core import distances
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet
from src.networks import checkpoints
from src.probing import head
from src.probing.settings import HeadSettings

CPU = torch.device("cpu")
SHORT = methods.CVAE(num_epochs=3)


def release(data, anonymizer, seed, ckpt_folder=None):
    resources = Resources(CPU, ckpt_folder)
    return anonymizer.release(data.train, data.val, seed=seed, resources=resources)


def test_same_seed_same_bytes_another_seed_other_draws(digits):
    first, again, other = (release(digits, SHORT, seed) for seed in (0, 0, 1))
    assert first.embeddings.tobytes() == again.embeddings.tobytes()
    assert first.embeddings.tobytes() != other.embeddings.tobytes()
    assert np.array_equal(np.bincount(first.labels), np.bincount(digits.train.labels))


def test_the_number_of_threads_changes_nothing(digits):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = release(digits, SHORT, 0)
        torch.set_num_threads(2)
        two = release(digits, SHORT, 0)
    finally:
        torch.set_num_threads(threads)
    assert one.embeddings.tobytes() == two.embeddings.tobytes()


def test_a_stored_fit_gives_what_fitting_again_gives(digits, tmp_path, monkeypatch):
    fresh = release(digits, SHORT, 0)
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cvae, "_train", lambda *_: pytest.fail("fitted again"))
        reused = release(digits, SHORT, 0, ckpt_folder=tmp_path)
        scaled = release(digits, replace(SHORT, variance=0.5), 0, ckpt_folder=tmp_path)
    assert reused.embeddings.tobytes() == fresh.embeddings.tobytes()
    assert scaled.embeddings.tobytes() != fresh.embeddings.tobytes()


def test_a_stored_fit_is_not_reused_for_other_data_or_settings(digits, tmp_path):
    path = tmp_path / "cvae-num_epochs3-s0.safetensors"
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    first = path.read_bytes()
    shifted = replace(digits, val=EmbeddingSet(digits.val.embeddings / 2, digits.val.labels))
    release(shifted, SHORT, 0, ckpt_folder=tmp_path)
    assert path.read_bytes() != first
    release(digits, replace(SHORT, hidden_dim=8), 0, ckpt_folder=tmp_path)
    assert (tmp_path / "cvae-hidden_dim8-num_epochs3-s0.safetensors").exists()


def test_a_damaged_checkpoint_is_fitted_again(digits, tmp_path):
    path = tmp_path / "cvae-num_epochs3-s0.safetensors"
    fresh = release(digits, SHORT, 0, ckpt_folder=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert checkpoints.load(path, {}) is None
    again = release(digits, SHORT, 0, ckpt_folder=tmp_path)
    assert again.embeddings.tobytes() == fresh.embeddings.tobytes()


def test_a_fit_that_diverges_says_so(digits):
    with pytest.raises(InputError, match=r"CVAE diverged.*--learning_rate"):
        release(digits, methods.CVAE(learning_rate=1e30, num_epochs=5), 0)


def test_one_fit_serves_the_release_the_online_head_and_the_latent_walks(
    digits, tmp_path, monkeypatch
):
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    monkeypatch.setattr(cvae, "_train", lambda *_: pytest.fail("fitted again"))
    resources = Resources(CPU, tmp_path)
    online = methods.CVAEOnline(num_epochs=3, variance=0.5)
    decoder = online.decoder(digits.train, digits.val, seed=0, resources=resources)
    assert decoder.variance == 0.5
    assert online.fit_id(0) == SHORT.fit_id(0) == "cvae-num_epochs3-s0"
    assert online.reference(digits.train, decoder, seed=0) is digits.train
    walks = methods.LatentKSame(k=5, num_epochs=3)
    walks.release(digits.train, digits.val, seed=0, resources=resources)


@pytest.fixture(scope="module")
def fitted(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ckpts")
    resources = Resources(CPU, folder)
    return methods.CVAE().anonymize(digits.train, digits.val, seed=0, resources=resources)


def test_draws_of_a_class_are_recovered_by_a_head_trained_on_real_rows(digits, fitted):
    trained = head.fit(digits.train, digits, HeadSettings(), seed=0, device=CPU)
    assert head.evaluate(trained, fitted, seed=0).accuracy > 80  # chance is 10
    parts = (
        EmbeddingSet(fitted.embeddings[rows], fitted.labels[rows])
        for rows in (np.flatnonzero(fitted.labels == c) for c in range(10))
    )
    assert min(head.evaluate(trained, part, seed=0).accuracy for part in parts) > 50


def test_draws_are_not_copies_and_stay_in_range(digits, fitted):
    rows, originals = (
        torch.from_numpy(fitted.embeddings),
        torch.from_numpy(digits.train.embeddings),
    )
    assert distances.nearest(rows, originals).distances.min() > 0.1
    assert (rows >= originals.amin(0) - 1e-6).all()
    assert (rows <= originals.amax(0) + 1e-6).all()
