"""Small clusters, and short settings for the methods on latents."""

import numpy as np
import torch

from src.anonymizers import methods
from src.core.devices import Resources
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
SHORT = {"k": 3, "num_epochs": 30, "latent_dim": 4}
WALK = {**SHORT, "path_points": 7, "path_steps": 60}
COUNTS = (20, 17, 11)


def clusters(counts=COUNTS, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(size=(len(labels), 9)) + 3 * np.eye(9)[labels]
    x[:, 5] = 2  # a constant feature
    meta = {"class_names": ["a", "b", "c"], "backbone": "pixels"}  # 3 × 3
    return EmbeddingSet(x.astype(np.float32), labels, meta)


TRAIN, VAL = clusters(), clusters(seed=1)


def made(name, **values):
    """The method with short settings."""
    return methods.parse(name, {**(WALK if name == "plan" else SHORT), **values})


def release(name, *, seed=0, resources=CPU, **values):
    return made(name, **values).anonymize(TRAIN, VAL, seed=seed, resources=resources)
