"""k-Same: groups of k nearest neighbours, each row replaced by its group's mean.

The grouping is greedy (the k-Same baseline of Di Salvo et al., BMVC 2024): among the rows not yet
grouped, the one whose summed Euclidean distance to all the others is largest takes its k-1
nearest with it.

Rounding. The groups are a function of the data alone: not of the path (distances held in memory
or made on the fly), of the device or of the number of threads, because nothing but two defined
roundings happens. Rows are moved to whole numbers, their largest distance from the mean becoming
2²⁴ to 2²⁵; dot products, squared distances and sums of such rows are whole numbers below 2⁵³,
which float64 holds exactly in whatever order they are added. Distances are the square roots of
exact squares, to the nearest whole number. So both roundings are relative to the largest
distance, each of the order of float32's. What is equal then: the first row of equal sums starts
the group, the later rows of equally near ones join it. (Pixels on a few grey levels tie often;
either rule for neighbours is as good, and this one comes nearer to published figures on such
data.)
"""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import replace
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from src.anonymizers import blocks, trees
from src.anonymizers.base import Rows
from src.core.arrays import drop_pages
from src.core.devices import Resources
from src.core.errors import InputError
from src.core.progress import bar
from src.database import EmbeddingSet

NORM_BITS = 25  # the longest row's norm is below 2^25: squared distances are below 2^53
FRONT = 63  # rows whose distances are made along with a seed's
TILE = 384  # rows and columns of a tile of the distance matrix: float64 within a cache
MOST_ROWS, BLOCK_ROWS = 60_000, 10_000  # that are grouped whole; of a block where there are more

log = logging.getLogger(__name__)


def release(
    train: EmbeddingSet,
    k: int,
    *,
    per_class: bool,
    block_rows: int | None = None,
    resources: Resources,
) -> Rows:
    """Each row's group mean, beside the row's label; the last rows that fill no group are dropped.

    Which rows those are follows from the order of the file alone (the published rule): whoever
    knows that order knows that the last n mod k rows of it are in no group. They are counted by
    class in the facts.

    Raises:
        InputError: k is larger than the number of rows (of a class, with per_class).
    """
    members = groups(train, k, per_class=per_class, block_rows=block_rows, resources=resources)
    group_of = np.full(len(train), -1)
    group_of[members] = np.arange(len(members))[:, None]
    kept = np.flatnonzero(group_of >= 0)
    dropped = np.delete(train.labels, kept)
    names, counts = np.unique(dropped, return_counts=True)
    facts = {
        "groups": len(members),
        "dropped_rows": len(dropped),
        "dropped_by_class": {
            train.class_names[c]: int(n) for c, n in zip(names, counts, strict=True)
        },
    }
    centroids = means(train.embeddings, members)
    drop_pages(train.embeddings)  # the release is as large
    return Rows(centroids[group_of[kept]], train.labels[kept], facts)


