"""Attacks on a release, as scores or truth values per row; `statistics` makes metrics of them.

M are the rows that the release was made from (members), H real rows that nothing has seen
(non-members), A the distinct released rows. Distances are Euclidean on the embeddings as they are
released: scaling them by statistics of M would tell the attacker about M, and scaling them by
those of A would measure every release with a different ruler.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch

from src.core import distances
from src.database import EmbeddingSet

FINEST = 1e-6  # of a feature's range: nearer values count as equal
TINY = float(np.finfo(np.float32).tiny)  # takes the place of distance 0 under a logarithm
HASHED = 4096  # rows that are copied at a time
MOST_FOR_MOMENTS = 1 << 18  # rows that means and covariances are taken of; more change nothing


class Closest(NamedTuple):
    """The nearest reference of each query."""

    distances: np.ndarray  # (m,) float64
    indices: np.ndarray  # (m,) int64


class Halving(NamedTuple):
    """Numbers of the dimensions that each of two parties holds, disjoint."""

    first: np.ndarray  # (D / 2,) int64
    second: np.ndarray  # (D / 2,) int64


class Hits(NamedTuple):
    """Per real row, of how many released rows it is the nearest; a tie of M and H counts half."""

    members: np.ndarray  # (m,) float64
    non_members: np.ndarray  # (h,) float64


def subset(data: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    """The rows with these numbers, or those where these truth values are true."""
    persons = None if data.persons is None else data.persons[rows]
    return EmbeddingSet(data.embeddings[rows], data.labels[rows], data.meta, persons)


def together(first: EmbeddingSet, second: EmbeddingSet) -> EmbeddingSet:
    """The rows of both, the first ones first.

    Where only one of them says whose its rows are, each row of the other is a person of its own.
    """
    parts = (first, second)
    persons = None
    if any(part.persons is not None for part in parts):
        unknown = (-1 - np.arange(len(part)) for part in parts)  # no person has such a number
        persons = np.concatenate(
            [n if p.persons is None else p.persons for p, n in zip(parts, unknown, strict=True)]
        )
    return EmbeddingSet(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.labels for part in parts]),
        persons=persons,
    )


def evenly(rows: np.ndarray, most: int = MOST_FOR_MOMENTS) -> np.ndarray:
    """All rows, or every second, every third, ... so that they are at most so many."""
    return rows[:: -(-len(rows) // most)] if len(rows) > most else rows


def digests(data: EmbeddingSet, *, labels: bool) -> np.ndarray:
    """16 bytes per row (n,), equal for exact copies; with `labels`, only of equal label."""
    found = np.empty(len(data), "S16")  # all of one length, so trailing zeros do not matter
    for start in range(0, len(data), HASHED):
        rows = np.ascontiguousarray(data.embeddings[start : start + HASHED] + 0.0)  # no -0.0
        for number, row in enumerate(rows, start):
            digest = blake2b(row.tobytes(), digest_size=16)
            if labels:
                digest.update(data.labels[number].tobytes())
            found[number] = digest.digest()
    return found


def copies(data: EmbeddingSet, *, labels: bool) -> np.ndarray:
    """A number per row (n,) int64, equal for exact copies; with `labels`, only of equal label."""
    numbers = np.unique(digests(data, labels=labels), return_inverse=True)[1]
    return numbers.astype(np.int64).reshape(-1)


def firsts(data: EmbeddingSet) -> np.ndarray:
    """The numbers (m,) int64 of the rows that no row before equals (embedding and label)."""
    return np.sort(np.unique(copies(data, labels=True), return_index=True)[1])


def distinct(data: EmbeddingSet) -> EmbeddingSet:
    """The rows without exact copies (same embedding and label), in order of first appearance."""
    rows = firsts(data)
    return data if len(rows) == len(data) else subset(data, rows)


def unlike(data: EmbeddingSet, others: EmbeddingSet) -> EmbeddingSet:
    """The rows whose embedding does not occur among the others."""
    return subset(data, ~occurs(data, others))


def occurs(data: EmbeddingSet, others: EmbeddingSet) -> np.ndarray:
    """Whether each row's embedding occurs among the others (n,) bool."""
    ours, theirs = (digests(part, labels=False) for part in (data, others))
    return np.isin(ours, theirs)


