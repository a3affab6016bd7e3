"""Harmless releases: how often the audit calls a leak all the same. Allowed are 5 %.

python -m benchmarks.false_alarms
python -m benchmarks.false_alarms --audits 10 --shadows 16 --only normal
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import deceivers
from benchmarks.deceivers import RESOURCES, Parts, Release, Rng, digits, features, model, parts
from src import cli
from src.anonymizers import methods
from src.audit.settings import AuditSettings
from src.core import progress
from src.core.tables import markdown
from src.database import EmbeddingSet, Splits

AUDITS = 25  # per kind
K = 10  # of k-Same, by which shadow releases are made


class Kind(NamedTuple):
    """Rows, and a release that has seen none of the training rows."""

    draw: Callable[[Rng], Parts]
    release: Release


def drawn(
    rows: Callable[[np.ndarray, Rng], np.ndarray], n: int = 900, classes: int = 3
) -> Callable[[Rng], Parts]:
    """Independent rows of classes of equal chance.

    Args:
        rows: labels (n,) → rows (n, D).
    """

    def draw(rng: Rng) -> Parts:
        y = rng.integers(classes, size=n)
        return parts(rows(y, rng), y, rng)

    return draw


def normal(dim: int) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Normal rows around the number of their class."""
    return lambda y, rng: rng.normal(size=(len(y), dim)) + y[:, None]


def unequal(rng: Rng) -> Parts:
    """Classes of 540 down to about 18 rows."""
    y = rng.choice(6, size=900, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02])
    return parts(rng.normal(size=(900, 15)) + y[:, None], y, rng)


def scenes(y: np.ndarray, rng: Rng) -> np.ndarray:
    """Scenes of three rows that hardly differ, of which nobody knows."""
    several = np.arange(len(y)) % (len(y) // 3)
    return rng.normal(size=(len(y) // 3, 12))[several] + 0.02 * rng.normal(size=(len(y), 12))


def sparse(y: np.ndarray, rng: Rng) -> np.ndarray:
    """Features that are 0 in most rows."""
    return np.maximum(rng.normal(size=(len(y), 60)) - 1.5 + 0.3 * y[:, None], 0)


def disjoint(parts: Parts, rng: Rng) -> EmbeddingSet:
    """Other real rows as they are."""
    return EmbeddingSet(parts.other.embeddings, parts.other.labels)


def of_disjoint(release: Release) -> Release:
    """What a method or a deceiver makes of other real rows."""
    return lambda parts, rng: release(Parts(parts.other, parts.test, parts.train), rng)


def ksame(parts: Parts, rng: Rng) -> EmbeddingSet:
    """k-Same of the training rows."""
    anonymizer = methods.parse("ksame", {"k": K})
    return anonymizer.anonymize(parts.train, parts.test, seed=0, resources=RESOURCES)


def means(parts: Parts, rng: Rng) -> EmbeddingSet:
    """The mean of each class of other real rows."""
    labels = np.unique(parts.other.labels)
    rows = [parts.other.embeddings[parts.other.labels == label].mean(0) for label in labels]
    return EmbeddingSet(np.stack(rows), labels)


HARMLESS = {
    "digits": Kind(digits, disjoint),
    "features of digits": Kind(features, disjoint),
    "normal rows": Kind(drawn(normal(20)), disjoint),
    "heavy tails": Kind(drawn(lambda y, rng: rng.standard_t(1.5, size=(len(y), 10))), disjoint),
    "few rows": Kind(drawn(normal(6), 120, 2), disjoint),
    "fewer rows than dimensions": Kind(drawn(normal(300), 600, 2), disjoint),
    "unequal classes": Kind(unequal, disjoint),
    "forty classes": Kind(drawn(normal(10), 900, 40), disjoint),
    "persons of four rows": Kind(deceivers.people, disjoint),
    "one dimension": Kind(drawn(normal(1)), disjoint),
    "sparse features": Kind(drawn(sparse), disjoint),
    "scenes of three rows": Kind(drawn(scenes), disjoint),
    "Gaussians of disjoint digits": Kind(digits, lambda parts, rng: model(parts.other, rng)),
    "k-Same of disjoint rows": Kind(drawn(normal(20)), of_disjoint(ksame)),
    "means of classes": Kind(digits, means),
    "rotated disjoint rows": Kind(
        drawn(normal(20)), of_disjoint(deceivers.changed(deceivers.rotated))
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Audit harmless releases and print how often a leak is called, and how often nothing."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--audits", type=cli.number(int, minimum=1), default=AUDITS)
    parser.add_argument("--shadows", type=cli.number(int, minimum=0), default=0)
    parser.add_argument("--only", default="", help="part of the names")
    args = parser.parse(argv)
    rows, total = [], np.zeros(2, dtype=int)
    kinds = {name: kind for name, kind in HARMLESS.items() if args.only in name}
    for name, kind in kinds.items():
        seeds = progress.bar(range(args.audits), desc=name, unit="audit")
        found = [leak(kind, seed, args.shadows) for seed in seeds]
        counts = np.array([found.count(True), found.count(None)])
        total += counts
        rows.append([name, *(f"{count} of {args.audits}" for count in counts)])
    rows.append(["all", *(f"{count / args.audits / len(kinds):.1%}" for count in total)])
    print(markdown(["harmless rows", "called a leak", "cannot tell"], rows))


def leak(kind: Kind, seed: int, shadows: int) -> bool | None:
    """What the audit says of one harmless release."""
    from src.audit.auditing import audit

    rng = np.random.default_rng(1000 + seed)
    rows = kind.draw(rng)
    return audit(
        Splits(rows.train, rows.other, rows.test),
        kind.release(rows, rng),
        methods.parse("ksame", {"k": K}) if shadows else None,
        AuditSettings(shadows=shadows, bootstrap=100),
        seed=seed,
        resources=RESOURCES,
    ).summary.leak


if __name__ == "__main__":
    cli.run(main)
