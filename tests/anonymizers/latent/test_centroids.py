"""k-Same on latents: what the centroids are means of."""

import numpy as np
import pytest
import torch

from src.anonymizers import cvae
from src.anonymizers.latent import centroids
from src.anonymizers.settings import FitSettings, part
from src.core.errors import InputError
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