def closest(queries: np.ndarray, references: np.ndarray, device: torch.device) -> Closest:
    """The nearest reference of each query, for queries (m, D) and references (n, D) float32."""
    ours, theirs = (torch.from_numpy(rows).to(device) for rows in (queries, references))
    found = distances.nearest(ours, theirs)
    lengths, indices = (part[:, 0].cpu().numpy() for part in found)
    return Closest(lengths.astype(np.float64), indices)


def nearest_neighbour_scores(
    rows: EmbeddingSet, release: EmbeddingSet, device: torch.device
) -> np.ndarray:
    """Minus the distance to the nearest released row of the same label (n,).

    -inf where the release has no row of that label: the attacker takes the row for a non-member.
    """
    scores = np.full(len(rows), -np.inf)
    for label in np.intersect1d(rows.labels, release.labels):
        ours, theirs = rows.labels == label, release.labels == label
        scores[ours] = -closest(
            rows.embeddings[ours], release.embeddings[theirs], device
        ).distances
    return scores


def calibrated_scores(
    rows: EmbeddingSet, release: EmbeddingSet, references: EmbeddingSet, device: torch.device
) -> np.ndarray:
    """Log distance to the nearest reference minus log distance to the nearest released row (n,).

    After DOMIAS (van Breugel et al., AISTATS 2023): where real rows are dense anyway, being near
    the release is not a sign of membership.

    Args:
        references: real rows that the attacker has, neither members nor non-members.
    """
    expected, seen = (
        np.log(np.maximum(closest(rows.embeddings, other.embeddings, device).distances, TINY))
        for other in (references, release)
    )
    return np.asarray(expected - seen)


def every(labels: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    """A random 1/step of the rows, drawn evenly from every label, as truth values (n,) bool."""
    order = np.lexsort((rng.random(len(labels)), labels))  # by label, at random within
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[rng.integers(step) :: step]] = True
    return chosen


