"""What every method shares: the meta of its releases, and what records say of it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from src.anonymizers.base import Anonymizer, Rows, ordered
from src.core.devices import Resources
from src.core.provenance import versions
from src.core.records import Subject
from src.core.settings import setting
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
META = {
    "dataset": "d", "backbone": "b", "class_names": ["x", "y"], "extraction": "e",
    "source": {"train": "old"}, "facts": {"old": 1}, "split": "val",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shift(Anonymizer):
    """Rows moved by a number."""

    name = "shift"

    by: float = setting("how far", 1.0)

    def release(self, train, val, *, seed, resources):
        """The moved rows."""
        return Rows(train.embeddings + np.float32(self.by), train.labels, {"moved": len(train)})


class Unseeded(Shift):
    """The same whatever the seed."""

    name, seeded = "unseeded", False


def rows(seed, meta=META):
    embeddings = np.random.default_rng(seed).normal(size=(4, 2)).astype(np.float32)
    return EmbeddingSet(embeddings, np.array([0, 1, 0, 1]), meta)


def test_a_release_says_how_it_was_made_and_inherits_what_still_holds():
    train, val = rows(0), rows(1)
    released = Shift(by=2).anonymize(train, val, seed=3, resources=CPU)
    moved, labels = ordered(train.embeddings + 2, train.labels)
    assert np.array_equal(released.embeddings, moved)
    assert np.array_equal(released.labels, labels)
    assert released.meta == {
        "dataset": "d",
        "backbone": "b",
        "class_names": ["x", "y"],
        "split": "train",
        "unit": "row",
        "anonymizer": "shift",
        "settings": {"by": 2.0},
        "seed": 3,
        "source": {"train": train.fingerprint, "val": val.fingerprint},
        "device": "cpu",
        "facts": {"moved": 4},
        "versions": versions(),
    }
    origin = Shift(by=2).origin(train, val, seed=3)
    assert origin.items() <= released.meta.items()
    assert origin.keys() == {"anonymizer", "settings", "unit", "seed", "source"}


def test_rows_without_meta_have_nothing_to_inherit():
    released = Shift().anonymize(rows(0, {}), rows(1, {}), seed=0, resources=CPU)
    assert {"dataset", "backbone", "class_names"}.isdisjoint(released.meta)


@pytest.mark.parametrize("change", [{"seed": 4}, {"val": rows(2)}, {"train": rows(2)}])
def test_origins_differ_where_the_rows_may(change):
    usual = {"train": rows(0), "val": rows(1), "seed": 3}
    other = Shift().origin(**{**usual, **change})
    assert other != Shift().origin(**usual)
    assert Shift(by=2).origin(**usual) != Shift().origin(**usual)


def test_without_a_seed_all_seeds_are_one():
    usual = {"train": rows(0), "val": rows(1)}
    assert Unseeded().origin(**usual, seed=3) == Unseeded().origin(**usual, seed=4)
    assert Unseeded().release_id(3) == Unseeded().fit_id(4) == "unseeded"
    assert Shift(by=0.5).release_id(3) == "shift-by0.5-s3"


def test_what_records_say_of_a_release_and_of_fresh_draws():
    released = rows(0)
    expected = Subject(
        id="shift-by2-s3", anonymizer="shift", settings={"by": 2.0}, rows=released.fingerprint
    )
    assert Shift(by=2).subject(3, released) == expected
    assert Shift(by=2).subject(3).rows is None
