"""Releases that leak and hide it: how often the audit flags them, without shadows.

python -m benchmarks.deceivers
python -m benchmarks.deceivers --seeds 2 --only rotated
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from src import cli
from src.audit.settings import AuditSettings
from src.core.devices import Resources
from src.core.tables import markdown
from src.database import EmbeddingSet, Splits

if TYPE_CHECKING:
    from src.audit.summary import Summary

Rng = np.random.Generator
Change = Callable[[np.ndarray, Rng], np.ndarray]  # rows (n, D) float64 → as they are released
RESOURCES = Resources(torch.device("cpu"))
SEEDS = 5


class Parts(NamedTuple):
    """Disjoint rows of one distribution: half of all, and twice a quarter."""

    train: EmbeddingSet
    test: EmbeddingSet
    other: EmbeddingSet  # which no split holds


Release = Callable[[Parts, Rng], EmbeddingSet]


def parts(x: np.ndarray, y: np.ndarray, rng: Rng, persons: np.ndarray | None = None) -> Parts:
    """Rows, divided at random, by person where persons are given."""
    units = np.arange(len(x)) if persons is None else persons
    part = rng.permutation(np.arange(units.max() + 1) % 4)[units]
    x, y = x.astype(np.float32), y.astype(np.int64)
    return Parts(
        *(
            EmbeddingSet(x[own], y[own], persons=None if persons is None else persons[own])
            for own in (part < 2, part == 2, part == 3)
        )
    )


def digits(rng: Rng) -> Parts:
    """The 1,797 digits as 8 x 8 pixels of 17 grey levels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return parts(x / 16, y, rng)


def features(rng: Rng) -> Parts:
    """A random layer of the digits: 40 features without values that repeat."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.tanh(x / 16 @ rng.normal(size=(64, 40)) / 8)
    return parts(x + 0.02 * rng.normal(size=x.shape), y, rng)


def people(rng: Rng) -> Parts:
    """240 persons of four rows each, in two classes."""
    whose = np.repeat(np.arange(240), 4)
    y = whose % 2
    x = rng.normal(size=(240, 12))[whose] + 0.3 * rng.normal(size=(len(whose), 12))
    return parts(x + y[:, None], y, rng, whose)


def model(rows: EmbeddingSet, rng: Rng) -> EmbeddingSet:
    """Draws from a Gaussian per class with a shrunk covariance, fitted to these rows."""
    from sklearn.covariance import oas

    x = np.empty(rows.embeddings.shape)
    for label in np.unique(rows.labels):
        own = rows.labels == label
        covariance = oas(rows.embeddings[own].astype(np.float64))[0]
        x[own] = rng.multivariate_normal(rows.embeddings[own].mean(0), covariance, own.sum())
    return EmbeddingSet(x.astype(np.float32), rows.labels)


def changed(change: Change) -> Release:
    """All training rows, changed."""

    def release(parts: Parts, rng: Rng) -> EmbeddingSet:
        order = rng.permutation(len(parts.train))
        x = change(parts.train.embeddings[order].astype(np.float64), rng)
        return EmbeddingSet(x.astype(np.float32), parts.train.labels[order])

    return release


def by_class(change: Change) -> Release:
    """All training rows, changed differently in each class."""

    def release(parts: Parts, rng: Rng) -> EmbeddingSet:
        x = parts.train.embeddings.astype(np.float64)
        for label in np.unique(parts.train.labels):
            own = parts.train.labels == label
            x[own] = change(x[own], rng)
        order = rng.permutation(len(x))
        return EmbeddingSet(x[order].astype(np.float32), parts.train.labels[order])

    return release


def among(
    choose: Callable[[EmbeddingSet, Rng], np.ndarray], change: Change | None = None
) -> Release:
    """Some training rows, perhaps changed, at random places among harmless draws."""

    def release(parts: Parts, rng: Rng) -> EmbeddingSet:
        rows, draws = choose(parts.train, rng), model(parts.other, rng)
        x = parts.train.embeddings.astype(np.float64)
        x = (change(x, rng) if change else x)[rows].astype(np.float32)
        order = rng.permutation(len(rows) + len(draws))
        return EmbeddingSet(
            np.concatenate((x, draws.embeddings))[order],
            np.concatenate((parts.train.labels[rows], draws.labels))[order],
        )

    return release


def few(train: EmbeddingSet, rng: Rng) -> np.ndarray:
    """1 % of the rows."""
    return rng.choice(len(train), max(1, len(train) // 100), replace=False)


def one_class(train: EmbeddingSet, rng: Rng) -> np.ndarray:
    """The rows of one class."""
    return np.flatnonzero(train.labels == train.labels[0])


def outliers(train: EmbeddingSet, rng: Rng) -> np.ndarray:
    """The 1 % of the rows that are farthest from the mean of their class."""
    classes = np.unique(train.labels)
    means = np.stack([train.embeddings[train.labels == label].mean(0) for label in classes])
    far = np.linalg.norm(train.embeddings - means[np.searchsorted(classes, train.labels)], axis=1)
    return np.argsort(-far)[: max(1, len(train) // 100)]


def one_person(train: EmbeddingSet, rng: Rng) -> np.ndarray:
    """All rows of one person."""
    assert train.persons is not None
    return np.flatnonzero(train.persons == train.persons[0])


def jitter(share: float) -> Change:
    """Each row moved in a random direction by a share of the distance between neighbours."""

    def change(x: np.ndarray, rng: Rng) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        apart = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x)[0][:, 1]
        noise = rng.normal(size=x.shape)
        return x + share * np.median(apart) * noise / np.linalg.norm(noise, axis=1, keepdims=True)

    return change


def memorising(parts: Parts, rng: Rng) -> EmbeddingSet:
    """Draws from tight Gaussians around training rows."""
    rows = rng.integers(len(parts.train), size=len(parts.train))
    x = jitter(0.3)(parts.train.embeddings.astype(np.float64), rng)[rows]
    return EmbeddingSet(x.astype(np.float32), parts.train.labels[rows])


def cancelling(scale: float, *, shuffled: bool = True) -> Release:
    """Pairs x + e and x - e with noise of that many of the features' deviations."""

    def release(parts: Parts, rng: Rng) -> EmbeddingSet:
        x = parts.train.embeddings.astype(np.float64)
        noise = scale * x.std(0).mean() * rng.normal(size=x.shape)
        both = np.stack((x + noise, x - noise), 1).reshape(-1, x.shape[1])
        order = rng.permutation(len(both)) if shuffled else np.arange(len(both))
        labels = np.repeat(parts.train.labels, 2)
        return EmbeddingSet(both[order].astype(np.float32), labels[order])

    return release