def shadow_memberships(labels: np.ndarray, shadows: int, rng: np.random.Generator) -> np.ndarray:
    """A random half of the rows per shadow (shadows, n) bool.

    Every second half is the complement of the one before, so that each row is in and out equally
    often.
    """
    halves = [every(labels, 2, rng) for _ in range(-(-shadows // 2))]
    return np.stack([side for half in halves for side in (half, ~half)])[:shadows]


def likelihood_ratios(target: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Log likelihood ratio per row of having been in, with Gaussian scores in and out (n,).

    LiRA (Carlini et al., S&P 2022) with one variance σ² for all rows and both sides, as shadows
    are few and a side may have no spread at all (a release of the rows themselves). The ratio is
    then (μ_in - μ_out) · (score - (μ_in + μ_out) / 2) / σ². For the same reason each row's gap
    μ_in - μ_out is shrunk towards the mean gap: its deviation keeps the share of the gaps'
    variance that is not sampling noise (James and Stein). Noise in the gap costs the attack more
    than any other error.

    Args:
        target: (n,) scores against the release under attack.
        shadows: (s, n) scores against releases made from known halves.
        inside: (s, n) bool, whether the row was in that half; each row has been in and out.
    """
    finite = shadows[np.isfinite(shadows)]  # -inf: the release lacks the label
    lowest = finite.min(initial=0.0)
    target, shadows = np.maximum(target, lowest), np.maximum(shadows, lowest)
    times_in, times_out = inside.sum(0), (~inside).sum(0)
    mean_in = np.where(inside, shadows, 0).sum(0) / times_in
    mean_out = np.where(inside, 0, shadows).sum(0) / times_out
    residuals = shadows - np.where(inside, mean_in, mean_out)
    freedom = max(1, residuals.size - 2 * residuals.shape[1])
    variance = max(float(np.square(residuals).sum()) / freedom, TINY)
    gap = mean_in - mean_out
    noise = variance * float((1 / times_in + 1 / times_out).mean())
    signal = max(0.0, 1 - noise / max(float(gap.var()), TINY))
    gap = gap.mean() + signal * (gap - gap.mean())
    return np.asarray(gap * (target - (mean_in + mean_out) / 2) / variance)


def linked(
    rows: EmbeddingSet,
    release: EmbeddingSet,
    first: np.ndarray,
    second: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Whether both parts of the dimensions have the same nearest released row (n,) bool.

    Args:
        first, second: numbers of the dimensions that each of two parties holds, disjoint.
    """
    numbers = copies(release, labels=False)
    one, other = (
        numbers[closest(rows.embeddings[:, half], release.embeddings[:, half], device).indices]
        for half in (first, second)
    )
    return np.asarray(one == other)


def often_linked(
    rows: EmbeddingSet, release: EmbeddingSet, halvings: list[Halving], device: torch.device
) -> np.ndarray:
    """Share of the halvings by which each row is linked (n,); 0 without halvings."""
    found = [linked(rows, release, *halving, device) for halving in halvings]
    return np.mean(found, axis=0) if found else np.zeros(len(rows))


def hits(rows: EmbeddingSet, release: EmbeddingSet, device: torch.device) -> np.ndarray:
    """Of how many released rows each real row is the nearest, of all these rows (n,)."""
    nearest = closest(release.embeddings, rows.embeddings, device).indices
    return np.bincount(nearest, minlength=len(rows)).astype(np.float64)


def value_scores(rows: EmbeddingSet, release: EmbeddingSet) -> np.ndarray:
    """Minus the mean log distance of each feature to that label's nearest released value (n,).

    Sees values that were released one by one: shuffled within each feature, or in some features
    only. -inf where the release has no row of that label.
    """
    scores = np.full(len(rows), -np.inf)
    for label in np.intersect1d(rows.labels, release.labels):
        ours = rows.labels == label
        queries, values = (
            torch.from_numpy(part.astype(np.float32)).T.contiguous()
            for part in (rows.embeddings[ours], release.embeddings[release.labels == label])
        )
        values = values.sort(1).values
        after = torch.searchsorted(values, queries).clamp_max(values.shape[1] - 1)
        gaps = torch.minimum(
            (values.gather(1, after) - queries).abs(),
            (values.gather(1, (after - 1).clamp_min(0)) - queries).abs(),
        )
        scale = (values[:, -1:] - values[:, :1]).clamp_min(TINY)
        scores[ours] = -(gaps / scale).clamp_min(FINEST).log().mean(0).numpy()
    return scores


def nearest_real_rows(
    to_members: Closest, to_non_members: Closest, members: int, non_members: int
) -> Hits:
    """Count, per real row, the released rows that it is the nearest to.

    Args:
        to_members, to_non_members: the closest member and non-member of each released row.
        members, non_members: their numbers.
    """
    ours, theirs = to_members.distances, to_non_members.distances
    won = (ours < theirs) + (ours == theirs) / 2
    return Hits(
        np.bincount(to_members.indices, won, minlength=members),
        np.bincount(to_non_members.indices, 1 - won, minlength=non_members),
    )


def copying_share(member_hits: np.ndarray, non_member_hits: np.ndarray) -> np.ndarray:
    """Share of released rows nearer to M than to equally many rows of H; 0.5 is chance.

    Taken from the mean hits per row of M and per row of H, so that their sizes may differ.
    """
    return _ratio(member_hits, member_hits + non_member_hits)


def excess_linkability(members: np.ndarray, non_members: np.ndarray) -> np.ndarray:
    """(p_M - p_H) / (1 - p_H): linked members beyond the share linked of any real rows.

    The residual risk of Giomi et al., PETS 2023. NaN where every non-member is linked.
    """
    return _ratio(members - non_members, 1 - non_members)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the divisor is 0."""
    return np.divide(over, under, out=np.full_like(under, np.nan), where=under != 0)
