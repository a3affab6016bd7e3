"""What the merged release of several sites promises, from what each of them has stated.

The sites' rows are of different persons, so whoever is added changes one site's sums alone: the
guarantee of the whole is that of the weakest site (parallel composition: McSherry, SIGMOD 2009).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from src.anonymizers import methods
from src.anonymizers.base import Method
from src.anonymizers.dp import dpgaussian, noisy_sums
from src.bundle import privacy, private_sums
from src.bundle.facts import Promise, number, require, unchecked
from src.core.errors import DataError, InputError
from src.core.settings import setting
from src.database import EmbeddingSet
from src.networks.gaussians import Gaussians

MOST = 1000  # sites, so that a datasheet stays small
COUNTS = "class_counts"
EPSILON = "epsilon of each site follows from the noise of all its sums"
NOISE = "the noise of the decoder's sums is that of all sites, in the units that they share"
DISJOINT = "no {unit} is at two sites"


@dataclass(frozen=True, kw_only=True)
class Merged(Method):
    """One Gaussian per class from the noisy sums of several sites."""

    name, private = "dpgaussian-merged", True

    sites: int = setting("releases that are merged", tag="", minimum=2, maximum=MOST)


class Site(NamedTuple):
    """What a merged release says of one of its sites, and nothing else does."""

    dataset: str
    decoder: str  # the fingerprint of its sums
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    noise_factors: Sequence[float]  # of its sums' noise in the shared units: `noisy_sums.OF_NOISE`


def facts(found: Sequence[Site], unit: str) -> dict[str, Any]:
    """The facts of a merged release of these sites.

    Args:
        unit: whom every site has given its guarantee.
    """
    worst = {name: max(site.facts[name] for site in found) for name in ("epsilon", "delta")}
    total = {name: math.fsum(site.facts[name] for site in found) for name in worst}
    return {
        **worst,
        "at_all_sites": total,
        "neighbours": found[0].facts["neighbours"],
        "accountant": f"parallel composition; each site: {dpgaussian.ACCOUNTANT}",
        "assumed": DISJOINT.format(unit=unit),
        "sites": [site._asdict() for site in found],
    }


def promise(merged: Merged, rows: EmbeddingSet, decoder: Gaussians) -> Promise:
    """The promise of a merged release, if every site's facts give what that site states.

    Raises:
        DataError: facts contradict each other, the settings or the decoder.
    """
    stated, unit = rows.meta["facts"], rows.meta["unit"]
    found = of(stated)
    require("sites", merged.sites, len(found), "its facts have")
    noise = [_noise(site, rows) for site in found]
    for name, parts, theirs in zip(
        noisy_sums.OF_NOISE, zip(*noise, strict=True), decoder.sums.noise.tolist(), strict=True
    ):
        private_sums.require_near(f"{name} with noise", math.hypot(*parts), theirs, "its decoder")
    expected = facts(found, unit)
    for name, value in expected.items():
        require(name, stated.get(name), value, "its sites give")
    return Promise(
        _guarantee(stated, unit, len(found)),
        [EPSILON, NOISE, privacy.COUNTED],
        [f"that {stated['assumed']}", *privacy.unshown(unit), *unchecked(stated, *expected)],
    )


def _guarantee(stated: Mapping[str, Any], unit: str, sites: int) -> str:
    both = (stated, stated["at_all_sites"])
    one, whole = (f"({privacy.rounded_up(part['epsilon'])}, {part['delta']:g})" for part in both)
    return (
        f"{one}-differential privacy of the training {unit}s of {sites} sites, as long as "
        f"{stated['assumed']} (neighbours: {stated['neighbours']}; accountant: "
        f"{stated['accountant']}). Who is at several sites has the sum of what these spend, at "
        f"most {whole}. The sites' own bundles cost nothing beside it, as it is computed from "
        f"them; other releases made from the same {unit}s add up."
    )


def of(stated: Mapping[str, Any]) -> list[Site]:
    """The sites in the facts of a merged release.

    Raises:
        DataError: they are not described as they have to be.
    """
    given = stated.get("sites")
    if not isinstance(given, list) or not all(
        isinstance(site, dict) and site.keys() == {*Site._fields} for site in given
    ):
        raise DataError(f"has no sites with exactly the items {', '.join(Site._fields)}")
    found = [Site(**site) for site in given]
    if len({site.decoder for site in found}) < len(found):
        raise DataError("has the sums of one site twice")
    return found


def anonymizer(site: Site) -> methods.DPGaussian:
    """What made a site's release.

    Raises:
        DataError: it has other settings than `dpgaussian`.
    """
    if not isinstance(site.settings, dict):
        raise DataError("has a site without settings")
    try:
        return methods.DPGaussian.parse(site.settings, of=methods.DPGaussian.name)
    except InputError as error:
        raise DataError(f"has a site with invalid settings: {error}") from error


def _noise(site: Site, rows: EmbeddingSet) -> list[float]:
    """The noise of a site's sums in the shared units, as `noisy_sums.OF_NOISE`.

    Raises:
        DataError: its facts do not give what it states, or are not described.
    """
    factors = site.noise_factors
    if not isinstance(site.facts, dict) or not isinstance(site.dataset, str):
        raise DataError("has a site without facts or dataset")
    if not isinstance(factors, list) or len(factors) != len(noisy_sums.OF_NOISE):
        raise DataError(f"has a site whose noise_factors are not {len(noisy_sums.OF_NOISE)}")
    named = dict(zip(noisy_sums.OF_NOISE, factors, strict=True))
    private_sums.require_near(f"a factor of {COUNTS}", number(named, COUNTS), 1, "counts have")
    meta = {"unit": rows.meta["unit"], "backbone": rows.meta.get("backbone"), "facts": site.facts}
    stated = private_sums.checked(anonymizer(site), meta, rows.dim)
    return [
        number(named, name) * multiplier
        for name, multiplier in zip(noisy_sums.OF_NOISE, stated.noise, strict=True)
    ]
