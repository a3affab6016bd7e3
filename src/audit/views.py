"""The release and the real rows, seen so that a change of coordinates no longer hides rows.

Each view gives coordinates in which both can be compared although the release was scaled, shifted,
mirrored, permuted or turned. Real rows are members, non-members and the attacker's own together:
no view knows who is who, so a view alone cannot make members look different.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from src.audit import attacks, units
from src.core import distances
from src.core.distances import moments, standardize
from src.database import EmbeddingSet

MOST_AXES = 50  # of the whitened view
ROWS_PER_AXIS = 8  # fewer rows do not tell an axis from noise
FEW_CLASSES = 8  # whose means alone do not fix the axes
FLAT = 1e-5  # of the largest variance: an axis with less is noise
ROUNDS = 8  # of matching rows and fitting the map again
LANDMARKS = 500  # rows, of all or of a class, by which distances are described
QUANTILES = (0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99)
SURE = 0.5  # share of the matches, the least ambiguous, that the next map is fitted to
BLOCK = 1 << 16  # rows that are scaled, turned, sorted or compared at a time
RIDGE = 1e-5  # times the number of matches, on the correction of the map


class View(NamedTuple):
    """Release and real rows in coordinates of their own."""

    release: EmbeddingSet
    real: EmbeddingSet


class _Whitening(NamedTuple):
    """An affine map."""

    mean: np.ndarray  # (D,) float64
    axes: np.ndarray  # (D, k) float64

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) → (n, k) float64."""
        blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
        return np.concatenate([(b.astype(np.float64) - self.mean) @ self.axes for b in blocks])


class _Matches(NamedTuple):
    """Released and real rows that are each other's nearest, and how ambiguous each match is."""

    released: np.ndarray  # (p,) int64
    real: np.ndarray  # (p,) int64
    ratios: np.ndarray  # (p,) float64, nearest distance over the second nearest


def standardised(release: EmbeddingSet, real: EmbeddingSet) -> View:
    """Both with mean 0 and deviation 1 in every feature, each by their own statistics."""
    return View(_standardised(release), _standardised(real))


def shapes(release: EmbeddingSet, real: EmbeddingSet) -> View:
    """Each row alone: its features less their mean over their deviation, in ascending order.

    Blind to any a·x + b with a > 0 of single rows and to any order of the features. Where a < 0
    the order is reversed, so the release is also there mirrored.
    """
    ours = _shape(release.embeddings)
    mirrored = np.concatenate((ours, -ours[:, ::-1]))
    labels = np.concatenate((release.labels, release.labels))
    return View(EmbeddingSet(mirrored, labels), _with(real, _shape(real.embeddings)))


def midpoints(release: EmbeddingSet, shown: np.ndarray, device: torch.device) -> EmbeddingSet:
    """The middle between each released row and its opposite, where x + e and x - e meet.

    The opposite is the row of its label nearest to the row's mirror image in the label's mean;
    and, as pairs may stand side by side, the row after it.

    Args:
        shown: (n,) bool, the released rows whose middles are taken.
    """
    middles, labels = [], []
    for label in np.unique(release.labels[shown]):
        own = release.labels == label
        rows, places = release.embeddings[own], np.flatnonzero(shown[own])
        mirrored = 2 * rows.mean(0) - rows[places]
        partner = attacks.closest(mirrored, rows, device).indices
        for other in (rows[partner], rows[(places + 1) % len(rows)]):
            middles.append((rows[places] + other) / 2)
            labels.append(np.full(len(places), label))
    return EmbeddingSet(np.concatenate(middles), np.concatenate(labels))


