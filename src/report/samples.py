"""What the released rows look like: coverage by class and a projection, from the database."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from src.anonymizers.base import Anonymizer
from src.core.errors import InputError, MissingFileError
from src.database import Database, EmbeddingSet
from src.report import pictures
from src.report.pictures import Ellipse

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOST_ROWS = 20_000  # of which coverage is computed while somebody waits
MOST_CLASSES = 20  # that a projection draws and a table lists
NINE_IN_TEN = math.sqrt(-2 * math.log(1 - 0.9))  # radius in deviations, of a Gaussian in a plane


class Covered(NamedTuple):
    """How one class is released."""

    name: str
    real: int  # rows
    released: int
    share: float | None  # of the real rows that have a released row nearby


class Sample(NamedTuple):
    """What the rows of one release look like."""

    classes: list[Covered]  # the least covered first, MOST_CLASSES at most
    of: int  # classes in all
    picture: str  # an svg element
    notes: list[str]  # what was left out


@dataclass(frozen=True)
class Rows:
    """The real training rows of a place, and how they are projected."""

    database: Database
    train: EmbeddingSet
    components: Pipeline | None  # None: fewer than two rows or dimensions

    @classmethod
    def read(cls, database: Database) -> Rows:
        """The real rows.

        Raises:
            MissingFileError, DataError: the database is missing or damaged.
        """
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        train = database.read().train
        if min(train.embeddings.shape) < 2:
            return cls(database, train, None)
        steps = make_pipeline(StandardScaler(), PCA(2, svd_solver="full"))
        return cls(database, train, steps.fit(train.embeddings))

    def sample(self, name: str, anonymizer: Anonymizer, seed: int, points: int) -> Sample:
        """What a release looks like.

        Args:
            name: of the picture, unique in the page.
            points: released rows in the picture.

        Raises:
            MissingFileError, DataError: the release is missing or damaged.
        """
        released = self.database.read_release(anonymizer.release_id(seed), self.train)
        notes = []
        covered: list[Covered] = []
        if len(self.train) > MOST_ROWS:
            notes.append(f"Coverage by class is left out for more than {MOST_ROWS:,} rows.")
        else:
            covered = _coverage(self.train, released)
        picture = ""
        if self.components is None:
            notes.append("A projection needs two rows and two dimensions.")
        else:
            picture = self._picture(name, anonymizer.label, released, points)
        worst = sorted(covered, key=lambda c: math.inf if c.share is None else c.share)
        return Sample(worst[:MOST_CLASSES], len(covered), picture, notes)

    def _picture(self, name: str, label: str, released: EmbeddingSet, points: int) -> str:
        assert self.components is not None
        chosen = np.linspace(0, len(released) - 1, min(points, len(released))).round().astype(int)
        rows = self.components.transform(released.embeddings[chosen])
        ringed = len(chosen) // 2
        its = int(released.labels[chosen[ringed]])
        real, counts = np.unique(self.train.labels, return_counts=True)
        drawn = [int(c) for c in real[counts > 2]] if len(real) <= MOST_CLASSES else [its]
        ellipses = [
            _ellipse(self.components.transform(self.train.embeddings[self.train.labels == c]))
            for c in drawn
        ]
        own = drawn.index(its) if its in drawn else None
        return pictures.projection(name, label, ellipses, rows, ringed=ringed, own=own)


def _ellipse(rows: np.ndarray) -> Ellipse:
    """The ellipse that holds nine in ten of a Gaussian with the moments of these rows (n, 2)."""
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True).reshape(2, 2))
    reach = NINE_IN_TEN * np.sqrt(np.maximum(values, 0))
    return Ellipse(rows.mean(0), reach[:, None] * vectors.T)


def _coverage(train: EmbeddingSet, released: EmbeddingSet) -> list[Covered]:
    """Each class's coverage, as the audit measures it over all classes."""
    import torch

    from src.audit import attacks, fidelity

    real = attacks.distinct(train)
    found = fidelity.manifold(attacks.distinct(released), real, torch.device("cpu"))
    labels = real.labels[found.rows]
    covered = []
    for label, name in enumerate(train.class_names):
        inside = found.coverage[labels == label]
        share = float(inside.mean()) if len(inside) else None
        ours, theirs = (int((rows.labels == label).sum()) for rows in (train, released))
        covered.append(Covered(name, ours, theirs, share))
    return covered


def read(database: Database) -> Rows | str:
    """The real rows, or why they cannot be shown."""
    try:
        return Rows.read(database)
    except InputError as error:
        return missing("embeddings", error)


def missing(what: str, error: InputError) -> str:
    """Why rows are not shown, without the places of files, which say whose machine this is."""
    absent = isinstance(error, MissingFileError)
    state = "are not in the database" if absent else "cannot be read"
    return f"Not shown, as the {what} {state}."
