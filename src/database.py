"""Embedding sets and the .npz files that hold them.

`<database_root>/<dataset>/<backbone>/{train,val,test}.npz` are the real embeddings,
`train_<release>.npz` beside them the anonymized training sets.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from src.core import classes, meta, records
from src.core.arrays import (
    allowance,
    checked_embeddings,
    checked_labels,
    checked_persons,
    read_arrays,
    write_arrays,
)
from src.core.errors import DataError, InputError, MissingFileError
from src.core.files import replacing
from src.core.provenance import fingerprint_arrays

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPLITS = ("train", "val", "test")
PERSON, ROW = UNITS = records.UNITS  # what groups and guarantees are of
IDENTITY = "identity"  # the id of the real training embeddings as a release


@dataclass(frozen=True)
class EmbeddingSet:
    """Rows of one split: embeddings (n, D) float32, labels (n,) int64 in 0..C-1, and `meta`.

    Attributes:
        persons: (n,) int64, whose each row is, in one numbering for all splits; None where that
            is not known. Real rows alone have them: they are never part of a release.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)
    persons: np.ndarray | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of embeddings and labels; not of persons, of which a list could be tried."""
        return fingerprint_arrays(self.embeddings, self.labels)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.embeddings.shape[1])

    @property
    def num_classes(self) -> int:
        """C: one more than the largest label."""
        return int(self.labels.max()) + 1

    @property
    def class_names(self) -> list[str]:
        """The names of the classes 0..C-1, from `meta` where it has them, else their numbers."""
        names = self.meta.get("class_names") or []
        known = len(names) >= self.num_classes
        return [str(name) for name in (names if known else range(self.num_classes))]

    def by(self, unit: str | None) -> EmbeddingSet:
        """These rows with their persons where the unit is the person, else without.

        Args:
            unit: PERSON, ROW, or None: the person where persons are known.

        Raises:
            InputError: the unit is the person and persons are not known.
        """
        if unit == PERSON and self.persons is None:
            raise InputError(f"--unit {PERSON}: the embeddings do not say whose they are")
        return replace(self, persons=None) if unit == ROW else self

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Embeddings and labels on the device."""
        import torch

        return (
            torch.from_numpy(self.embeddings).to(device),
            torch.from_numpy(self.labels).to(device),
        )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The three real splits of one dataset, checked against each other."""

    train: EmbeddingSet
    val: EmbeddingSet
    test: EmbeddingSet

    @property
    def num_classes(self) -> int:
        """C, classes without a training row among them where `meta` names them."""
        return len(self.train.class_names)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each split."""
        return {name: getattr(self, name).fingerprint for name in SPLITS}


@dataclass(frozen=True)
class Database:
    """The folder of one dataset embedded by one backbone."""

    root: Path
    dataset: str
    backbone: str

    @property
    def folder(self) -> Path:
        """`<database_root>/<dataset>/<backbone>`."""
        return self.folder_in(self.root)

    def folder_in(self, root: Path) -> Path:
        """`<root>/<dataset>/<backbone>`; a hub name's slashes and colons become underscores."""
        return root / self.dataset / self.backbone.replace("/", "_").replace(":", "_")

    def path(self, split: str, release: str = "") -> Path:
        """The file of a split, or of the training split's release of that id."""
        return self.folder / (f"{split}_{release}.npz" if release else f"{split}.npz")

    def write(self, split: str, data: EmbeddingSet, release: str = "") -> Path:
        """Write a split, or a release of the training split, and return its path.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.path(split, release)
        write(path, data)
        return path

    def require_own(self) -> None:
        """Raise DataError, before work, where the folder is another backbone's (a/b, a_b)."""
        for path in filter(Path.exists, map(self.path, SPLITS)):
            try:
                data = _read_usable(path)
            except DataError:  # a damaged file may be replaced
                continue
            self._check_backbone(path, data)

    def read(self) -> Splits:
        """Read and check train, val and test.

        Raises:
            MissingFileError, DataError: a file is absent, damaged, or does not fit the others;
                or nothing can be learnt from the labels.
        """
        train, val, test = map(self.read_split, SPLITS)
        train_path = self.path("train")
        classes.require_numbered(train_path, train.labels)
        val = check_fits(train, val, train_path, self.path("val"))
        test = check_fits(train, test, train_path, self.path("test"))
        if np.ptp(test.labels) == 0:
            raise DataError(f"{self.path('test')} has one class only; AUC needs two")
        if len({split.persons is None for split in (train, val, test)}) > 1:
            raise DataError(f"{self.folder}: some splits say whose their rows are, others do not")
        return Splits(train, val, test)

    def read_release(self, release_id: str, train: EmbeddingSet) -> EmbeddingSet:
        """Read an anonymized training set and check it against the real one it replaces.

        The id `identity` stands for the real one itself.

        Raises:
            MissingFileError, DataError: absent, damaged, or made from other embeddings.
        """
        if release_id == IDENTITY:
            return train
        path = self.path("train", release_id)
        if not path.exists():
            raise MissingFileError(
                f"{path} does not exist; make it with: python anonymize.py --dataset "
                f"{self.dataset} --backbone {self.backbone} and the same anonymizer, settings "
                "and seed"
            )
        released = _read_usable(path)
        self._check_backbone(path, released)
        released = check_fits(train, released, self.path("train"), path)
        source = released.meta.get("source", {}).get("train")
        if source not in (None, train.fingerprint):
            raise DataError(
                f"{path} was made from other embeddings (fingerprint {source}) than "
                f"{self.path('train')} (fingerprint {train.fingerprint}); run anonymize.py again"
            )
        return released

    def read_split(self, split: str) -> EmbeddingSet:
        """Read one split; raise MissingFileError or DataError where it is not usable."""
        path = self.path(split)
        if not path.exists():
            raise MissingFileError(
                f"{path} does not exist; make it with: python create_db.py --dataset "
                f"{self.dataset} --backbone {self.backbone}"
            )
        data = _read_usable(path)
        self._check_backbone(path, data)
        return data

    def _check_backbone(self, path: Path, data: EmbeddingSet) -> None:
        theirs = data.meta.get("backbone", self.backbone)
        if theirs != self.backbone:
            raise DataError(
                f"{path} holds embeddings by backbone '{theirs}', not '{self.backbone}'"
            )


