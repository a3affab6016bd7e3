"""An interrupted extraction goes on where it stopped, with the bytes of one that never was."""

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.core import files
from src.core.errors import OutputError
from src.database import SPLITS, dump
from src.embedding import copies, distributed, extraction, keeping
from src.embedding.backbones import Backbone, load
from src.embedding.datasets import base
from src.embedding.datasets.base import ImageArray, ImageFiles, ImageRows, ImageSet, ImageSplits
from src.embedding.datasets.grey import Window
from src.embedding.datasets.medimeta import Hdf5Images
from src.embedding.datasets.medmnist_sets import NpzImages
from src.embedding.datasets.pixels import Layout
from src.embedding.settings import ExtractionSettings

CPU = torch.device("cpu")
COUNTS = (7, 3, 2)  # batches of two: 4 + 2 + 1
PAIRS = ExtractionSettings(batch_size=2, num_workers=0)


class Model(torch.nn.Module):
    """Counts its batches, and is interrupted at the one of that number."""

    def __init__(self, stop=None):
        super().__init__()
        self.calls, self.stop = 0, stop
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(108, 7)

    def forward(self, x):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return self.linear(x.flatten(1))


def save(path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)


def splits_of(root):
    sets = []
    for split, count in zip(SPLITS, COUNTS, strict=True):
        paths = [root / split / f"{i}.png" for i in range(count)]
        sets.append(ImageSet(ImageFiles(paths), np.arange(count, dtype=np.int64) % 2))
    return ImageSplits(*sets, class_names=["a", "b"], facts={"source": "here"})


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in zip(SPLITS, COUNTS, strict=True):
        for i in range(count):
            save(tmp_path / "images" / split / f"{i}.png", rng)
    return tmp_path / "images"


@pytest.fixture
def at_once(monkeypatch):
    """Every batch becomes a part."""
    monkeypatch.setattr(keeping, "PERIOD", 0)


def backbone(images, stop=None, weights="w"):
    pixels = load("pixels", images, device=CPU)
    return Backbone("m", Model(stop).eval(), pixels.transform, CPU, 7, {"weights": weights})


def run(images, target, stop=None, options=PAIRS, weights="w", size=None):
    """The bytes of the three files, and how many batches were embedded."""
    ours = backbone(images, stop, weights)
    kept = keeping.kept(target, ours, options, size) if target else keeping.Kept()
    sets = extraction.embed("x", images, ours, options, image_size=size, kept=kept)
    return {split: raw(data) for split, data in sets.items()}, ours.model.calls


def raw(data):
    return data.embeddings.tobytes(), data.labels.tobytes(), str(data.meta)


def interrupted(images, target, stop):
    with pytest.raises(KeyboardInterrupt):
        run(images, target, stop)


def parts(target):
    return sorted(target.rglob("*.npz"))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("stop", range(1, 8))
def test_an_interrupted_run_goes_on_where_it_stopped(root, tmp_path, stop, caplog):
    caplog.set_level("INFO")
    images, target = splits_of(root), tmp_path / "db"
    expected, batches = run(images, None)
    assert batches == 7
    interrupted(images, target, stop)
    assert len(parts(target)) == stop - 1
    caplog.clear()
    assert run(images, target) == (expected, 7 - (stop - 1))
    said = [m for m in caplog.messages if "embedded already" in m]
    val = f"val: {min(2 * (stop - 5), 3)} of 3 images are embedded already"
    train = f"train: {min(2 * (stop - 1), 7)} of 7 images are embedded already"
    assert said == [train] * (stop > 1) + [val] * (stop > 5)
    assert run(images, target) == (expected, 0)
    keeping.forget(target)
    assert not list(target.iterdir())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_decode_go_on_too(root, tmp_path, workers):
    images, options = splits_of(root), replace(PAIRS, num_workers=workers)
    interrupted(images, tmp_path / "db", 4)
    assert run(images, tmp_path / "db", options=options) == (run(images, None)[0], 4)