def means(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean of each group's rows (groups, D) float32."""
    found = np.empty((len(groups), rows.shape[1]), np.float32)
    step = max(1, trees.CHUNK // (groups.shape[1] * rows.shape[1]))
    for start in range(0, len(groups), step):
        part = slice(start, start + step)
        found[part] = rows[groups[part]].mean(axis=1, dtype=np.float64)
    return found


def groups(
    data: EmbeddingSet,
    k: int,
    *,
    per_class: bool,
    block_rows: int | None = None,
    resources: Resources,
) -> np.ndarray:
    """The groups of rows (groups, k) int64, row numbers; with per_class, class after class.

    Where `data.persons` is known, the rows of a group are of k different persons.

    Args:
        block_rows: the most rows of a block; None: all rows (of a class, with per_class) are one
            block, or blocks of `BLOCK_ROWS` where they are more than `MOST_ROWS`.

    Raises:
        InputError: k is larger than the number of rows (of a class, with per_class).
    """
    cut = _blocks(data, k, per_class=per_class, block_rows=block_rows)
    make = functools.partial(group, k=k, resources=replace(resources, workers=None))
    return np.concatenate(blocks.grouped(data, cut, make, f"ksame {k}", resources))


def _blocks(
    data: EmbeddingSet, k: int, *, per_class: bool, block_rows: int | None
) -> list[np.ndarray]:
    """The row numbers of each block within which groups are made, without those that fill none."""
    if per_class:
        parts = [np.flatnonzero(data.labels == c) for c in np.unique(data.labels)]
    else:
        parts = [np.arange(len(data))]
    _require_groups(data, parts, k, per_class)
    cut = []
    for rows in parts:
        most = block_rows or (BLOCK_ROWS if len(rows) > MOST_ROWS else len(rows))
        cut += trees.leaves(data.embeddings, rows[: len(rows) // k * k], k, most)
    if len(cut) > len(parts) and block_rows is None:
        log.info(
            "more than %d rows: grouped within %d blocks of at most %d nearby rows, which adds up "
            "to a few points to the share of variance within groups (see --block_rows)",
            *(MOST_ROWS, len(cut), BLOCK_ROWS),
        )
    return cut


def _require_groups(data: EmbeddingSet, parts: list[np.ndarray], k: int, per_class: bool) -> None:
    """Raise InputError where the rows of a part are too few for a group; says what is possible."""
    whose = np.arange(len(data)) if data.persons is None else data.persons
    people = [len(np.unique(whose[rows])) for rows in parts]
    fewest = min(people)
    if fewest >= k:
        return
    unit = ("row" if data.persons is None else "person") + "s" * (fewest != 1)
    if not per_class:
        raise InputError(f"--k {k} is larger than the {fewest} {unit} of the training set")
    name = data.class_names[data.labels[parts[people.index(fewest)][0]]]
    possible = f"k up to {fewest} is possible"
    if fewest < 2:
        possible = "no k is possible: leave the class out, or gather more of it"
    raise InputError(f"--k {k} is larger than the {fewest} {unit} of class {name}; {possible}")


def group(
    embeddings: np.ndarray, persons: np.ndarray | None = None, *, k: int, resources: Resources
) -> np.ndarray:
    """Group rows (n, D) float32 greedily; the last n mod k rows are left out.

    Args:
        persons: (n,) int64; a row joins only a group that has no row of its person yet, and rows
            that then form no group, because too few persons are left, are left out too.

    Returns:
        (groups, k) int64, row numbers, ascending within a group; groups in order of their making.
    """
    count = len(embeddings) // k
    # float64 is needed, which MPS does not have
    device = torch.device("cpu") if resources.device.type == "mps" else resources.device
    points = torch.from_numpy(whole_numbers(embeddings[: count * k])).to(device)
    left = _People(persons[: count * k], device) if _shared(persons) else None
    ungrouped = _Ungrouped(points, resources.memory)
    groups = torch.empty(count, k, dtype=torch.int64, device=device)
    made = 0
    for made in bar(range(1, count + 1), desc=f"k-Same k={k}", unit="group", leave=False):
        if left is not None and left.persons() < k:
            made -= 1
            break
        groups[made - 1] = ungrouped.take(k, left)
    return groups[:made].sort(1).values.cpu().numpy()


def _shared(persons: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether a person has two rows; without, groups are those of rows."""
    return persons is not None and len(np.unique(persons)) < len(persons)


def whole_numbers(rows: np.ndarray) -> np.ndarray:
    """Rows (n, D) moved near their mean and scaled by a power of two → whole numbers, float64."""
    wide = rows.astype(np.float64)
    mean = wide.mean(axis=0)
    blocks = (wide[i : i + TILE] for i in range(0, len(wide), TILE))
    longest = max(np.linalg.norm(block - mean, axis=1).max() for block in blocks)
    scale = math.ldexp(1.0, NORM_BITS - math.frexp(longest)[1])
    # Rows and mean are rounded apart: differences of rows on a coarser grid stay exact.
    wide *= scale
    np.rint(wide, out=wide)
    wide -= np.rint(mean * scale)
    return wide


class _People:
    """Whose each row is, and how many rows of each person are in no group yet."""

    def __init__(self, persons: np.ndarray, device: torch.device) -> None:
        whose = np.unique(persons, return_inverse=True)[1]
        self.whose = torch.from_numpy(whose).to(device)
        self.rows = torch.bincount(self.whose)

    def persons(self) -> int:
        """Persons with a row that is in no group yet."""
        return int((self.rows > 0).sum())

    def leave(self, members: Tensor) -> None:
        """Count rows [k] as grouped."""
        self.rows.index_add_(0, self.whose[members], -torch.ones_like(members))


class _Ungrouped:
    """Rows that are in no group yet, with each one's sum of distances to all the others."""

    def __init__(self, points: Tensor, memory: int) -> None:
        n = len(points)
        self.points, self.squares = points, points.square().sum(1)
        self.numbers = torch.arange(n, device=points.device)
        self.scale = self.left = n
        held = 4 * n * n <= memory
        self.matrix = points.new_empty(n, n, dtype=torch.int32) if held else None
        self.sums = self._fill()  # float64; -inf for grouped rows
        self.later = self.numbers.flip(0).double()  # 0 for the last row; inf for grouped ones
        self.front = self.numbers[:0]  # rows whose distances are kept in front_distances [f, n]

    def take(self, k: int, people: _People | None = None) -> Tensor:
        """Make the next group → its rows' numbers [k], of k different persons if given."""
        if self.matrix is None and 2 * self.left <= len(self.sums):
            self._drop_grouped()
        seed = self.sums.argmax().view(1)  # the first of equal ones
        distances = self._distances_of_seed(seed)
        self.later.index_fill_(0, seed, torch.inf)
        # distance first, then position: all different, so that it is settled which ones are least
        order = torch.add(self.later, distances, alpha=self.scale)
        others = self._nearest(order, seed, k - 1, people)
        self.sums -= distances
        self.sums -= self._distances(others).sum(0, dtype=torch.float64)
        self.later.index_fill_(0, others, torch.inf)
        members = torch.cat((seed, others))
        self.sums.index_fill_(0, members, -torch.inf)
        self.left -= k
        if people is not None:
            people.leave(self.numbers[members])
        return self.numbers[members]

    def _nearest(self, order: Tensor, seed: Tensor, count: int, people: _People | None) -> Tensor:
        """The rows [count] of least order [n], each of another person than seed [1] and others."""
        if people is None:
            return order.topk(count, largest=False, sorted=False).indices
        whose = people.whose[self.numbers]
        order = order.masked_fill(whose == whose[seed], torch.inf)
        chosen = []
        for _ in range(count):
            chosen.append(order.argmin().view(1))
            order.masked_fill_(whose == whose[chosen[-1]], torch.inf)
        return torch.cat(chosen)

    def _fill(self) -> Tensor:
        """Sums of each row's distances [n]; the matrix, if held, is filled on the way."""
        tiles = [slice(i, i + TILE) for i in range(0, len(self.points), TILE)]
        sums = torch.zeros_like(self.squares)
        for i, rows in enumerate(tiles):
            for columns in tiles[i:]:
                tile = self._computed(rows, columns)
                sums[rows] += tile.sum(1)
                if columns != rows:
                    sums[columns] += tile.sum(0)
                if self.matrix is not None:
                    self.matrix[rows, columns] = tile
                    self.matrix[columns, rows] = tile.T
        return sums

    def _distances(self, rows: Tensor) -> Tensor:
        """Distances of rows [m] to all rows [m, n]."""
        if self.matrix is None:
            return self._computed(rows, slice(None))
        return self.matrix.index_select(0, rows)

    def _distances_of_seed(self, seed: Tensor) -> Tensor:
        """Distances of the row `seed` [1] to all rows [n].

        Made on the fly, they come with those of the rows that are likely to be seeds soon: many
        together take little longer than one.
        """
        if self.matrix is not None:
            return self._distances(seed)[0]
        if not (self.front == seed).any():
            soon = self.sums.topk(min(FRONT, len(self.sums))).indices
            self.front = torch.cat((seed, soon))
            self.front_distances = self._computed(self.front, slice(None))
        return self.front_distances[(self.front == seed).nonzero()[0, 0]]

    def _computed(self, rows: Tensor | slice, columns: slice) -> Tensor:
        squares = torch.addmm(
            self.squares[columns], self.points[rows], self.points[columns].T, alpha=-2
        )
        return squares.add_(self.squares[rows, None]).sqrt_().round_()

    def _drop_grouped(self) -> None:
        self.front = self.front[:0]
        rest = self.sums.isfinite()
        for name in ("points", "squares", "numbers", "sums", "later"):
            setattr(self, name, getattr(self, name)[rest])
