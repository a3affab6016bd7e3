"""Images that are in two splits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core.copies import among
from src.core.errors import DataError
from src.embedding import copies, extraction
from src.embedding.datasets.base import ImageArray, ImageSet, ImageSplits
from src.embedding.extraction import embed
from src.embedding.settings import ExtractionSettings
from tests.embedding.test_extraction import backbone


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_among_is_equality_of_rows(rows, others):
    pairs = [np.array([[i, 1 - i] for i in part], np.float32) for part in (rows, others)]
    assert among(*pairs).tolist() == [i in others for i in rows]
    zeros = np.array([[0.0, -0.0]], np.float32)
    assert among(zeros, -zeros).all()


def test_marks_are_of_the_content_alone():
    images = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    whole = copies.marks(images)
    assert whole.shape == (6, 2)
    assert len({tuple(mark.tolist()) for mark in whole}) == 6
    assert torch.equal(copies.marks(images[4:]), whole[4:])
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(copies.marks(strided), whole)
    changed = images.clone()
    changed[2, 1, 3, 3] += 1e-7  # the last bit
    assert (copies.marks(changed) != whole).any(1).tolist() == [i == 2 for i in range(6)]
    swapped = images.clone()
    swapped[:, :, [0, 1]] = swapped[:, :, [1, 0]]
    assert (copies.marks(swapped) != whole).any(1).all()


def image_splits(shared=3, val=0):
    """8 / 4 / 6 pictures; the first of test (and val) are those of train."""
    rng = np.random.default_rng(0)
    train, others, test = (rng.integers(0, 256, (n, 6, 6, 3), np.uint8) for n in (8, 4, 6))
    test[:shared], others[:val] = train[:shared], train[5 : 5 + val]
    sets = [ImageSet(ImageArray(a), np.arange(len(a)) % 2) for a in (train, others, test)]
    return ImageSplits(*sets, ["a", "b"], {"source": "here"})


def test_copies_are_counted_warned_of_and_recorded(caplog):
    sets = embed(
        "x", image_splits(3, 2), backbone(), ExtractionSettings(batch_size=3, num_workers=0)
    )
    counts = {"copies_in_train": 5, "copies_in_val": 2, "copies_in_test": 3}
    for data in sets.values():
        assert data.meta["facts"]["dataset"] == {"source": "here", **counts}
    [message] = caplog.messages
    assert "3 of 6 images of test and 2 of 4 of val are also in train (5 of 8 images" in message
    assert "--drop_copies" in message
    assert len(sets["train"]) == 8


def test_copies_can_be_dropped(caplog):
    images = image_splits(3, 2)
    whole = embed("x", images, backbone(), ExtractionSettings(batch_size=3, num_workers=0))
    options = ExtractionSettings(batch_size=3, num_workers=0, drop_copies=True)
    sets = embed("x", images, backbone(), options)
    kept = [3, 4, 7]
    np.testing.assert_array_equal(sets["train"].embeddings, whole["train"].embeddings[kept])
    assert sets["train"].labels.tolist() == [1, 0, 1]
    for split in ("val", "test"):
        assert (sets[split].embeddings == whole[split].embeddings).all()
    assert sets["train"].meta["facts"]["dataset"]["copies_dropped"] == 5
    assert "are dropped from train" in caplog.messages[-1]
    assert sets["train"].meta["extraction"] != whole["train"].meta["extraction"]


@pytest.mark.parametrize("drop", [False, True])
def test_without_copies_nothing_is_said_or_recorded(caplog, drop):
    sets = embed(
        "x", image_splits(0), backbone(), ExtractionSettings(num_workers=0, drop_copies=drop)
    )
    assert sets["train"].meta["facts"]["dataset"] == {"source": "here"}
    assert not caplog.messages


def test_rounding_of_embeddings_hides_no_copy(monkeypatch, caplog):
    """Batches of other sizes round differently; the marks of the images do not."""
    original = extraction.extract_marked

    def rounded(images, *rest):
        found = original(images, *rest)
        noise = np.random.default_rng(len(images)).normal(0, 1e-7, found.rows.shape)
        return found._replace(rows=found.rows + noise.astype(np.float32))

    monkeypatch.setattr(extraction, "extract_marked", rounded)
    embed("x", image_splits(3), backbone(), ExtractionSettings(num_workers=0))
    assert len(caplog.messages) == 1
    caplog.clear()
    monkeypatch.setattr(copies, "marks", lambda x: torch.rand(len(x), 2).mul(2**40).long())
    embed("x", image_splits(3), backbone(), ExtractionSettings(num_workers=0))
    assert not caplog.messages  # the broken version misses them


def test_a_class_is_not_dropped_whole():
    images = image_splits(0)
    train = images.train.images.array
    test = ImageSet(ImageArray(train[::2].copy()), images.train.labels[::2])
    same = ImageSplits(images.train, images.val, test, ["a", "b"])
    with pytest.raises(DataError, match="all 4 rows in train of class 'a' are also in test"):
        embed("x", same, backbone(), ExtractionSettings(num_workers=0, drop_copies=True))