def test_a_fast_run_leaves_no_part(root, tmp_path):
    interrupted(splits_of(root), tmp_path / "db", 7)
    run(splits_of(root), tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_a_part_is_written_when_the_time_has_come(root, tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(keeping, "PERIOD", 6)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    target = tmp_path / "db"
    run(splits_of(root), target)
    # Each batch, each write and each end of a split takes 3 s.
    held = sorted(np.load(path)["counts"].tolist() for path in parts(target))
    assert held == [[1], [2], [2], [2, 1], [2, 2]]
    monkeypatch.undo()
    assert run(splits_of(root), target) == (run(splits_of(root), None)[0], 0)


# What a part depends on.


@pytest.mark.usefixtures("at_once")
def test_a_changed_image_alone_is_embedded_again(root, tmp_path):
    target = tmp_path / "db"
    before = run(splits_of(root), target)[0]
    save(root / "train" / "2.png", np.random.default_rng(9))
    after, batches = run(splits_of(root), target)
    assert batches == 1
    assert after == run(splits_of(root), None)[0]
    assert after["train"] != before["train"]


@pytest.mark.usefixtures("at_once")
def test_without_the_files_time_and_size_the_old_image_would_count(root, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "file_stamp", lambda path, name: [name])
    run(splits_of(root), tmp_path / "db")
    save(root / "train" / "2.png", np.random.default_rng(9))
    after, batches = run(splits_of(root), tmp_path / "db")
    assert batches == 0
    assert after != run(splits_of(root), None)[0]  # wrong: the test above fails on this version


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "other",
    [
        {"options": replace(PAIRS, batch_size=3)},
        {"options": replace(PAIRS, batch_size=64)},
        {"options": replace(PAIRS, precision="bf16")},
        {"weights": "v"},
        {"size": 6},
    ],
    ids=str,
)
def test_other_settings_take_no_part(root, tmp_path, other):
    images, target = splits_of(root), tmp_path / "db"
    run(images, target)
    expected = run(images, None, **other)
    assert run(images, target, **other) == expected
    assert expected[1] > 0


@pytest.mark.usefixtures("at_once")
def test_other_libraries_threads_and_windows_take_no_part(root, tmp_path, monkeypatch):
    images, target = splits_of(root), tmp_path / "db"
    run(images, target)
    windowed = replace(
        images,
        train=replace(
            images.train, images=ImageFiles(images.train.images.paths, Window(0, 9, True))
        ),
    )
    assert run(windowed, target)[1] == 4
    assert run(replace(images, val=replace(images.val, rgb=True)), target)[1] == 2
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "versions", lambda: {"torch": "0"})
        assert run(images, target)[1] == 7
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 99)
        assert run(images, target)[1] == 7
    assert run(images, target)[1] == 0


@pytest.mark.usefixtures("at_once")
def test_labels_persons_and_the_folder_s_place_play_no_part(root, tmp_path):
    images, target = splits_of(root), tmp_path / "db"
    run(images, target)
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)  # with the times of the files
    theirs = splits_of(moved)
    sets = [
        replace(part, labels=1 - part.labels, persons=np.arange(len(part)))
        for part in (theirs.train, theirs.val, theirs.test)
    ]
    assert run(ImageSplits(*sets, class_names=["a", "b"]), target)[1] == 0


@pytest.mark.usefixtures("at_once")
def test_an_image_that_cannot_be_read_is_said_as_ever_and_the_rest_is_kept(root, tmp_path):
    images, target = splits_of(root), tmp_path / "db"
    whole = (root / "train/5.png").read_bytes()
    (root / "train/5.png").unlink()
    for _ in range(2):
        with pytest.raises(Exception, match=r"5\.png does not exist") as error:
            run(images, target)
        assert len(parts(target)) == 2
    assert "such, of" not in str(error.value)
    (root / "train/5.png").write_bytes(whole)
    assert run(images, target) == (run(images, None)[0], 5)


# Damage.


def _other_arrays(path):
    with path.open("wb") as file:
        np.savez(file, names=np.array([path.stem]), counts=[2], rows=[[1.0]], marks=[[1, 2]])


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "text": lambda path: path.write_text("hello"),
    "array": lambda path: np.lib.format.open_memmap(path, "w+", shape=(3,)).flush(),
    "pickle": lambda path: np.savez(path, names=np.array([{}], dtype=object)),
    "less": lambda path: np.savez(path, names=np.array([path.stem])),
    "other": _other_arrays,
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_embedded_again(root, tmp_path, damage, caplog):
    caplog.set_level("INFO")
    images, target = splits_of(root), tmp_path / "db"
    run(images, target)
    DAMAGE[damage](parts(target)[0])
    assert run(images, target) == (run(images, None)[0], 1)
    assert any("what it held is embedded again" in message for message in caplog.messages)


@pytest.mark.usefixtures("at_once")
def test_a_part_that_was_being_written_is_left_alone(root, tmp_path, caplog):
    caplog.set_level("INFO")
    images, target = splits_of(root), tmp_path / "db"
    run(images, target)
    path = parts(target)[0]
    path.with_name(f".{path.stem}.12345678.part.npz").write_bytes(path.read_bytes()[:99])
    assert run(images, target)[1] == 0
    assert "embedded again" not in caplog.text


@pytest.mark.usefixtures("at_once")
def test_no_flipped_bit_reaches_a_row(root, tmp_path):
    images, target = splits_of(root), tmp_path / "db"
    expected = run(images, target)[0]
    path = parts(target)[0]
    whole = path.read_bytes()
    for place in range(3, len(whole), 97):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        path.write_bytes(flipped)
        assert run(images, target)[0] == expected
    assert len(whole) > 97 * 5


