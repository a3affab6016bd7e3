"""k-Same on latents: what the centroids are means of."""

import numpy as np
import pytest
import torch

from src.anonymizers import cvae
from src.anonymizers.base import ordered
from src.anonymizers.latent import centroids
from src.anonymizers.settings import FitSettings, part
from src.core import seeding
from src.core.devices import Resources
from src.core.errors import InputError
from src.networks import training
from tests.anonymizers.latent.support import CPU, TRAIN, VAL, made, release


def grouped(method):
    settings = part(method, FitSettings)
    return centroids.centroids(TRAIN, VAL, settings, method.k, seed=0, resources=CPU)


def test_centroids_are_means_of_k_latents_of_one_class():
    found = grouped(made("latent-ksame"))
    assert torch.bincount(found.labels).tolist() == [6, 5, 3]
    whole = grouped(made("latent-ksame", k=11))  # the 11 rows of class c are one group
    fitted = part(made("latent-ksame"), FitSettings)
    model = cvae.fit(TRAIN, VAL, fitted, seed=0, resources=CPU)
    rows, labels = TRAIN.tensors(CPU.device)
    latents, _ = model.posterior(model.scale(rows), torch.eye(3)[labels])
    torch.testing.assert_close(whole.latents[2], latents[labels == 2].mean(0))
    released = release("latent-ksame", k=11)
    decoded = whole.decoder.embed(whole.latents, whole.labels)
    np.testing.assert_array_equal(released.embeddings, decoded)
    assert released.labels.tolist() == [0, 1, 2]


def test_the_release_says_how_many_groups_there_are():
    assert release("latent-ksame").meta["facts"] == {"groups": 14}


def test_a_k_above_a_class_is_refused():
    with pytest.raises(InputError, match="--k 12 is larger than the 11 rows of class c"):
        release("latent-ksame", k=12)


# Observation noise.


@pytest.mark.parametrize("name", ["latent-ksame", "latent-linear", "plan"])
def test_without_observation_noise_rows_are_decoded_means(name):
    plain = release(name)
    zero = release(name, observation_noise=0.0)
    assert plain.fingerprint == zero.fingerprint
    assert plain.meta["facts"] == zero.meta["facts"]
    noisy = release(name, observation_noise=1.0)
    assert noisy.meta["facts"] == plain.meta["facts"]  # the same groups and paths
    np.testing.assert_array_equal(noisy.labels, plain.labels)
    assert noisy.fingerprint != plain.fingerprint
    assert (noisy.embeddings[:, 5] == 2).all()  # a constant feature has no noise


def test_noise_on_decoded_centroids_by_hand():
    found = grouped(made("latent-ksame"))
    means = found.decoder.embed(found.latents, found.labels).numpy()
    assert found.decoder.noise_scale.max() > 0.1
    generator = seeding.generator(0, "latent/observation")
    noise = torch.randn(means.shape, generator=generator).numpy()
    rows = means + 0.5 * found.decoder.noise_scale.numpy() * noise
    released = release("latent-ksame", observation_noise=0.5)
    expected, labels = ordered(rows, found.labels.numpy())
    np.testing.assert_allclose(released.embeddings, expected, atol=1e-5)
    np.testing.assert_array_equal(released.labels, labels)


@pytest.mark.parametrize("name", ["latent-ksame", "latent-linear", "plan"])
def test_same_seed_same_noise(name):
    one, same, other = (release(name, observation_noise=1.0, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_one_fit_serves_every_noise(tmp_path, monkeypatch):
    resources = Resources(CPU.device, tmp_path)
    names = ("latent-ksame", "latent-linear", "plan")
    for name in names:
        release(name, resources=resources)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("fitted again"))
    for name in names:
        rows = {
            release(name, resources=resources, observation_noise=noise).fingerprint
            for noise in (0.0, 0.5, 1.0)
        }
        assert len(rows) == 3
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