def whitened(release: EmbeddingSet, real: EmbeddingSet) -> View | None:
    """Both whitened, and the release turned so that its rows come to lie on real ones.

    Whitening leaves an unknown rotation, whatever affine map the release went through. Matches
    start from what no rotation changes (a row's distances to the means of the classes, and to its
    rows), and the map is fitted to the matches that are least ambiguous, again and again. Where
    the release holds no real rows nothing matches, and the view shows nothing.

    Returns:
        None where the rows are too few.
    """
    most = min(MOST_AXES, len(release) // ROWS_PER_AXIS, len(real) // ROWS_PER_AXIS)
    # one row of each person: who has many rows must not draw the release to them
    whose = units.of(real).whose
    one_each = attacks.subset(real, np.sort(np.unique(whose, return_index=True)[1]))
    places = [_whitening(data.embeddings, most) for data in (release, one_each)]
    axes = min(place.axes.shape[1] for place in places)
    if not axes or not len(np.intersect1d(release.labels, real.labels)):
        return None
    ours, theirs = (place._replace(axes=place.axes[:, :axes]) for place in places)
    fitted = _with(one_each, theirs.of(one_each.embeddings))
    turned = _turned(_with(release, ours.of(release.embeddings)), fitted)
    return View(turned, _with(real, theirs.of(real.embeddings)))


def _turned(release: EmbeddingSet, real: EmbeddingSet) -> EmbeddingSet:
    """White released rows, turned so that they come to lie on white real ones."""
    labels = np.intersect1d(release.labels, real.labels)
    found = _matched(*(_with(data, _described(data, labels)) for data in (release, real)))
    turned = release
    for _ in range(ROUNDS):
        if len(found.ratios) <= release.dim:
            break
        turned = _with(release, _mapped(release.embeddings, real.embeddings, found))
        found = _matched(turned, real)
    return turned


def _with(data: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    return EmbeddingSet(rows.astype(np.float32, copy=False), data.labels, persons=data.persons)


def _standardised(data: EmbeddingSet) -> EmbeddingSet:
    known = moments(torch.from_numpy(attacks.evenly(data.embeddings)))
    rows = np.empty(data.embeddings.shape, dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        part = torch.from_numpy(data.embeddings[start : start + BLOCK])
        rows[start : start + BLOCK] = standardize(part, *known).numpy()
    return _with(data, rows)


def _shape(rows: np.ndarray) -> np.ndarray:
    shapes = np.empty(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        wide = rows[start : start + BLOCK].astype(np.float64)
        wide -= wide.mean(1, keepdims=True)
        spread = wide.std(1, keepdims=True)
        shapes[start : start + BLOCK] = np.sort(wide / np.where(spread > 0, spread, 1.0), axis=1)
    return shapes


def _whitening(rows: np.ndarray, most: int) -> _Whitening:
    """To the leading principal components, at most so many, each of variance 1."""
    wide = attacks.evenly(rows).astype(np.float64)
    mean = wide.mean(0)
    wide -= mean
    values, vectors = np.linalg.eigh(wide.T @ wide / len(wide))
    kept = np.flatnonzero(values > FLAT * max(values[-1], attacks.TINY))[::-1][:most]
    return _Whitening(mean, vectors[:, kept] / np.sqrt(values[kept]))


def _described(data: EmbeddingSet, labels: np.ndarray) -> np.ndarray:
    """What no rotation changes: squared distances of white rows, logarithmic, standardised.

    To the means of all rows and of each label; and, by rank, to all rows, where labels are few
    also to those of each.
    """
    wide = torch.from_numpy(data.embeddings).double()
    classes = [wide[torch.from_numpy(data.labels == label)] for label in labels]
    found = [(wide - others.mean(0)).square().sum(1) for others in (wide, *classes)]
    for others in (wide, *(classes if len(labels) < FEW_CLASSES else ())):
        marks = others[:: -(-len(others) // LANDMARKS)]
        ranks = (torch.tensor(QUANTILES) * (len(marks) - 1)).long()
        squares = (torch.cdist(block, marks).square() for block in wide.split(BLOCK))
        found += torch.cat([part.sort(1).values[:, ranks] for part in squares]).unbind(1)
    logs = torch.stack(found, 1).clamp_min(attacks.TINY).log()
    return np.asarray(standardize(logs, *moments(logs)).numpy())


def _matched(release: EmbeddingSet, real: EmbeddingSet) -> _Matches:
    """Rows of one label that are each other's nearest."""
    parts = [_Matches(np.arange(0), np.arange(0), np.zeros(0))]
    for label in np.intersect1d(release.labels, real.labels):
        ours, theirs = (np.flatnonzero(data.labels == label) for data in (release, real))
        if min(len(ours), len(theirs)) < 2:
            continue
        a, b = (
            torch.from_numpy(data.embeddings[rows])
            for data, rows in ((release, ours), (real, theirs))
        )
        there, back = distances.nearest(b, a, 2), distances.nearest(a, b)
        nearest = there.indices[:, 0]
        mutual = (back.indices[nearest, 0] == torch.arange(len(theirs))).numpy()
        ratios = there.distances[:, 0] / there.distances[:, 1].clamp_min(attacks.TINY)
        pairs = _Matches(ours[nearest.numpy()], theirs, ratios.numpy().astype(np.float64))
        parts.append(_Matches(*(part[mutual] for part in pairs)))
    return _Matches(*map(np.concatenate, zip(*parts, strict=True)))


def _mapped(ours: np.ndarray, theirs: np.ndarray, found: _Matches) -> np.ndarray:
    """Released rows, turned and then slightly corrected so that the surest matches meet."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    sure = found.ratios <= np.quantile(found.ratios, SURE)
    source, target = ours[found.released[sure]], theirs[found.real[sure]]
    left, _, right = np.linalg.svd(source.T @ target)
    turned = ours @ (left @ right)
    if len(source) > 3 * ours.shape[1]:
        source = np.column_stack((turned[found.released[sure]], np.ones(len(source))))
        ridge = RIDGE * len(source) * np.eye(source.shape[1])
        missing = target - source[:, :-1]
        correction = np.linalg.solve(source.T @ source + ridge, source.T @ missing)
        turned = turned + np.column_stack((turned, np.ones(len(turned)))) @ correction
    return np.asarray(turned)
