"""Short private fits, and privacy by other means than opacus."""

import math

import dp_accounting
import numpy as np
import torch
from dp_accounting import pld
from scipy.stats import norm

from src.anonymizers import methods
from src.anonymizers.dp.accounting import Mechanism
from src.core.devices import Resources
from src.database import Database, EmbeddingSet, read
from tests.support import call

CPU = Resources(torch.device("cpu"))


def short(**values):
    """A DP-CVAE of two epochs."""
    return methods.parse("dpcvae", {"epsilon": 2.0, "epochs": 2, **values})


def anonymize(digits, *, seed=0, val=None, resources=CPU, **values):
    val = digits.val if val is None else val
    return short(**values).anonymize(digits.train, val, seed=seed, resources=resources)


def without_meta(data):
    return EmbeddingSet(data.embeddings, data.labels)


def mechanisms(facts):
    """What a release's facts say was run."""
    budget = facts["budget"]
    found = [Mechanism(budget["class_counts"]["noise_multiplier"])]
    if "noise_multiplier" in budget["scaling"]:
        found.append(Mechanism(budget["scaling"]["noise_multiplier"], steps=3))
    gradients = Mechanism(facts["noise_multiplier"], facts["sampling_rate"], facts["steps"])
    return [*found, gradients]


def google_epsilon(*mechanisms, delta=1e-5):
    """ε by Google's accountant, which composes privacy losses in both directions."""
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3
    )
    for multiplier, rate, steps in mechanisms:
        event = dp_accounting.GaussianDpEvent(multiplier)
        if rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(rate, event)
        accountant.compose(event, steps)
    return accountant.get_epsilon(delta)


def gaussian_delta(multiplier, epsilon):
    """Of one Gaussian mechanism, exactly (Balle and Wang, ICML 2018, theorem 8)."""
    shift = 1 / (2 * multiplier)
    return norm.cdf(shift - epsilon * multiplier) - math.exp(epsilon) * norm.cdf(
        -shift - epsilon * multiplier
    )


def database_of(root, rows, labels):
    """A database with these training rows and ten harmless ones in each of the other splits."""
    meta = {"dataset": "made", "backbone": "up"}
    rng = np.random.default_rng(0)
    other = EmbeddingSet(
        rng.standard_normal((10, rows.shape[1]), np.float32), np.arange(10) % 2, meta
    )
    train = EmbeddingSet(rows.astype(np.float32), labels, meta)
    database = Database(root, "made", "up")
    for split, data in (("train", train), ("val", other), ("test", other)):
        database.write(split, data)
    return database


def fit_at_the_command_line(root, rows, *flags):
    """What anonymize.py says of rows of two classes, and the release if there is one."""
    database = database_of(root, rows, np.arange(len(rows)) % 2)
    done = call(
        "anonymize", "--dataset", "made", "--backbone", "up", "--database_root", root,
        "--ckpt_root", root / "ckpts", "--device", "cpu", "--anonymizer", "dpcvae",
        "--epsilon", 1, "--delta", 1e-5, "--seed", 0, *flags,
    )  # fmt: skip
    paths = [*database.folder.glob("train_*.npz")]
    return done, read(paths[0]) if paths else None
