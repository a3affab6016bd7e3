"""What a sweep consists of: its YAML file as frozen settings, checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.audit.measures import MEASURES
from src.audit.settings import AuditSettings, OneRunSettings
from src.core.configs import read_yaml
from src.core.errors import InputError, UnknownNameError
from src.core.files import number_name, shell_path
from src.core.names import checked, checked_backbone
from src.probing import results
from src.probing.settings import HeadSettings

T = TypeVar("T")

REQUIRED = ("name", "datasets", "backbones", "seeds", "runs")
OPTIONAL = ("image_size", "sigma", "head", "audit", "report")
FIGURES = ("auc_sigma", "auc_distance", "projection")
AUDITED = ("shadow_auc",)  # the metrics of audits that a report shows if it does not say which


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a report shows.

    Attributes:
        metrics: the table's columns, among them metrics of the audits.
        sigma: the noise levels at which the table shows utility. What has no noise level of its
            own is taken at the first of them.
        figures: those to draw; `auc_<key>` is AUC against that metric of the audits.
        published: a file of values that were read in a paper, shown beside ours.
    """

    metrics: tuple[str, ...] = ("auc", results.DISTANCE)
    sigma: tuple[float, ...]
    figures: tuple[str, ...] = FIGURES
    published: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Every combination of dataset, backbone, anonymizer, head, seed and noise level."""

    name: str
    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    sigma: tuple[float, ...]
    anonymizers: tuple[Anonymizer, ...]
    heads: tuple[HeadSettings, ...]
    shown: Shown
    image_size: int | None = None  # of images whose embeddings do not exist yet
    audit: AuditSettings | None = None  # None: releases are not audited
    one_run: OneRunSettings | None = None  # None: without one-run audits

    def embedded(self) -> Iterator[tuple[str, str]]:
        """Each dataset with each backbone."""
        return itertools.product(self.datasets, self.backbones)

    def judged(self) -> Iterator[tuple[str, str, HeadSettings]]:
        """Each dataset with each backbone and head: where anonymizers compete."""
        return itertools.product(self.datasets, self.backbones, self.heads)

    def seeded(self) -> Iterator[tuple[Anonymizer, int]]:
        """Each anonymizer with each seed."""
        return itertools.product(self.anonymizers, self.seeds)


def read(path: Path, datasets: Sequence[str] = (), backbones: Sequence[str] = ()) -> Sweep:
    """Read a sweep.

    Args:
        datasets, backbones: instead of the file's, where given.

    Raises:
        InputError: a key, name or value is unknown, missing, of the wrong type, out of range or
            given twice.
    """
    content = read_yaml(path)
    content |= {"datasets": [*datasets]} if datasets else {}
    content |= {"backbones": [*backbones]} if backbones else {}
    with located(str(path)):
        return _sweep(content, path.parent)


def expanded(entry: Mapping[str, Any]) -> list[Anonymizer]:
    """The anonymizers of `anonymizer: NAME` and settings, each a value or a list of values.

    Raises:
        InputError: a name is unknown, or a value invalid.
    """
    settings = {str(name): value for name, value in entry.items()}
    method = _text("anonymizer", settings.pop("anonymizer", None))
    for name, value in settings.items():
        if value == []:
            raise InputError(f"{name} is an empty list")
    choices = [value if isinstance(value, list) else [value] for value in settings.values()]
    return [
        methods.parse(method, dict(zip(settings, chosen, strict=True)), methods.ALL)
        for chosen in itertools.product(*choices)
    ]


@contextmanager
def located(place: str) -> Iterator[None]:
    """Put the place of a mistake in front of its message; keys have no dashes as flags do."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {str(error).removeprefix('--')}") from error


def _sweep(content: Mapping[str, Any], folder: Path) -> Sweep:
    _check_known("key", content, (*REQUIRED, *OPTIONAL))
    for key in REQUIRED:
        if key not in content:
            raise InputError(f"the key '{key}' is missing")
    sigma = _values("sigma", content.get("sigma", 0.0), _non_negative)
    audit, one_run = _audit(content.get("audit"))
    return Sweep(
        name=_plain_name("name", content["name"]),
        datasets=_values("datasets", content["datasets"], _plain_name),
        backbones=_values("backbones", content["backbones"], _backbone),
        seeds=_values("seeds", content["seeds"], _seed),
        sigma=sigma,
        anonymizers=_anonymizers(content["runs"]),
        heads=_heads(content.get("head")),
        shown=_shown(_mapping("report", content.get("report")), sigma, audit, folder),
        audit=audit,
        one_run=one_run,
        image_size=_image_size(content.get("image_size")),
    )