def mixed(weight: float) -> Release:
    """Each row mixed with another one of its class."""
    return by_class(lambda x, rng: weight * x + (1 - weight) * x[rng.permutation(len(x))])


def halves(x: np.ndarray, rng: Rng) -> np.ndarray:
    """The first half of the dimensions of one row and the second half of another."""
    half = x.shape[1] // 2
    return np.concatenate((x[:, :half], x[rng.permutation(len(x)), half:]), axis=1)


def replaced(x: np.ndarray, rng: Rng) -> np.ndarray:
    """A random half of the dimensions replaced by noise of their mean and deviation."""
    noise = rng.normal(size=x.shape) * x.std(0) + x.mean(0)
    return np.where(rng.permutation(x.shape[1]) % 2 == 0, x, noise)


def rotated(x: np.ndarray, rng: Rng) -> np.ndarray:
    """A random rotation."""
    return np.asarray(x @ np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0])


def permuted(x: np.ndarray, rng: Rng) -> np.ndarray:
    """The dimensions in another order."""
    return x[:, rng.permutation(x.shape[1])]


def quantised(x: np.ndarray, rng: Rng) -> np.ndarray:
    """Four levels per feature."""
    low, high = x.min(0), x.max(0)
    return np.asarray(np.round((x - low) / np.maximum(high - low, 1e-9) * 3) / 3)


