"""What becomes of rows before they are written: copies, persons, and a `meta` for all splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from src.core.provenance import fingerprint, fingerprint_arrays, versions
from src.database import SPLITS, EmbeddingSet
from src.embedding import copies, distributed, persons
from src.embedding.copies import Embedded

MOST_NAMED = 5  # classes in a warning

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """A split: its rows, labels (n,) int64 in 0..C-1, and persons (n,) int64 where known."""

    embedded: Embedded
    labels: np.ndarray
    persons: np.ndarray | None


def assemble(
    parts: Mapping[str, Part], meta: Mapping[str, Any], *, drop_copies: bool, noun: str
) -> dict[str, EmbeddingSet]:
    """The sets of the three splits, without copies if asked; says what evaluation has to know.

    `extraction` in their `meta` is shared by the files of one run only, so that a mixture is
    noticed. It does not depend on persons, of whom a list could be tried.

    Args:
        parts: the splits.
        meta: `dataset`, `backbone`, `class_names`, `facts` and what else all splits share.
        noun: what rows are called in warnings.

    Raises:
        DataError: a class would have no row in train without its copies.
    """
    copied = copies.found({split: part.embedded for split, part in parts.items()})
    kept = {split: ~copied[split] | (split != "train" or not drop_copies) for split in SPLITS}
    copies.require_classes(parts["train"].labels, kept["train"], meta["class_names"])
    rows = {split: parts[split].embedded.rows[kept[split]] for split in SPLITS}
    labels = {split: parts[split].labels[kept[split]] for split in SPLITS}
    whose = _numbered(parts, kept)
    if distributed.rank() == 0:
        copies.warn(copied, drop_copies, noun)
        persons.warn(whose)
        _warn_of_lost(labels, meta["class_names"])
    found = {**copies.counts(copied, drop_copies), **persons.counts(whose)}
    facts = {**meta["facts"], "dataset": {**meta["facts"]["dataset"], **found}}
    shared = {**meta, "facts": facts, "versions": versions()}
    contents = {split: fingerprint_arrays(rows[split], labels[split]) for split in SPLITS}
    run = {"extraction": fingerprint({**shared, "contents": contents})}
    return {
        split: EmbeddingSet(
            rows[split], labels[split], {**shared, "split": split, **run}, whose.get(split)
        )
        for split in SPLITS
    }


def _numbered(parts: Mapping[str, Part], kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The persons of the rows that are kept, by split; empty where they are not known."""
    known = {s: p.persons[kept[s]] for s, p in parts.items() if p.persons is not None}
    return persons.numbered(known) if known else {}


def _warn_of_lost(labels: Mapping[str, np.ndarray], class_names: list[str]) -> None:
    """Say which classes have rows in train but none in val or test."""
    for split in ("val", "test"):
        lost = [class_names[c] for c in np.setdiff1d(labels["train"], labels[split])]
        if lost:
            more = f" and {len(lost) - MOST_NAMED} others" if len(lost) > MOST_NAMED else ""
            log.warning(
                "%s has no rows of the class%s %s%s, which train has",
                *(split, "es" * (len(lost) > 1), ", ".join(map(repr, lost[:MOST_NAMED])), more),
            )