# Processes.


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("then", [1, 2, 3])
def test_parts_of_several_processes_hold_for_any_number(root, tmp_path, monkeypatch, then):
    images = splits_of(root).train
    kept = [tmp_path / "db"]

    def share_of(rank, processes):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: processes)
        ours = backbone(splits_of(root))
        with pytest.raises(KeyboardInterrupt):
            extraction.extract_marked(
                images, ours, PAIRS, "train", keeping.kept(kept[0], ours, PAIRS, None)
            )
        return ours.model.calls

    def ended(rows, bounds):
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed, "share", ended)
    assert [share_of(rank, 2) for rank in range(2)] == [2, 2]
    assert len(parts(kept[0])) == 4
    assert [share_of(rank, then) for rank in range(then)] == [0] * then


# The disk.


def test_a_full_disk_is_said_before_work(root, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=671)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    images, target = splits_of(root), tmp_path / "db"
    ours = backbone(images, stop=1)  # 12 rows of 7 values of 4 bytes, twice
    kept = keeping.kept(target, ours, PAIRS, None)
    with pytest.raises(OutputError, match="db needs 672 bytes for embeddings.*; 671 are free"):
        extraction.embed("x", images, ours, PAIRS, kept=kept)
    assert not target.exists()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=672))
    run(images, target)


@pytest.mark.usefixtures("at_once")
def test_parts_that_exist_need_no_more_room(root, tmp_path, monkeypatch):
    images, target = splits_of(root), tmp_path / "db"
    interrupted(images, target, 7)
    usage = shutil.disk_usage(tmp_path)._replace(free=0)  # the parts have headers
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    assert run(images, target)[1] == 1


@pytest.mark.usefixtures("at_once")
def test_where_no_part_can_be_written_the_run_ends_well(root, tmp_path, caplog):
    images, target = splits_of(root), tmp_path / "db"
    target.mkdir()
    (target / keeping.FOLDER).write_text("in the way")
    assert run(images, target) == (run(images, None)[0], 7)
    [message] = [m for m in caplog.messages if "not kept" in m]
    assert message.startswith("cannot write ")


# Every kind of images.


def stamps_differ(images, *others):
    rows = np.arange(2)
    assert images.stamp(rows) == images.stamp(rows)
    for other in others:
        assert other.stamp(rows) != images.stamp(rows)
    assert images.stamp(rows) != images.stamp(rows + 1)


def test_images_in_memory_are_told_apart_by_their_content():
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8)
    other = values.copy()
    other[1, 2, 3] ^= 1
    stamps_differ(ImageArray(values), ImageArray(other), ImageArray(values.astype(np.float32)))
    order = np.array([2, 0, 1])
    stamps_differ(ImageRows(ImageArray(values), order), ImageRows(ImageArray(values), order[::-1]))
    rows = ImageRows(ImageArray(values), order)
    assert rows.stamp(np.arange(2)) == ImageArray(values[[2, 0]]).stamp(np.arange(2))


def test_images_in_one_file_are_told_apart_by_the_file(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"1")
    (tmp_path / "b.npz").write_bytes(b"12")
    layout = Layout((5, 5), None, False, 255)
    ours = NpzImages(tmp_path / "a.npz", "train_images", 4, layout)
    stamps_differ(ours, replace(ours, path=tmp_path / "b.npz"), replace(ours, key="val_images"))
    volume = Hdf5Images(tmp_path / "a.npz", np.arange(4), layout)
    stamps_differ(
        volume, replace(volume, path=tmp_path / "b.npz"), replace(volume, rows=np.arange(4)[::-1])
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sets(st.integers(0, 11)),
)
def test_whatever_is_missing_the_rows_are_the_same(tmp_path_factory, greys, size, lost):
    """Images that are equal to others among them, in memory."""
    folder = tmp_path_factory.mktemp("kept")
    array = np.repeat(np.array(greys, np.uint8), 108).reshape(-1, 6, 6, 3)
    images = ImageSet(ImageArray(array), np.zeros(len(array), np.int64))
    options = ExtractionSettings(batch_size=size, num_workers=0)
    splits = ImageSplits(images, images, images, ["only"])
    expected = extraction.extract(images, backbone(splits), options)
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keeping, "PERIOD", 0)
            ours = backbone(splits)
            kept = keeping.kept(folder, ours, options, None)
            found = extraction.extract_marked(images, ours, options, "train", kept)
        np.testing.assert_array_equal(found.rows, expected)
        pixels = torch.stack([ours.transform(images[i]) for i in range(len(images))])
        np.testing.assert_array_equal(found.marks, copies.marks(pixels).numpy())
        for place, path in enumerate(parts(folder)):
            if place in lost:
                path.unlink()


def test_files_are_whole_with_and_without_parts(root, tmp_path, monkeypatch):
    """The very bytes of the .npz files."""
    images = splits_of(root)

    def written(kept):
        sets = extraction.embed("x", images, backbone(images), PAIRS, kept=kept)
        for split, data in sets.items():
            with (tmp_path / split).open("wb") as file:
                dump(file, data, compressed=False)
        return [(tmp_path / split).read_bytes() for split in SPLITS]

    before = written(None)
    monkeypatch.setattr(keeping, "PERIOD", 0)
    interrupted(images, tmp_path / "db", 5)
    assert written(keeping.kept(tmp_path / "db", backbone(images), PAIRS, None)) == before