def _heads(value: Any) -> tuple[HeadSettings, ...]:
    """The settings of one head, or a list of such; `{}` is the published head."""
    entries = value if isinstance(value, list) else [value]
    heads = [HeadSettings.parse(_mapping("head", entry), of="head") for entry in entries]
    suffixes = [head.suffix for head in heads]
    if not heads or len(set(suffixes)) < len(heads):
        raise InputError("head must list heads that differ in head or clip, each once")
    return tuple(heads)


def _image_size(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise InputError(f"image_size must be a whole number of pixels, not {value!r}")
    return value


def _audit(value: Any) -> tuple[AuditSettings | None, OneRunSettings | None]:
    """`true`, or the settings that are not the default; `false` or nothing for no audits."""
    if isinstance(value, bool) or value is None:
        return (AuditSettings() if value else None), None
    given = dict(_mapping("audit", value))
    one_run = given.pop("one_run", False)
    if not isinstance(one_run, bool):
        raise InputError(f"audit: one_run must be true or false, not {one_run!r}")
    audit = AuditSettings.parse(given, of="audit")
    return audit, OneRunSettings(unit=audit.unit) if one_run else None


def _anonymizers(entries: Any) -> tuple[Anonymizer, ...]:
    if not isinstance(entries, list) or not entries:
        raise InputError("runs must be a list with at least one anonymizer")
    found: dict[str, Anonymizer] = {}
    for number, entry in enumerate(entries, start=1):
        with located(f"runs, entry {number}"):
            for anonymizer in expanded(_mapping("it", entry)):
                name = anonymizer.release_id(0)
                if name in found:
                    raise InputError(f"{anonymizer.label} is listed twice")
                found[name] = anonymizer
    return tuple(found.values())


def _shown(
    content: Mapping[str, Any],
    sigma: tuple[float, ...],
    audit: AuditSettings | None,
    folder: Path,
) -> Shown:
    given = dict(content)
    _check_known("key of report", given, [field.name for field in fields(Shown)])
    audited = tuple(MEASURES) if audit else ()
    if audit:
        default = AUDITED if audit.shadows else ("nearest_auc",)
        given.setdefault("metrics", [*Shown.metrics, *default])
        given.setdefault("figures", [*FIGURES, *(f"auc_{key}" for key in default)])
    names = {
        "metrics": (*results.METRICS, *audited),
        "figures": (*FIGURES, *(f"auc_{key}" for key in audited)),
    }
    for key, valid in names.items():
        if key in given:
            given[key] = () if given[key] == [] else _values(key, given[key], _text)
            _check_known(f"name in report's {key}", given[key], valid)
    given["sigma"] = _values("sigma", given.get("sigma", list(sigma)), _non_negative)
    for level in given["sigma"]:
        if level not in sigma:
            raise InputError(f"report: sigma {level:g} is not among the sweep's")
    if "published" in given:
        given["published"] = folder / shell_path(_text("published", given["published"]))
    return Shown(**given)


# Checks. Most take a key's name and its value, and return the value in its type.


def _check_known(kind: str, given: Iterable[Any], valid: Iterable[str]) -> None:
    for name in given:
        if name not in valid:
            raise UnknownNameError(kind, str(name), valid)


def _values(key: str, value: Any, check: Callable[[str, Any], T]) -> tuple[T, ...]:
    """One value or a list of values, each of them once."""
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
    return {str(name): item for name, item in (value or {}).items()}


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key} must be a name, not {value!r}")
    return value


def _plain_name(key: str, value: Any) -> str:
    name = _text(key, value)
    with located(key):
        return checked(name)


def _backbone(key: str, value: Any) -> str:
    name = _text(key, value)
    with located(key):
        return checked_backbone(name)


def _seed(key: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{key} must be whole numbers, 0 or above, not {value!r}")
    return value


def _non_negative(key: str, value: Any) -> float:
    if not is_number(value) or value < 0:
        raise InputError(f"{key} must be numbers, 0 or above, not {value!r}")
    return float(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether YAML gave a finite number; `true` is not one."""
    return type(value) in (int, float) and math.isfinite(value)
