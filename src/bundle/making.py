"""Make a bundle of a release, and draw fresh rows from one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from src import anonymizers, results, seeding
from src.anonymizers import ANONYMIZERS, Anonymizer, Resources
from src.anonymizers.cvae import draws
from src.anonymizers.settings import DecoderSettings, Settings
from src.audit import results as audits
from src.bundle import datasheet
from src.bundle.contents import Bundle
from src.database import IDENTITY, Database, EmbeddingSet, Splits, data_folder
from src.errors import DataError, InputError
from src.models.cvae import Decoder


def make(
    database: Database,
    splits: Splits,
    anonymizer: Anonymizer,
    settings: Settings,
    *,
    seed: int,
    resources: Resources,
    logs: Sequence[Path],
    license: str,
    description: str,
) -> Bundle:
    """The bundle of a release that is in the database.

    Args:
        logs: folders with results and audits, whose figures of this release are quoted.

    Raises:
        InputError: there is no such release, or its decoder is not there any more.
    """
    if anonymizer.name == IDENTITY:
        raise InputError("a bundle of 'identity' would give the originals away")
    release_id = anonymizer.release_id(settings, seed)
    released = database.release(release_id, splits.train)
    rows = datasheet.public_rows(released, database.dataset, database.backbone)
    decoder = None
    online = ANONYMIZERS.get(f"{anonymizer.name}-online")
    ids = {release_id}
    if online is not None and isinstance(settings, DecoderSettings):
        decoder = _decoder(online, settings, splits, released, seed, resources)
        ids.add(online.release_id(settings, seed))
    found, audited = _figures(database, logs, ids, splits.train, released)
    sheet = datasheet.compose(
        rows,
        decoder,
        release_id=release_id,
        anonymizer=anonymizer,
        settings=settings,
        extraction=splits.train.meta,
        results=found,
        audits=audited,
        license=license,
        description=description,
    )
    return Bundle(rows, decoder, sheet)


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
        InputError: the bundle has no decoder, or other classes than were given.
        DataError: its numbers are too large to draw with.
    """
    decoder, sheet = bundle.decoder, bundle.sheet
    if decoder is None:
        raise InputError(
            f"{sheet['release']} has no decoder to draw from: all its rows are in train.npz"
        )
    given = counts if counts is not None else weights
    if given is not None and (len(given) != decoder.num_classes or sum(given) <= 0):
        raise InputError(
            f"{decoder.num_classes} classes need as many numbers, not all 0, instead of "
            f"{' '.join(f'{value:g}' for value in given)}"
        )
    generator = seeding.generator(seed, "bundle/sample")
    if counts is not None:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    else:
        chances = decoder.class_weights if weights is None else torch.tensor(weights)
        assert rows is not None
        labels = torch.multinomial(chances, rows, replacement=True, generator=generator)
        labels = labels.sort().values
    drawn = torch.cat(list(decoder.sample(labels, sheet["settings"]["variance"], generator)))
    if not drawn.isfinite().all():
        raise DataError(f"the decoder of {sheet['release']} draws numbers that are not finite")
    meta = {**bundle.rows.meta, "seed": seed, "drawn_from": sheet["release"]}
    return EmbeddingSet(drawn.numpy(), labels.numpy(), meta)


def _decoder(
    online: Anonymizer,
    settings: DecoderSettings,
    splits: Splits,
    released: EmbeddingSet,
    seed: int,
    resources: Resources,
) -> Decoder:
    """The decoder that has drawn the released rows, and no other.

    Raises:
        DataError: the one that is found or fitted now draws other rows. (With a guarantee, giving
            both away would cost twice what is stated.)
    """
    decoder = anonymizers.decoder(
        online, settings, splits.train, splits.val, seed=seed, resources=resources
    )
    again = EmbeddingSet(*draws(decoder, settings.variance, seed=seed))
    if again.fingerprint != released.fingerprint:
        raise DataError(
            "the decoder in --ckpt_root did not draw the released rows; run anonymize.py again, "
            "on the same --device and with the same --ckpt_root"
        )
    return decoder


def _figures(
    database: Database,
    logs: Sequence[Path],
    ids: Collection[str],
    train: EmbeddingSet,
    released: EmbeddingSet,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results and audits of a release under those ids, made from the files that are there now."""
    kinds: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for root in logs:
        folder = data_folder(root, database.dataset, database.backbone)
        for path in sorted(folder.glob(f"{database.dataset}_*.json")):
            audited = path.stem.endswith("_audit")
            content = (audits if audited else results).read(path, {})
            if content is None or content["id"] not in ids:
                continue
            inputs = content["inputs"]
            if inputs["train"] == train.fingerprint and inputs["release"] in (
                None,
                released.fingerprint,
            ):
                kinds[audited].append(content)
    return kinds