def write(path: Path, data: EmbeddingSet) -> None:
    """Write a set as .npz, whole or not at all; compressed where that saves a third.

    What shrinks so much that `read` would suspect it stays as it is.

    Raises:
        OutputError: the file cannot be written.
    """
    sample = np.ascontiguousarray(data.embeddings, dtype=np.float32).reshape(-1)[: 1 << 18]
    pays = len(zlib.compress(sample.data, 1)) < 0.67 * sample.nbytes
    with replacing(path) as temporary, temporary.open("wb") as file:
        size = dump(file, data, compressed=pays)
        if pays and size > allowance(file.tell()):
            file.seek(0)
            file.truncate()
            dump(file, data, compressed=False)


def dump(file: IO[bytes], data: EmbeddingSet, *, compressed: bool) -> int:
    """Write a set as .npz to an open file; uncompressed, its bytes follow from the set alone.

    Returns:
        The bytes of memory that reading it takes.

    Raises:
        DataError: `meta` is too long to be read again.
    """
    content: dict[str, np.ndarray] = {
        "embeddings": np.ascontiguousarray(data.embeddings, dtype=np.float32),
        "labels": np.ascontiguousarray(data.labels, dtype=np.int64),
        **({} if data.persons is None else {"persons": data.persons}),
        "meta": meta.to_array(data.meta),
    }
    return write_arrays(file, content, compressed=compressed)


def read(path: Path) -> EmbeddingSet:
    """Read a set; `meta` may be absent and labels may be shaped (n, 1).

    Raises:
        MissingFileError: the file does not exist.
        DataError: damaged, pickled, or content that breaks the format.
    """
    arrays = read_arrays(path)
    missing = [key for key in ("embeddings", "labels") if key not in arrays]
    if missing:
        raise DataError(
            f"{path} has no array '{missing[0]}' (found: {', '.join(sorted(arrays)) or 'none'})"
        )
    embeddings = checked_embeddings(path, arrays["embeddings"])
    labels = checked_labels(path, arrays["labels"])
    if len(embeddings) != len(labels):
        raise DataError(f"{path} has {len(embeddings)} embeddings but {len(labels)} labels")
    if len(labels) == 0:
        raise DataError(f"{path} is empty: it has no rows")
    persons = arrays.get("persons")
    if persons is not None:
        persons = checked_persons(path, persons, len(labels))
    return EmbeddingSet(embeddings, labels, meta.from_array(path, arrays.get("meta")), persons)


def _read_usable(path: Path) -> EmbeddingSet:
    """`read` without the items of a foreign `meta` that would be mistaken for ours."""
    data = read(path)
    meta.drop_foreign(data.meta)
    return data


def check_fits(
    train: EmbeddingSet, other: EmbeddingSet, train_path: Path, path: Path
) -> EmbeddingSet:
    """The other rows, with train's numbers for classes of the same names.

    Raises:
        DataError: they do not belong to the training rows beside them.
    """
    names, theirs = train.class_names, other.class_names
    if names != theirs and train.meta.get("class_names") and other.meta.get("class_names"):
        labels = classes.renumbered(path, other.labels, theirs, names)
        other = replace(other, labels=labels, meta={**other.meta, "class_names": names})
    if train.embeddings.shape[1] != other.embeddings.shape[1]:
        raise DataError(
            f"{path} has {other.embeddings.shape[1]} dimensions but "
            f"{train_path} has {train.embeddings.shape[1]}"
        )
    named = len(train.meta.get("class_names") or [])
    classes.require_known(path, other.labels, train_path, train.labels, named)
    ours, its = train.meta.get("extraction"), other.meta.get("extraction")
    if ours and its and ours != its:
        raise DataError(
            f"{path} was extracted with other settings ({its}) than {train_path} ({ours}); "
            "run create_db.py again"
        )
    return other
