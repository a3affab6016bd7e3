"""What every method is: a name, its settings, and a way to anonymize the training rows."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from src.core import names
from src.core.files import value_name
from src.core.provenance import versions
from src.core.records import Subject, unit_of
from src.core.settings import Settings
from src.database import IDENTITY, PERSON, ROW, EmbeddingSet

if TYPE_CHECKING:
    from src.core.devices import Resources
    from src.networks.sampling import Sampler

CHUNK, COLUMNS = 1 << 22, 16  # elements that are compared, features that are moved at once


class Rows(NamedTuple):
    """What a method gives back."""

    embeddings: np.ndarray  # (m, D) float32, a new array (except for the identity's)
    labels: np.ndarray  # (m,) int64
    facts: dict[str, Any]  # what the run found out, for the file's meta (JSON values)


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """What made a release: a name and settings, which its id consists of."""

    name: ClassVar[str]
    seeded: ClassVar[bool] = True  # another seed gives another release
    private: ClassVar[bool] = False  # differentially private

    def release_id(self, seed: int) -> str:
        """The id in file names: `ksame-5`, `cvae-s0`, `cvae-var0.5-s0`.

        Raises:
            InputError: so many settings are given that it is too long for a file's name.
        """
        tags = [self.name, *self.tags, *([f"s{seed}"] if self.seeded else [])]
        return names.checked("-".join(tags))


@dataclass(frozen=True, kw_only=True)
class Anonymizer(Method, ABC):
    """A method that anonymizes training rows, such as k-Same with k = 5."""

    @abstractmethod
    def release(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Rows:
        """Anonymize `train`. Heavy code is imported here, so that `--help` need not wait for it.

        Raises:
            InputError: the settings do not fit the data (k above n, ...).
        """

    def anonymize(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> EmbeddingSet:
        """The released rows, with a `meta` that says how they were made.

        Their order says nothing of the originals': whoever has the list of files must not learn
        from a row's place whose it is.

        Raises:
            InputError: the settings do not fit the data (k above n, ...).
        """
        origin = self.origin(train, val, seed=seed)
        rows, labels, facts = self.release(train, val, seed=seed, resources=resources)
        if self.name != IDENTITY:
            labels = labels.copy()
            sort(rows, labels)
        inherited = ("dataset", "backbone", "class_names")
        meta = {
            **{key: train.meta[key] for key in inherited if key in train.meta},
            "split": "train",
            **origin,
            "device": resources.device.type,
            "facts": facts,
            "versions": versions(),
        }
        return EmbeddingSet(rows, labels, meta)

    def origin(self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int) -> dict[str, Any]:
        """The part of `meta` that determines the rows, except for versions and device."""
        return {
            "anonymizer": self.name,
            "settings": dataclasses.asdict(self),
            "unit": self.protects(train),
            "seed": seed if self.seeded else None,
            "source": {"train": train.fingerprint, "val": val.fingerprint},
        }

    def protects(self, train: EmbeddingSet) -> str:
        """What the release's promise is made to, PERSON or ROW."""
        unit = getattr(self, "unit", ROW)
        return ROW if train.by(unit).persons is None else PERSON

    def subject(self, seed: int, released: EmbeddingSet | None = None, unit: str = ROW) -> Subject:
        """What records say of this method's release, or of fresh draws.

        Args:
            unit: of fresh draws, as `protects` says; a release says it itself.
        """
        return Subject(
            id=self.release_id(seed),
            anonymizer=self.name,
            settings=dataclasses.asdict(self),
            rows=released.fingerprint if released else None,
            unit=unit_of(released.meta) if released else unit,
        )

    def fit_id(self, seed: int) -> str:
        """The same for all methods and seeds that one grouping or fitted model serves."""
        model = self.name.removesuffix("-online")
        return "-".join([model, *self.for_fit().tags, *([f"s{seed}"] if self.seeded else [])])

    @property
    def label(self) -> str:
        """`cvae (variance=0.5)`: the name and the settings that are not the default."""
        values = ", ".join(f"{name}={value_name(value)}" for name, value in self.given.items())
        return f"{self.name} ({values})" if values else self.name


def ordered(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m, D) float32 and labels (m,) in the order that `sort` gives them."""
    rows, labels = rows.copy(), labels.copy()
    sort(rows, labels)
    return rows, labels


def sort(rows: np.ndarray, labels: np.ndarray) -> None:
    """Sort rows (m, D) float32 and labels (m,) by label, then by the rows' values, in place.

    The first features usually decide; more are looked at where rows that agree in them differ.
    Beside the rows only a few of their columns are held.
    """
    width = 1
    while not is_sorted(rows, labels):
        width = min(4 * width, rows.shape[1])
        order = np.lexsort((*rows[:, :width].T[::-1], labels))
        labels[:] = labels[order]
        for start in range(0, rows.shape[1], COLUMNS):
            part = rows[:, start : start + COLUMNS]
            part[:] = part[order]


def is_sorted(rows: np.ndarray, labels: np.ndarray) -> bool:
    """Whether rows (m, D) are in the order that `sort` gives them."""
    step = max(1, CHUNK // rows.shape[1])
    for start in range(0, len(rows) - 1, step):
        part = slice(start, start + step + 1)  # whose last row is the first of the next part
        above, below = rows[part][:-1], rows[part][1:]
        feature = (above != below).argmax(1)[:, None]  # the first that differs
        falls = np.take_along_axis(above, feature, 1) > np.take_along_axis(below, feature, 1)
        change = np.diff(labels[part])
        if ((change < 0) | ((change == 0) & falls[:, 0])).any():
            return False
    return True


@dataclass(frozen=True, kw_only=True)
class Sampled(Anonymizer):
    """A method whose rows are drawn from a decoder."""

    @abstractmethod
    def decoder(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Sampler:
        """The fitted, frozen decoder, with what sampling needs of these settings.

        Raises:
            InputError: the settings do not fit the data, or training diverged.
        """

    def reference(self, train: EmbeddingSet, decoder: Sampler, *, seed: int) -> EmbeddingSet:
        """The rows that a head on fresh draws is standardised by: the real ones."""
        return train
