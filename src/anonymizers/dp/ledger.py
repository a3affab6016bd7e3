"""The ledger of a dataset: what its private releases have spent, and what they may spend.

`<database_root>/<dataset>/privacy.json` counts the releases of all backbones, as they embed the
same images. Two releases of the same rows add up; the same release made again costs nothing, as
it has the same noise. The budget is looked at before a release is computed, and again when it is
entered, which is before its file is written: no release exists without an entry.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.anonymizers.base import Anonymizer
from src.anonymizers.dp import analytic, budgets, keys
from src.anonymizers.settings import GuaranteeSettings, SumSettings
from src.core.devices import Resources
from src.core.errors import DataError, InputError, OutputError, reason
from src.core.files import read_json, write_json
from src.core.provenance import fingerprint_arrays, versions
from src.core.records import FORMAT
from src.database import Database, EmbeddingSet

NAME = "privacy.json"
WAIT = 60  # seconds for another process to write its entry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A private release, and what it spends."""

    release: str
    backbone: str
    unit: str  # whom its guarantee is given
    epsilon: float
    delta: float
    noise_multiplier: float | None  # of the Gaussian mechanism that it amounts to, if it is one
    identity: str  # the same for the same rows, settings, seed and secret key


@dataclass(frozen=True)
class Ledger:
    """The private releases of a dataset.

    Attributes:
        budget: the most ε that all of them may spend together; None: no limit.
    """

    releases: tuple[Entry, ...] = ()
    budget: float | None = None

    def __contains__(self, entry: Entry) -> bool:
        return any(known.identity == entry.identity for known in self.releases)

    def spending(self, entry: Entry) -> Ledger:
        """The ledger with that release.

        Raises:
            InputError: all releases together would exceed the budget.
        """
        if entry in self:
            return self
        after = dataclasses.replace(self, releases=(*self.releases, entry))
        spent, delta = after.spent
        if self.budget is not None and spent > self.budget:
            raise InputError(
                f"{entry.release} would bring what has been spent from epsilon "
                f"{self.spent[0]:.4g} to {spent:.4g} (delta {delta:.3g}), above the budget of "
                f"{self.budget:g} (--budget)"
            )
        return after

    @property
    def spent(self) -> tuple[float, float]:
        """ε and δ of all releases together."""
        return composed(self.releases)


def composed(entries: Iterable[Entry]) -> tuple[float, float]:
    """ε and δ of several releases of the same rows together.

    Both add up (Dwork and Roth, 2014, theorem 3.16). Gaussian mechanisms are composed exactly
    among themselves first, which is less.
    """
    whole = list(entries)
    gaussian = [entry for entry in whole if entry.noise_multiplier is not None]
    epsilon, delta = (math.fsum(getattr(e, name) for e in whole) for name in ("epsilon", "delta"))
    if len(gaussian) < 2:
        return epsilon, delta
    noise = analytic.composed(entry.noise_multiplier or 0.0 for entry in gaussian)
    together = analytic.epsilon(noise, math.fsum(entry.delta for entry in gaussian))
    apart = math.fsum(entry.epsilon for entry in gaussian)
    return epsilon - apart + min(apart, together), delta


def require_budget(database: Database, entry: Entry | None, budget: float | None = None) -> None:
    """Refuse a release that would exceed its dataset's budget, before it is made.

    Args:
        entry: None for a release without a guarantee, which spends nothing.
        budget: of all private releases of the dataset; None: that of the ledger.

    Raises:
        InputError: the budget would be exceeded, or concerns a release without a guarantee.
        DataError: the ledger is damaged.
    """
    if entry is not None:
        _limited(read(_path(database)), budget).spending(entry)
    elif budget is not None:
        raise InputError("--budget has no effect on a release without a guarantee")