DECEIVERS: dict[str, Release] = {
    "copies of 1 % of the rows among draws": among(few),
    "copies of one class among draws": among(one_class),
    "copies of outliers among draws": among(outliers),
    "2x + 1": changed(lambda x, rng: 2 * x + 1),
    "1 - x": changed(lambda x, rng: 1 - x),
    "dimensions permuted": changed(permuted),
    "dimensions scaled": changed(lambda x, rng: x * np.exp(rng.normal(size=x.shape[1]))),
    "signs of dimensions flipped": changed(lambda x, rng: x * rng.choice([-1, 1], x.shape[1])),
    "rotated": changed(rotated),
    "a random linear map": changed(lambda x, rng: x @ rng.normal(size=(x.shape[1],) * 2)),
    "rounded to one decimal": changed(lambda x, rng: np.round(x, 1)),
    "quantised to four levels": changed(quantised),
    "jittered by 1 %": changed(jitter(0.01)),
    "1 % of the rows, jittered by 1 %": among(few, jitter(0.01)),
    "1 % of the rows, 2x + 1": among(few, lambda x, rng: 2 * x + 1),
    "1 % of the rows, 1 - x": among(few, lambda x, rng: 1 - x),
    "1 % of the rows, dimensions permuted": among(few, permuted),
    "1 % of the rows, rotated": among(few, rotated),
    "a memorising generator": memorising,
    "the test split": lambda parts, rng: parts.test,
    "noise that cancels in pairs, 0.3": cancelling(0.3),
    "noise that cancels in pairs, 1": cancelling(1.0),
    "noise that cancels in pairs, 3": cancelling(3.0),
    "noise that cancels in pairs, in order": cancelling(3.0, shuffled=False),
    "averaged in pairs": mixed(0.5),
    "mixed 0.95 to 0.05": mixed(0.95),
    "halves of two rows": changed(halves),
    "half of the dimensions noise": changed(replaced),
    "dimensions permuted by class": by_class(permuted),
    "scaled by class": by_class(lambda x, rng: x * rng.uniform(0.2, 5)),
    "rotated by class": by_class(rotated),
    "each row scaled": changed(lambda x, rng: x * rng.uniform(0.2, 5, (len(x), 1))),
    "each row's sign": changed(lambda x, rng: x * rng.choice([-1, 1], (len(x), 1))),
    "columns shuffled by class": by_class(lambda x, rng: rng.permuted(x, axis=0)),
    "ranks": changed(lambda x, rng: x.argsort(0).argsort(0).astype(np.float64)),
    "sigmoid": changed(lambda x, rng: 1 / (1 + np.exp(-3 * (x - x.mean(0)) / x.std()))),
    "labels shuffled": lambda parts, rng: EmbeddingSet(
        parts.train.embeddings, rng.permutation(parts.train.labels)
    ),
    "each row five times": lambda parts, rng: EmbeddingSet(
        np.repeat(parts.train.embeddings, 5, axis=0), np.repeat(parts.train.labels, 5)
    ),
}
OF_PERSONS: dict[str, Release] = {
    "all rows of one person among draws": among(one_person),
    "a row of each person": lambda parts, rng: EmbeddingSet(
        parts.train.embeddings[::4], parts.train.labels[::4]
    ),
}
DATA = {"digits": digits, "features": features}


def summary(parts: Parts, released: EmbeddingSet, seed: int) -> Summary:
    """What the audit says of a release, of which nobody knows how it was made."""
    from src.audit.auditing import audit

    splits = Splits(parts.train, parts.other, parts.test)
    options = AuditSettings(shadows=0, bootstrap=100)
    return audit(splits, released, None, options, seed=seed, resources=RESOURCES).summary


def flagged(draw: Callable[[Rng], Parts], release: Release, seeds: int) -> list[str]:
    """How often a deceiver is flagged, and by which metric at first."""
    said = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        drawn = draw(rng)
        said.append(summary(drawn, release(drawn, rng), seed))
    return [f"{sum(one.leak is True for one in said)} of {seeds}", said[0].strongest]


def main(argv: Sequence[str] | None = None) -> None:
    """Audit every deceiver on both data sets and print how often it is flagged."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--seeds", type=cli.number(int, minimum=1), default=SEEDS)
    parser.add_argument("--only", default="", help="part of the deceivers' names")
    args = parser.parse(argv)
    rows = []
    for name, release in (DECEIVERS | OF_PERSONS).items():
        draws = (people,) if name in OF_PERSONS else DATA.values()
        if args.only in name:
            found = [flagged(draw, release, args.seeds) for draw in draws]
            cells = [cell for pair in found for cell in pair]
            rows.append([name, *cells, *[""] * (2 * len(DATA) - len(cells))])
    header = ["deceiver", *(c for data in DATA for c in (data, f"first metric, {data}"))]
    print(markdown(header, rows))


if __name__ == "__main__":
    cli.run(main)
