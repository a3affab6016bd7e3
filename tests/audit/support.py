"""Data with a known answer, and an audit of it in one call."""

import numpy as np
import torch

from src.anonymizers import methods
from src.audit.auditing import audit
from src.audit.measures import MEASURES
from src.audit.settings import AuditSettings
from src.audit.statistics import Estimate
from src.core.devices import Resources
from src.database import EmbeddingSet, Splits

CPU = torch.device("cpu")
RESOURCES = Resources(CPU)
QUICK = AuditSettings(shadows=4, bootstrap=200)
PERSONAL = [  # metrics that there are only where a person has several rows
    key for key in MEASURES if key.endswith("_max_auc") or key.startswith("reidentification_")
]
ATTACKS = [
    key for key, measure in MEASURES.items() if measure.useless is not None and key not in PERSONAL
]
LEAK, NONE = Estimate(0.8, 0.7, 0.9), Estimate(0.52, 0.45, 0.58)
TOP, HALF = Estimate(1.0, 1.0, 1.0), Estimate(0.5, 0.45, 0.55)


def rows(values, labels=None):
    """Rows as they are given; numbers are rows of one dimension, without labels all have 0."""
    values = np.asarray(values, dtype=np.float32)
    values = values[:, None] if values.ndim == 1 else values
    labels = np.zeros(len(values)) if labels is None else labels
    return EmbeddingSet(values, np.asarray(labels, dtype=np.int64))


def real(n, seed, dim=12):
    """Rows of two overlapping classes, drawn at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return rows(rng.normal(size=(n, dim)) + labels[:, None], labels)


def blobs(n, seed, shift=0.0, classes=2, dim=8, spread=1.0):
    """Rows of overlapping classes of equal size."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    x = spread * rng.normal(size=(n, dim)) + 2 * labels[:, None] + shift
    return EmbeddingSet(x.astype(np.float32), labels)


def splits(test, train=300):
    """These test rows beside training and validation rows of blobs."""
    return Splits(blobs(train, 0), blobs(60, 1), test)


def audited(data, name="identity", released=None, options=QUICK, seed=0, **settings):
    """The report on a release, or on what the anonymizer makes of the training rows."""
    anonymizer = methods.parse(name, settings)
    if released is None:
        released = anonymizer.anonymize(data.train, data.val, seed=seed, resources=RESOURCES)
    return audit(data, released, anonymizer, options, seed=seed, resources=RESOURCES)