def enter(database: Database, entry: Entry | None, budget: float | None = None) -> None:
    """Enter a release that is made and not yet written.

    Args:
        entry: None for a release without a guarantee.
        budget: of all private releases of the dataset, from now on; None leaves it as it is.

    Raises:
        InputError: others have spent the budget meanwhile.
        DataError: the ledger is damaged.
        OutputError: it cannot be written.
    """
    if entry is None:
        return
    path = _path(database)
    with _locked(path):
        after = _limited(read(path), budget).spending(entry)
        write(path, after)
    if len(after.releases) > 1 or after.budget is not None:
        epsilon, delta = after.spent
        limit = "" if after.budget is None else f" of {after.budget:g}"
        log.info(
            "%d private releases of %s: epsilon %.4g%s, delta %.3g in all",
            *(len(after.releases), database.dataset, epsilon, limit, delta),
        )


def _path(database: Database) -> Path:
    return database.root / database.dataset / NAME


def _limited(ledger: Ledger, budget: float | None) -> Ledger:
    return ledger if budget is None else dataclasses.replace(ledger, budget=budget)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from the ledger within the block.

    Raises:
        OutputError: another process keeps this one waiting, or the folder cannot be written.
    """
    lock = FileLock(f"{path}.lock", timeout=WAIT)
    try:
        lock.acquire()
    except OSError as error:  # Timeout is one
        raise OutputError(f"{path} cannot be locked: {reason(error)}") from error
    try:
        yield
    finally:
        lock.release()


def entry(
    database: Database,
    anonymizer: Anonymizer,
    train: EmbeddingSet,
    *,
    seed: int,
    resources: Resources,
) -> Entry | None:
    """What a release spends; None where it has no guarantee.

    Raises:
        InputError: its δ does not fit the number of rows (persons).
        OutputError: the secret key cannot be written or read.
    """
    if not isinstance(anonymizer, GuaranteeSettings):
        return None
    assert isinstance(anonymizer, Anonymizer)  # of whose settings those are a part
    rows = train.by(anonymizer.unit)
    protects, count = budgets.protected(rows)
    delta = budgets.delta(anonymizer, count, protects)
    closed = isinstance(anonymizer, SumSettings)
    depends_on = {
        "rows": rows.fingerprint,
        "persons": None if rows.persons is None else fingerprint_arrays(rows.persons),
        "anonymizer": anonymizer.name,
        "settings": dataclasses.asdict(anonymizer),
        "backbone": database.backbone,
        "seed": seed,
        "machine": [resources.device.type, versions()["torch"]],
    }
    key = keys.existing(resources.ckpt_folder)
    text = json.dumps(depends_on, sort_keys=True)
    return Entry(
        release=anonymizer.release_id(seed),
        backbone=database.backbone,
        unit=protects,
        epsilon=anonymizer.epsilon,
        delta=delta,
        noise_multiplier=analytic.noise_multiplier(anonymizer.epsilon, delta) if closed else None,
        # with the secret key, so that no list of rows or persons can be tried against it
        identity=hmac.digest(key.encode(), f"ledger/{text}".encode(), "sha256").hex()[:32],
    )


def read(path: Path) -> Ledger:
    """The ledger in that file; an empty one where none exists.

    Raises:
        DataError: it is not a ledger.
    """
    if not path.exists():
        return Ledger()
    content = read_json(path)
    try:
        releases = tuple(Entry(**entry) for entry in content["releases"])
        ledger = Ledger(releases, content["budget"])
        epsilon, delta = ledger.spent
        whole = epsilon >= 0 and delta >= 0 and content["format"] == FORMAT
    except (KeyError, TypeError, ValueError, ArithmeticError):
        whole = False
    if not whole:
        raise DataError(f"{path} is not a ledger of private releases; restore it from a copy")
    return ledger


def write(path: Path, ledger: Ledger) -> None:
    """Write a ledger.

    Raises:
        OutputError: the file cannot be written.
    """
    content: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(ledger)}
    write_json(path, content)
