"""What goes into the bundle of a release, and fresh rows drawn from a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer, Sampled
from src.anonymizers.cvae import draws
from src.anonymizers.settings import part
from src.bundle import datasheet
from src.bundle.contents import Bundle
from src.core import records, seeding
from src.core.devices import Resources
from src.core.errors import DataError, InputError
from src.core.records import Subject
from src.database import IDENTITY, Database, EmbeddingSet, Splits
from src.networks.sampling import Sampler

MOST_BYTES = 1 << 31  # of memory that rows drawn at once may take


def released_rows(
    database: Database, anonymizer: Anonymizer, train: EmbeddingSet, *, seed: int
) -> EmbeddingSet:
    """The release that anonymize.py has made, with what others may know about it.

    Raises:
        InputError: the release is the originals, does not exist or was made from other rows.
    """
    if anonymizer.name == IDENTITY:
        raise InputError("a bundle of 'identity' would give the originals away")
    released = database.read_release(anonymizer.release_id(seed), train)
    return datasheet.public_rows(released, database.dataset, database.backbone)


def decoder_of(
    rows: EmbeddingSet, anonymizer: Anonymizer, splits: Splits, *, seed: int, resources: Resources
) -> Sampler | None:
    """The decoder that drew the released rows, and no other; None where they were not drawn.

    Raises:
        DataError: the decoder that is found or fitted now draws other rows. (With a guarantee,
            giving both away would cost twice what is stated.)
    """
    if not isinstance(anonymizer, Sampled):
        return None
    decoder = anonymizer.decoder(splits.train, splits.val, seed=seed, resources=resources)
    again = EmbeddingSet(*draws(decoder, seed=seed))
    if again.fingerprint != rows.fingerprint:
        raise DataError(
            "the decoder in --ckpt_root did not draw the released rows; run anonymize.py again, "
            "on the same --device and with the same --ckpt_root"
        )
    return decoder


def subjects(anonymizer: Anonymizer, rows: EmbeddingSet, *, seed: int) -> list[Subject]:
    """What records about the release are about: its rows, and fresh draws of its decoder."""
    found = [anonymizer.subject(seed, rows)]
    online = methods.ONLINE.get(f"{anonymizer.name}-online")
    if online is not None:
        found.append(part(anonymizer, online).subject(seed))
    return found


def quoted(
    folders: Iterable[Path], subjects: Sequence[Subject], train: EmbeddingSet
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results and audits in the folders that are about these subjects and these real rows."""
    results, audits = [], []
    for content in _records(folders):
        if not any(_is_about(content, subject, train) for subject in subjects):
            continue
        if datasheet.is_result(content):
            results.append(content)
        elif datasheet.is_audit(content := {"figures": content.get("metrics"), **content}):
            audits.append(content)
    return results, audits


def _records(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            content = records.read(path, {})
            if content is not None:
                yield content


def _is_about(content: dict[str, Any], subject: Subject, train: EmbeddingSet) -> bool:
    inputs = content.get("inputs")
    expected = {"train": train.fingerprint, "release": subject.rows}
    agrees = isinstance(inputs, dict) and expected.items() <= inputs.items()
    return agrees and content.get("id") == subject.id


def sample(
    bundle: Bundle,
    *,
    rows: int | None = None,
    weights: Sequence[float] | None = None,
    counts: Sequence[int] | None = None,
    seed: int,
) -> EmbeddingSet:
    """Fresh rows from a bundle's decoder, sorted by class.

    Args:
        rows: how many, of classes drawn by `weights` (default: the released distribution).
        counts: or how many of each class.

    Raises:
        InputError: the bundle has no decoder or other classes, or the rows are too many.
        DataError: the decoder's numbers are too large to draw with.
    """
    decoder, release = bundle.decoder, bundle.sheet["release"]
    if decoder is None:
        raise InputError(f"{release} has no decoder to draw from: all its rows are in train.npz")
    total = sum(counts) if counts is not None else rows or 0
    most = MOST_BYTES // (4 * (bundle.rows.dim + decoder.latent_dim) + 3 * 8)  # and labels
    if total > most:
        raise InputError(
            f"{total} rows are too many: at most {most} rows of {bundle.rows.dim} dimensions can "
            "be drawn at once; more can be drawn with another --seed"
        )
    generator = seeding.generator(seed, "bundle/sample")
    if counts is not None:
        given = _one_per_class(counts, torch.int64, decoder)
        labels = torch.arange(len(given)).repeat_interleave(given)
    else:
        chances = decoder.class_weights
        if weights is not None:
            chances = _one_per_class(weights, torch.float32, decoder)
        labels = torch.multinomial(chances, total, replacement=True, generator=generator)
        labels = labels.sort().values
    drawn = _drawn(decoder, labels, bundle.rows.dim, generator)
    if drawn is None:
        raise DataError(f"the decoder of {release} draws numbers that are not finite")
    meta = {**bundle.rows.meta, "seed": seed, "drawn_from": release}
    return EmbeddingSet(drawn, labels.numpy(), meta)


def _drawn(
    decoder: Sampler, labels: Tensor, dim: int, generator: torch.Generator
) -> np.ndarray | None:
    """A row (n, dim) float32 for each label [n], held once; None where one is not finite."""
    rows, first = np.empty((len(labels), dim), np.float32), 0
    for block in decoder.sample(labels, generator):
        if not block.isfinite().all():
            return None
        rows[first : first + len(block)] = block
        first += len(block)
    return rows


def _one_per_class(given: Sequence[float], dtype: torch.dtype, decoder: Sampler) -> Tensor:
    """Weights or counts of the classes [C].

    Raises:
        InputError: there are more or fewer than classes, or their sum cannot be used.
    """
    numbers = torch.tensor(given, dtype=dtype)
    if len(given) != decoder.num_classes or not 0 < numbers.sum() < torch.inf:
        raise InputError(
            f"{decoder.num_classes} classes need as many numbers, not all 0, instead of "
            f"{' '.join(f'{value:g}' for value in given)}"
        )
    return numbers
