"""What a release promises, derived from its settings, facts, rows and decoder.

Whoever makes a bundle can write anything into it. So nothing is taken from a datasheet that can
be computed: its sentences follow from here, and numbers that contradict each other are refused.
What only the originals could show is named as stated.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from src.anonymizers import methods
from src.anonymizers.base import Method, Sampled, is_sorted
from src.bundle import privacy, private_sums, sites
from src.bundle.facts import Promise, require, unchecked
from src.core.errors import DataError
from src.database import PERSON, ROW, UNITS, EmbeddingSet
from src.networks.cvae import Decoder
from src.networks.gaussians import Gaussians
from src.networks.sampling import Sampler

WEIGHT = "A person with many rows weighs more in it than one with few."
NONE = f"None. How much the release gives away can be measured, but nothing bounds it. {WEIGHT}"


def derive(method: Method, rows: EmbeddingSet, decoder: Sampler | None) -> Promise:
    """The promise of a release that this method made.

    Args:
        rows: the released rows, with the facts of their fit in `meta`.

    Raises:
        DataError: facts, rows and decoder contradict each other or the settings.
    """
    facts = rows.meta.get("facts")
    if not isinstance(facts, dict):
        raise DataError("has no facts of the release")
    if not is_sorted(rows.embeddings, rows.labels):
        raise DataError(
            "has rows in another order than a release's: by label, then by value; run "
            "anonymize.py again"
        )
    _check_unit(method, rows)
    if isinstance(method, Sampled | sites.Merged):
        return _drawn(method, rows, decoder)
    if decoder is not None:
        raise DataError("has a decoder, but its rows were not drawn from one")
    if isinstance(method, methods.KSame):
        return _ksame(method, rows)
    if isinstance(method, methods.LatentKSame | methods.LatentLinear | methods.Plan):
        return _latent(method, rows)
    if method.private:
        raise DataError(f"was made by {method.name}, whose guarantee cannot be checked")
    return Promise(NONE, [], unchecked(facts))


def _drawn(
    anonymizer: Sampled | sites.Merged, rows: EmbeddingSet, decoder: Sampler | None
) -> Promise:
    """The promise of a release that a decoder drew.

    Raises:
        DataError: the decoder is missing, belongs to another method, or contradicts the facts.
    """
    if decoder is None:
        raise DataError("has no decoder, but its rows were drawn from one")
    if decoder.dim != rows.dim:
        raise DataError("goes with a decoder of other dimensions than the rows")
    if decoder.num_classes < rows.num_classes:
        raise DataError("goes with a decoder of fewer classes than the rows")
    counts = np.bincount(rows.labels, minlength=decoder.num_classes)
    if decoder.class_weights.long().tolist() != counts.tolist():
        raise DataError("goes with a decoder that counts other rows of a class than there are")
    if isinstance(decoder, Gaussians):
        if isinstance(anonymizer, methods.DPGaussian):
            return private_sums.promise(anonymizer, rows, decoder)
        if isinstance(anonymizer, sites.Merged):
            return sites.promise(anonymizer, rows, decoder)
    if not isinstance(anonymizer, methods.CVAE | methods.DPCVAE) or isinstance(decoder, Gaussians):
        raise DataError(f"goes with a decoder that is not one of {anonymizer.name}")
    assert isinstance(decoder, Decoder)
    _check_layers(anonymizer, decoder)
    if isinstance(anonymizer, methods.DPCVAE):
        return privacy.promise(anonymizer, rows, decoder)
    stated = ["that this decoder drew the rows", *unchecked(rows.meta["facts"])]
    return Promise(NONE, [privacy.COUNTED], stated)


def _ksame(anonymizer: methods.KSame, rows: EmbeddingSet) -> Promise:
    """The promise of k-Same, whose rows must occur k times.

    Raises:
        DataError: they do not.
    """
    k, facts = anonymizer.k, rows.meta["facts"]
    labels = rows.labels if anonymizer.per_class else np.zeros_like(rows.labels)
    pairs = zip(labels.tolist(), rows.embeddings, strict=True)
    occurs = Counter((label, row.tobytes()) for label, row in pairs)
    odd = [count for count in occurs.values() if count % k]
    if odd:
        raise DataError(
            f"states k = {k}, but a released row occurs {odd[0]} times, no multiple of it"
        )
    require("groups", facts.get("groups"), len(rows) // k, "its rows make")
    if "dropped_by_class" in facts:
        dropped = sum(facts["dropped_by_class"].values())
        require("dropped_rows", facts.get("dropped_rows"), dropped, "its classes give")
    where = " within its class" if anonymizer.per_class else ""
    return Promise(
        _merged(k, "row is an average", rows),
        [f"each released row occurs {k} times or a multiple of that{where}"],
        [f"that each is the mean of {_rows_of(k, rows)}", *unchecked(facts, "groups")],
    )


def _latent(
    anonymizer: methods.LatentKSame | methods.LatentLinear | methods.Plan, rows: EmbeddingSet
) -> Promise:
    """The promise of a release from a latent space.

    Raises:
        DataError: its rows are not as many as its groups or paths give.
    """
    k, facts = anonymizer.k, rows.meta["facts"]
    if isinstance(anonymizer, methods.LatentKSame):
        name, made, how = "groups", len(rows), "the groups"
    else:
        between = anonymizer.path_points - 2
        counts = np.bincount(rows.labels).tolist()
        name, made, how = "paths", sum(-(-n // between) for n in counts), "the paths"
    require(name, facts.get(name), made, "its rows make")
    return Promise(
        f"{_merged(k, 'row is decoded from averages', rows)} The decoder was fitted to all "
        f"training rows. {WEIGHT}",
        [f"there are as many rows as {how} give"],
        [f"that the averages are of {_rows_of(k, rows)}", *unchecked(facts, name)],
    )


def _merged(k: int, how: str, rows: EmbeddingSet) -> str:
    """What groups of k rows, or of rows of k persons, give and what not."""
    if rows.meta["unit"] == PERSON:
        whose = f" of {k} different persons; a person with several rows is in several groups"
    else:
        whose = ", which may all be of one person"
    return (
        f"No differential privacy. Groups of {k} real rows are merged: a released {how} of {k} "
        f"rows{whose}; who knows the others of a group learns about the last one."
    )


def _rows_of(k: int, rows: EmbeddingSet) -> str:
    return f"{k} real rows" + f" of {k} different persons" * (rows.meta["unit"] == PERSON)


def _check_unit(method: Method, rows: EmbeddingSet) -> None:
    """Raise DataError where the promise is said to be made to others than the settings allow."""
    unit = rows.meta.get("unit")
    asked = None if isinstance(method, sites.Merged) else getattr(method, "unit", ROW)
    if unit not in UNITS or asked not in (None, unit):
        raise DataError(f"states unit {unit!r:.80}, which its settings do not give")


def _check_layers(anonymizer: methods.CVAE | methods.DPCVAE, decoder: Decoder) -> None:
    """Raise DataError where a decoder is not one of these settings."""
    if isinstance(anonymizer, methods.DPCVAE):
        noise = anonymizer.observation_std
    else:
        noise = anonymizer.observation_noise
    hidden = decoder.layers[0]
    assert isinstance(hidden, torch.nn.Linear)
    require("hidden_dim", anonymizer.hidden_dim, hidden.out_features, "its decoder has")
    require("latent_dim", anonymizer.latent_dim, decoder.latent_dim, "its decoder has")
    require("the noise on rows", noise, decoder.observation_noise, "its decoder has")
