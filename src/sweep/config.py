"""A sweep's YAML file as frozen settings, all of them checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from src import anonymizers, results
from src.anonymizers import Anonymizer
from src.anonymizers.settings import Settings
from src.audit.measures import MEASURES
from src.audit.results import AuditSettings
from src.errors import InputError, UnknownNameError
from src.files import number_name, read_yaml
from src.head import HeadSettings

FIGURES = ("auc_sigma", "auc_distance", "projection")
AUDITED = ("shadow_auc",)  # what a report shows of audits unless it says what


class Variant(NamedTuple):
    """An anonymizer with its settings: a line of a table."""

    anonymizer: Anonymizer
    settings: Settings

    @property
    def values(self) -> dict[str, Any]:
        """All settings by name."""
        return {f.name: getattr(self.settings, f.name) for f in fields(self.settings)}

    @property
    def label(self) -> str:
        """`cvae-online (variance=0.5)`: the settings that are not the default."""
        given = [
            f"{f.name}={number_name(self.values[f.name])}"
            for f in fields(self.settings)
            if self.values[f.name] != f.default
        ]
        return self.anonymizer.name + (f" ({', '.join(given)})" if given else "")

    def release_id(self, seed: int) -> str:
        """The id of what it releases with that seed."""
        return self.anonymizer.release_id(self.settings, seed)

    def fit_id(self, seed: int) -> str:
        """The same for all variants and seeds that one grouping or fitted model serves."""
        parts = [self.anonymizer.module, *self.settings.for_fit().tags]
        return "-".join([*parts, f"s{seed}"] if self.anonymizer.seeded else parts)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report shows.

    Attributes:
        metrics: the table's columns, figures of the audits among them.
        sigma: the noise levels at which the table shows utility.
        figures: those to draw; `auc_<key>` is AUC against that figure of the audits.
        published: a file of values that were read in a paper, shown beside ours.
    """

    metrics: tuple[str, ...] = ("auc", results.DISTANCE)
    sigma: tuple[float, ...]
    figures: tuple[str, ...] = FIGURES
    published: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Every combination of data set, backbone, variant, seed and noise level."""

    name: str
    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    sigma: tuple[float, ...]
    variants: tuple[Variant, ...]
    head: HeadSettings
    contents: Contents
    audit: AuditSettings | None = None  # None: releases are not audited

    def tables(self) -> Iterator[tuple[str, str]]:
        """Each data set with each backbone."""
        return itertools.product(self.datasets, self.backbones)


def read(path: Path) -> Sweep:
    """Read a sweep.

    Raises:
        InputError: a key, name or value that is unknown, missing, of the wrong type, out of
            range or there twice.
    """
    content = read_yaml(path)
    try:
        return _sweep(content, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix('--')}") from error


def _sweep(content: Mapping[str, Any], folder: Path) -> Sweep:
    _check_keys(
        "key",
        content,
        valid=(
            "name",
            "datasets",
            "backbones",
            "seeds",
            "sigma",
            "head",
            "runs",
            "audit",
            "report",
        ),
        required=("name", "datasets", "backbones", "seeds", "runs"),
    )
    sigma = _values("sigma", content.get("sigma", [0.0]), _non_negative)
    head = _mapping("head", content.get("head"))
    _check_keys("setting of head", head, valid=[f.name for f in fields(HeadSettings)])
    audit = _audit(content.get("audit"))
    return Sweep(
        name=_plain_name("name", content["name"]),
        datasets=_values("datasets", content["datasets"], _plain_name),
        backbones=_values("backbones", content["backbones"], _text),
        seeds=_values("seeds", content["seeds"], _seed),
        sigma=sigma,
        variants=_variants(content["runs"]),
        head=HeadSettings(**head),
        contents=_contents(_mapping("report", content.get("report")), sigma, folder, audit),
        audit=audit,
    )


def _audit(value: Any) -> AuditSettings | None:
    """`true`, or the settings that are not the default; `false` or nothing for no audits."""
    if isinstance(value, bool) or value is None:
        return AuditSettings() if value else None
    given = _mapping("audit", value)
    _check_keys("setting of audit", given, valid=[f.name for f in fields(AuditSettings)])
    return AuditSettings(**{name: _seed(f"audit's {name}", v) for name, v in given.items()})


def _variants(entries: Any) -> tuple[Variant, ...]:
    if not isinstance(entries, list) or not entries:
        raise InputError("runs must be a list with at least one anonymizer")
    found: dict[str, Variant] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            for variant in expanded(_mapping("it", entry)):
                name = variant.release_id(0)
                if name in found:
                    raise InputError(f"{variant.label} is there already")
                found[name] = variant
        except InputError as error:
            raise InputError(f"runs, entry {number}: {str(error).removeprefix('--')}") from error
    return tuple(found.values())


def expanded(entry: Mapping[str, Any]) -> list[Variant]:
    """The variants of `anonymizer: NAME` and settings, each a value or a list of values.

    Raises:
        InputError: an unknown name, or a value that does not fit.
    """
    settings = {str(name): value for name, value in entry.items()}
    anonymizer = anonymizers.get(_text("anonymizer", settings.pop("anonymizer", None)))
    for name, value in settings.items():
        if value == []:
            raise InputError(f"{name} is an empty list")
    choices = [v if isinstance(v, list) else [v] for v in settings.values()]
    return [
        Variant(anonymizer, anonymizer.parse(dict(zip(settings, chosen, strict=True))))
        for chosen in itertools.product(*choices)
    ]


def _contents(
    content: Mapping[str, Any],
    sigma: tuple[float, ...],
    folder: Path,
    audit: AuditSettings | None,
) -> Contents:
    given = dict(content)
    _check_keys("key of report", given, valid=[f.name for f in fields(Contents)])
    audited = tuple(MEASURES) if audit else ()
    plots = tuple(f"auc_{key}" for key in audited)
    if audit:
        shown = AUDITED if audit.shadows else ("nearest_auc",)
        given.setdefault("metrics", [*Contents.metrics, *shown])
        given.setdefault("figures", [*FIGURES, *(f"auc_{key}" for key in shown)])
    for key, valid in (("metrics", (*results.METRICS, *audited)), ("figures", (*FIGURES, *plots))):
        if key in given:
            given[key] = () if given[key] == [] else _values(key, given[key], _text)
            _check_keys(f"name in report's {key}", given[key], valid=valid)
    given["sigma"] = _values("sigma", given.get("sigma", list(sigma)), _non_negative)
    unseen = [s for s in given["sigma"] if s not in sigma]
    if unseen:
        raise InputError(f"report: sigma {unseen[0]:g} is not among the sweep's")
    if "published" in given:
        given["published"] = folder / _text("published", given["published"])
    return Contents(**given)


# Checks: each takes the key's name and its value, and returns the value in its type.


def _check_keys(
    kind: str, given: Sequence[str] | Mapping[str, Any], *, valid: Sequence[str],
    required: Sequence[str] = (),
) -> None:  # fmt: skip
    for key in given:
        if key not in valid:
            raise UnknownNameError(kind, str(key), valid)
    for key in required:
        if key not in given:
            raise InputError(f"the {kind} '{key}' is missing")


def _values(key: str, value: Any, check: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    """One value or a list of values, none of them twice."""
    values = [check(key, v) for v in (value if isinstance(value, list) else [value])]
    if not values:
        raise InputError(f"{key} is an empty list")
    names = [number_name(v) if isinstance(v, float) else str(v) for v in values]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{key} has {twice[0]} twice")
    return tuple(values)


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict | None):
        raise InputError(f"{key} must hold 'name: value' pairs, not {value!r}")
    return value or {}


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key} must be a name, not {value!r}")
    return value


def _plain_name(key: str, value: Any) -> str:
    if _text(key, value) in ("", "..") or Path(value).name != value:
        raise InputError(f"{key}: '{value}' is not a name (a path cannot be one)")
    return str(value)


def _seed(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{key} must be whole numbers, 0 or above, not {value!r}")
    return value


def _non_negative(key: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise InputError(f"{key} must be numbers, 0 or above, not {value!r}")
    return float(value)
