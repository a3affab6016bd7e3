"""How images became rows: what a datasheet says of it, and how two ways differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

COMPARED = ("weights", "input_size", "transform", "precision", "window")
LIBRARIES = ("timm", "torch", "torchvision")  # whose versions can change the last digits
LONGEST = 80  # characters of a value in a message


def of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the `meta` of real embeddings says of it.

    The window, which grey values became black and white, is of images of more than 8 bits.
    """
    facts = meta.get("facts", {})
    dataset, backbone = (_mapping(facts.get(name)) for name in ("dataset", "backbone"))
    versions = _mapping(meta.get("versions"))
    known = {name: versions[name] for name in LIBRARIES if name in versions}
    return {
        "image_size": meta.get("image_size"),
        "precision": meta.get("precision"),
        **backbone,
        **({"window": dataset["window"]} if "window" in dataset else {}),
        **({"versions": known} if known else {}),
    }


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What both ways say and say differently, each as `name ours instead of theirs`.

    Args:
        theirs: what the datasheet of a bundle says, which may be anything that JSON can hold.
    """
    flat = [{}, {}]  # type: list[dict[str, Any]]
    for found, way in zip(flat, (theirs, ours), strict=True):
        for name in COMPARED:
            value = way.get(name)
            parts = {f"{name} {key}": part for key, part in value.items()} if isinstance(
                value, Mapping
            ) else {name: value}  # fmt: skip
            found |= {key: _text(part) for key, part in parts.items() if part is not None}
    bundle, own = flat
    return [
        f"{name} {own[name]:.{LONGEST}} instead of {bundle[name]:.{LONGEST}}"
        for name in bundle.keys() & own.keys()
        if bundle[name] != own[name]
    ]


def unknown(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What only one of the two ways says."""
    return [name for name in COMPARED if (theirs.get(name) is None) != (ours.get(name) is None)]


def other_versions(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Libraries of which the two ways used other versions, each as `name ours, not theirs`."""
    before, now = (_mapping(way.get("versions")) for way in (theirs, ours))
    return [
        f"{name} {now[name]:.{LONGEST}}, not {_text(before[name]):.{LONGEST}}"
        for name in LIBRARIES
        if name in now and name in before and now[name] != before[name]
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
