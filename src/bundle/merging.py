"""One release of several sites: their noisy sums, added up.

Everything is computed from the sites' bundles, in an order of its own: whichever is named first,
the merged release has the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from src.anonymizers import methods
from src.anonymizers.cvae import draws
from src.anonymizers.dp import dpgaussian, noisy_sums
from src.bundle import datasheet, preprocessing, receiving, sites
from src.bundle.contents import Bundle
from src.bundle.datasheet import Remarks
from src.bundle.rendering import shown
from src.bundle.sites import Merged, Site
from src.core.errors import InputError
from src.core.provenance import versions
from src.database import EmbeddingSet
from src.networks.adding import added
from src.networks.gaussians import Gaussians, Sums

LONGEST = 60  # characters of the name of a dataset that is made of several

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """A bundle and the name that messages have for it."""

    name: str
    bundle: Bundle


def merge(given: Sequence[Given], *, seed: int, description: str, license: str) -> Bundle:
    """The bundle of all sites' sums, with as many rows of a class as they count together.

    Args:
        seed: of the rows that are drawn.
        description, license: "" stands for what the bundles say.

    Raises:
        InputError: the bundles are not such sums, or do not belong together.
    """
    given = sorted(given, key=lambda one: one.bundle.sheet["fingerprints"].get("decoder", ""))
    first = given[0]
    for one in given:
        _require_sums(one)
        _require_alike(first, one)
    found = [_sites(one.bundle) for one in given]
    _require_different(given, found)
    sums, factors = added([_in_order(one.bundle, first.bundle) for one in given])
    all_sites = [
        site._replace(noise_factors=[a * b for a, b in zip(site.noise_factors, more, strict=True)])
        for group, more in zip(found, factors.tolist(), strict=True)
        for site in group
    ]
    decoder = Gaussians(sums)
    method = Merged(sites=len(all_sites))
    sheet, unit = first.bundle.sheet, first.bundle.rows.meta["unit"]
    facts = {**sites.facts(all_sites, unit), "kept": dpgaussian.kept(decoder)}
    meta = {
        "dataset": _dataset(given),
        "backbone": sheet["backbone"],
        "split": "train",
        "class_names": [entry["name"] for entry in sheet["classes"]],
        "anonymizer": method.name,
        "settings": asdict(method),
        "unit": unit,
        "seed": seed,
        "facts": facts,
        "versions": versions(),
    }
    rows = EmbeddingSet(*draws(decoder, seed=seed), meta)
    remarks = Remarks(
        description=shown(description) or _said(given, "description"),
        license=shown(license) or _said(given, "license"),
        preprocessing=sheet["preprocessing"],
        utility=[],
        audits=[],
    )
    composed = datasheet.compose(rows, decoder, method, remarks, seed=seed)
    return Bundle(rows, decoder, composed)


def _require_sums(one: Given) -> None:
    """Raise InputError where a bundle does not hold noisy sums."""
    if not isinstance(one.bundle.decoder, Gaussians):
        raise InputError(
            f"{one.name} is a release of {shown(one.bundle.sheet['anonymizer'])}: only those of "
            f"{methods.DPGaussian.name} consist of sums, which can be added up"
        )


def _require_alike(first: Given, one: Given) -> None:
    """Raise InputError where two bundles do not describe rows of one kind.

    Their classes may be in another order, but are the same.
    """
    ours, theirs = first.bundle, one.bundle
    values = {
        "backbone": (theirs.sheet["backbone"], ours.sheet["backbone"]),
        "dimensions": (theirs.rows.dim, ours.rows.dim),
        "unit": (theirs.rows.meta["unit"], ours.rows.meta["unit"]),
    }
    for name, (their, our) in values.items():
        if their != our:
            raise InputError(
                f"{one.name} has {name} {shown(their)}, but {first.name} has {shown(our)}"
            )
    classes = [receiving.class_names(bundle) for bundle in (theirs, ours)]
    for own, other, here, there in (
        (*classes, one.name, first.name),
        (*classes[::-1], first.name, one.name),
    ):
        twice = next((name for name in own if own.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{here} has two classes named '{shown(twice)}': which is which?")
        lacking = [name for name in own if name not in other]
        if lacking:
            raise InputError(
                f"{here} has a class '{shown(lacking[0])}', which {there} does not have: sites "
                "have to name the same classes, also those of which they have no rows"
            )
    before, now = ours.sheet["preprocessing"], theirs.sheet["preprocessing"]
    found = preprocessing.differences(before, now)
    if found:
        raise InputError(
            f"{one.name} was made in another way than {first.name}: {shown('; '.join(found))}"
        )
    unsure = [*preprocessing.unknown(before, now), *preprocessing.other_versions(before, now)]
    if unsure:
        log.warning(
            "%s and %s may have been embedded in different ways: %s",
            *(one.name, first.name, shown(", ".join(unsure))),
        )


def _require_different(given: Sequence[Given], found: Sequence[Sequence[Site]]) -> None:
    """Raise InputError where the sums of one site would be added twice."""
    seen: dict[str, str] = {}
    for one, group in zip(given, found, strict=True):
        for site in group:
            if site.decoder in seen:
                raise InputError(
                    f"{one.name} and {seen[site.decoder]} have the same release of "
                    f"{shown(site.dataset)}: its rows would count twice"
                )
            seen[site.decoder] = one.name


def _sites(bundle: Bundle) -> list[Site]:
    """The sites of a bundle, which may be merged itself."""
    sheet = bundle.sheet
    if sheet["anonymizer"] == Merged.name:
        return sites.of(sheet["facts"])
    fingerprint, factors = sheet["fingerprints"]["decoder"], [1.0] * len(noisy_sums.OF_NOISE)
    return [Site(sheet["dataset"], fingerprint, sheet["settings"], sheet["facts"], factors)]


def _in_order(bundle: Bundle, first: Bundle) -> Sums:
    """The sums of a bundle with the classes in the order that `first` has."""
    assert isinstance(bundle.decoder, Gaussians)
    own = receiving.class_names(bundle)
    order = [own.index(name) for name in receiving.class_names(first)]
    sums = bundle.decoder.sums
    return sums._replace(counts=sums.counts[order], class_sums=sums.class_sums[order])


def _dataset(given: Sequence[Given]) -> str:
    """The name that all datasets have, or their names together."""
    found = sorted({one.bundle.sheet["dataset"] for one in given})
    together = "+".join(found)
    return together if len(together) <= LONGEST else f"{len(found)} datasets"


def _said(given: Sequence[Given], name: str) -> str:
    """What the bundles say, each thing once."""
    return "; ".join(dict.fromkeys(filter(None, (one.bundle.sheet[name] for one in given))))
