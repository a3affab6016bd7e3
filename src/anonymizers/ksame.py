"""k-Same: groups of k nearest neighbours, each row replaced by its group's mean.

The grouping is greedy (the k-Same baseline of Di Salvo et al., BMVC 2024): among the rows not yet
grouped, the one whose summed Euclidean distance to all the others is largest takes its k-1
nearest with it.

Rounding. The groups are a function of the data alone: not of the path (matrix held in memory or
distances made on the fly), of the device or of the number of threads. Distances come from float32
matrix products, which carry an error bound; where the bound leaves a choice open, the rows in
question are compared again by float64 distances taken from the differences, whose sums are
correctly rounded (math.fsum). What is still equal: the first row of equal sums starts the group,
the later rows of equally near ones join it. (Pixels on a few grey levels tie often; either rule
for neighbours is as good, and this one comes nearer to published figures on such data.)
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from src.anonymizers import Release, Resources
from src.anonymizers.settings import KSameSettings
from src.database import EmbeddingSet
from src.errors import InputError
from src.progress import bar

BLOCK_BYTES = 8 << 20  # of a block of the distance matrix while it is made
EXACT_ROWS = 4096  # rows whose float64 differences are held at once
RESTART_ROWS = 512  # below so many rows a restart costs more than it saves


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: KSameSettings,
    *,
    seed: int,
    resources: Resources,
) -> Release:
    """Each row's group mean in the row's place; the last rows that fill no group are dropped.

    Raises:
        InputError: k is larger than the number of rows (of a class, with per_class).
    """
    if settings.per_class:
        parts = [np.flatnonzero(train.labels == c) for c in np.unique(train.labels)]
    else:
        parts = [np.arange(len(train))]
    groups = []
    for rows in parts:
        if len(rows) < settings.k:
            name = train.class_names[train.labels[rows[0]]]
            where = f"class {name}" if settings.per_class else "the training set"
            raise InputError(f"--k {settings.k} is larger than the {len(rows)} rows of {where}")
        groups.append(rows[group(train.embeddings[rows], settings.k, resources)])
    members = np.concatenate(groups)  # (groups, k)
    means = train.embeddings[members].mean(axis=1, dtype=np.float64).astype(np.float32)
    kept = np.sort(members, axis=None)
    released = np.empty_like(train.embeddings)
    released[members] = means[:, None]
    facts = {"groups": len(members), "dropped_rows": len(train) - len(kept)}
    return Release(released[kept], train.labels[kept], facts)


def group(embeddings: np.ndarray, k: int, resources: Resources) -> np.ndarray:
    """Group rows (n, D) float32 greedily; the last n mod k rows are left out.

    Returns:
        (n // k, k) int64, row numbers, ascending within a group; groups in order of their making.
    """
    rows = np.arange(len(embeddings) - len(embeddings) % k)
    made = []
    with bar(total=len(rows), desc=f"k-Same k={k}", unit="row") as progress:
        while len(rows):
            # Once half of the rows are grouped, start anew on the rest: the arrays shrink, and
            # errors of the running sums do not build up.
            enough = len(rows) // k if len(rows) <= RESTART_ROWS else len(rows) // (2 * k)
            grouping = _Grouping(embeddings[rows], k, resources)
            for _ in range(enough):
                made.append(rows[grouping.next()])
                progress.update(k)
            rows = rows[grouping.ungrouped]
    return np.stack(made)


class _Grouping:
    """Rows (n, D) with running sums of each one's distances to all ungrouped rows."""

    def __init__(self, rows: np.ndarray, k: int, resources: Resources) -> None:
        n, dim = rows.shape
        # float64 sums are needed, which MPS does not have
        device = torch.device("cpu") if resources.device.type == "mps" else resources.device
        centred = rows - rows.mean(axis=0, dtype=np.float64)  # smaller norms, smaller errors
        self.rows, self.k = rows, k
        self.points = torch.from_numpy(centred.astype(np.float32)).to(device)
        self.squares = self.points.square().sum(1)
        # |computed d² - d²| <= error: a dot product of length D rounds about D times
        self.error = float(self.squares.max()) * 4 * (dim + 16) * 2.0**-24
        held = 4 * n * n <= resources.memory
        self.matrix = torch.empty(n, n, device=device) if held else None
        self.grouped = torch.zeros(n, device=device)  # inf for grouped rows, else 0
        self.sums, self.slack = self._row_sums()

    @property
    def ungrouped(self) -> np.ndarray:
        """Numbers of the rows that are in no group yet, ascending."""
        return np.flatnonzero(self.grouped.cpu().numpy() == 0)

    def next(self) -> np.ndarray:
        """Make the next group → (k,) row numbers, ascending."""
        seed = self._farthest()
        distances = self._distances(seed)
        self.grouped[seed] = torch.inf
        others = self._nearest(seed, distances[0])
        self.grouped[others] = torch.inf
        self.sums -= distances[0]
        self.sums -= self._distances(others).sum(0)
        members = torch.cat((seed, others))
        self.sums[members] = -torch.inf
        return np.sort(members.cpu().numpy())

    def _row_sums(self) -> tuple[Tensor, float]:
        """Sums of each row's distances [n] float64, and a bound of their error."""
        n = len(self.points)
        sums = torch.empty(n, dtype=torch.float64, device=self.points.device)
        slack = torch.empty_like(sums)
        for rows in torch.arange(n, device=sums.device).split(max(1, BLOCK_BYTES // (4 * n))):
            within = slice(int(rows[0]), int(rows[-1]) + 1)
            out = None if self.matrix is None else self.matrix[within]
            distances = self._approximate(within, out)
            sums[within] = distances.sum(1, dtype=torch.float64)
            # an error e in d² is one of at most min(√e, e/d) in d
            inverse = distances.clamp(min=math.sqrt(self.error) or 1.0).reciprocal_()
            slack[within] = inverse.sum(1, dtype=torch.float64)
        return sums, self.error * float(slack.max())

    def _distances(self, rows: Tensor) -> Tensor:
        """Approximate distances of rows [m] to all rows [m, n] float32."""
        return self._approximate(rows) if self.matrix is None else self.matrix[rows]

    def _approximate(self, rows: Tensor | slice, out: Tensor | None = None) -> Tensor:
        squares = torch.addmm(self.squares, self.points[rows], self.points.T, alpha=-2, out=out)
        return squares.add_(self.squares[rows, None]).clamp_(min=0).sqrt_()

    def _farthest(self) -> Tensor:
        """The ungrouped row with the largest sum [1]; of equal ones the first."""
        # errors: those of the first sums, and as much again of what has been subtracted
        tied = (self.sums >= self.sums.max() - 4 * self.slack).nonzero()[:, 0]
        if len(tied) == 1:
            return tied
        candidates = tied.cpu().numpy()
        candidates = np.sort(candidates[np.unique(self._copies[candidates], return_index=True)[1]])
        if len(candidates) > 1:
            others = self.ungrouped
            sums = [math.fsum(np.sqrt(self._exact_squares(c, others))) for c in candidates]
            candidates = candidates[[int(np.argmax(sums))]]
        return torch.from_numpy(candidates[:1]).to(tied.device)

    def _nearest(self, seed: Tensor, distances: Tensor) -> Tensor:
        """The k-1 ungrouped rows nearest to the seed [k-1]; of equal ones the last."""
        squares = distances.square().add_(self.grouped)
        last = squares.topk(self.k - 1, largest=False).values[-1]
        near = (squares <= last * (1 + 2.0**-20) + 2 * self.error).nonzero()[:, 0]
        if len(near) == self.k - 1:
            return near
        candidates = near.cpu().numpy()[::-1]
        order = np.argsort(self._exact_squares(int(seed), candidates), kind="stable")
        return torch.from_numpy(candidates[order[: self.k - 1]]).to(near.device)

    def _exact_squares(self, row: int, others: np.ndarray) -> np.ndarray:
        """Squared float64 distances of a row to others [m], from the differences themselves."""
        origin, squares = self.rows[row].astype(np.float64), np.empty(len(others))
        for start in range(0, len(others), EXACT_ROWS):
            part = slice(start, start + EXACT_ROWS)
            squares[part] = np.square(self.rows[others[part]] - origin).sum(axis=1)
        return squares

    @cached_property
    def _copies(self) -> np.ndarray:
        """A number for each row (n,), the same for identical rows, whose sums are equal."""
        return np.unique(self.rows, axis=0, return_inverse=True)[1].reshape(-1)
