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
from src.core.records import Subject
from src.core.settings import Settings
from src.database import IDENTITY, PERSON, ROW, EmbeddingSet

if TYPE_CHECKING:
    from src.core.devices import Resources
    from src.networks.cvae import Decoder


class Rows(NamedTuple):
    """What a method gives back."""

    embeddings: np.ndarray  # (m, D) float32
    labels: np.ndarray  # (m,) int64
    facts: dict[str, Any]  # what the run found out, for the file's meta (JSON values)


@dataclass(frozen=True, kw_only=True)
class Anonymizer(Settings, ABC):
    """A method with its settings, such as k-Same with k = 5."""

    name: ClassVar[str]
    seeded: ClassVar[bool] = True  # another seed gives another release
    private: ClassVar[bool] = False  # differentially private

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
        rows, labels, facts = self.release(train, val, seed=seed, resources=resources)
        if self.name != IDENTITY:
            rows, labels = ordered(rows, labels)
        inherited = ("dataset", "backbone", "class_names")
        meta = {
            **{key: train.meta[key] for key in inherited if key in train.meta},
            "split": "train",
            **self.origin(train, val, seed=seed),
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

    def subject(self, seed: int, released: EmbeddingSet | None = None) -> Subject:
        """What records say of this method's release, or of fresh draws."""
        return Subject(
            id=self.release_id(seed),
            anonymizer=self.name,
            settings=dataclasses.asdict(self),
            rows=released.fingerprint if released else None,
        )

    def release_id(self, seed: int) -> str:
        """The id in file names: `ksame-5`, `cvae-s0`, `cvae-var0.5-s0`.

        Raises:
            InputError: so many settings are given that it is too long for a file's name.
        """
        tags = [self.name, *self.tags, *([f"s{seed}"] if self.seeded else [])]
        return names.checked("-".join(tags))

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
    """Rows (m, D) float32 and labels (m,) sorted by label, then by their values.

    The first features usually decide; more are sorted by where rows that agree in them differ.
    """
    width = 1
    while True:
        order = np.lexsort((*rows[:, :width].T[::-1], labels))
        first, classes = rows[order, :width], labels[order]
        agree = (classes[1:] == classes[:-1]) & (first[1:] == first[:-1]).all(1)
        before = np.flatnonzero(agree)
        same = rows[order[before]] == rows[order[before + 1]]
        if width >= rows.shape[1] or same.all():
            return rows[order], classes
        width *= 4


@dataclass(frozen=True, kw_only=True)
class Sampled(Anonymizer):
    """A method whose rows are drawn from a decoder."""

    @abstractmethod
    def decoder(
        self, train: EmbeddingSet, val: EmbeddingSet, *, seed: int, resources: Resources
    ) -> Decoder:
        """The fitted, frozen decoder, with what sampling needs of these settings.

        Raises:
            InputError: the settings do not fit the data, or training diverged.
        """

    def reference(self, train: EmbeddingSet, decoder: Decoder, *, seed: int) -> EmbeddingSet:
        """The rows that a head on fresh draws is standardised by: the real ones."""
        return train
