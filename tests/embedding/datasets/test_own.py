"""Your own images: what is on disk and meant is read, or its absence is an error with a count."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from src.core.errors import DataError, InputError, MissingFileError
from src.embedding import datasets
from src.embedding.datasets import own
from src.embedding.datasets.decoding import to_array
from tests.embedding.datasets.support import grey, labels_of, lines, save, tiff


def fill(folder, classes=("cat", "dog"), count=10, first=0):
    """`count` pictures per class, each of a value of its own."""
    for number, name in enumerate(classes):
        for i in range(count):
            save(folder / name / f"{i:02d}.png", grey(first + number * count + i))
    return folder


def splits_of(folder, *names, count=12):
    for number, name in enumerate(names):
        fill(folder / name, count=count, first=number * 2 * count)
    return folder


def values(split):
    return [split[i].getpixel((0, 0)) for i in range(len(split))]


def test_folders_below_a_class_are_read(tmp_path):
    splits_of(tmp_path, "train", "test")
    before = own.load(tmp_path)
    for i in range(3):
        deep = tmp_path / "train/cat" / f"patient {i}" / "left"
        deep.mkdir(parents=True)
        (tmp_path / f"train/cat/{i:02d}.png").rename(deep / "a.png")
    after = own.load(tmp_path)
    for part in ("train", "val"):
        assert getattr(after, part).labels.sum() == getattr(before, part).labels.sum()
    assert sorted(values(after.train) + values(after.val)) == list(range(24))


@pytest.mark.parametrize("name", ["val", "validation", "valid", "dev", "Validation", " VAL"])
def test_names_of_the_validation_split(tmp_path, name):
    splits_of(tmp_path, "train", name, "test")
    found = own.load(tmp_path)
    assert [len(s) for s in (found.train, found.val, found.test)] == [24, 24, 24]
    assert "val" not in found.facts
    assert values(found.val)[0] == 24


def test_two_folders_of_one_split_are_refused(tmp_path):
    splits_of(tmp_path, "train", "val", "valid", "test")
    with pytest.raises(DataError, match=r"/val and .*/valid are both val; keep one"):
        own.load(tmp_path)


def test_classes_without_splits_are_split_here(tmp_path):
    fill(tmp_path, count=50)
    found = own.load(tmp_path)
    labels = np.repeat([0, 1], 50)
    rest, test = train_test_split(
        np.arange(100), test_size=0.2, random_state=12345, stratify=labels
    )
    train, val = train_test_split(rest, test_size=0.1, random_state=12345, stratify=labels[rest])
    assert labels_of(found) == [labels[part].tolist() for part in (train, val, test)]
    assert [values(s) for s in (found.train, found.val, found.test)] == [
        part.tolist() for part in (train, val, test)
    ]
    assert found.facts == {
        "source": str(tmp_path), "test": "held out", "val": "held out", "split_seed": 12345
    }  # fmt: skip


def test_splits_below_classes_are_not_mixed(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path, classes=(f"cat/{split}", f"dog/{split}"), count=20)
    with pytest.raises(
        DataError, match=r"cat/test/00\.png lies in a folder 'test' below its class"
    ):
        own.load(tmp_path)


@pytest.mark.parametrize("theirs", ["Ödem", "Ödem ", "  Ödem"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_that_look_the_same_are_one_class(tmp_path, theirs, form):
    for split, name in (
        ("train", unicodedata.normalize("NFC", "Ödem")),
        ("test", unicodedata.normalize(form, theirs)),
    ):
        fill(tmp_path / split, classes=("normal", name), count=12)
    shutil.copytree(tmp_path / "test" / name, tmp_path / "train" / f"{name}  ")
    found = own.load(tmp_path)
    assert found.class_names == ["normal", unicodedata.normalize("NFC", "Ödem")]
    assert np.bincount(found.test.labels).tolist() == [12, 12]
    assert np.bincount(np.r_[found.train.labels, found.val.labels]).tolist() == [12, 24]


@pytest.mark.parametrize("name", [b"Z\xe4hne", b"   "])
def test_names_that_cannot_be_kept_are_refused(tmp_path, name):
    splits_of(tmp_path, "train", "test")
    (tmp_path / "train" / os.fsdecode(name)).mkdir()
    with pytest.raises(DataError, match="is not UTF-8|is only blanks"):
        own.load(tmp_path)


def test_any_suffix_is_read(tmp_path):
    splits_of(tmp_path, "train", "test")
    for i, name in enumerate(("a.JPG", "b.jfif", "c.Tiff", "no suffix", "d.jpg.1", "e.PNG ")):
        kind = "TIFF" if "T" in name else "JPEG"
        Image.new("L", (3, 2), 200 + i).save(tmp_path / "test/cat" / name, kind)
    found = values(own.load(tmp_path).test)
    assert {200, 201, 202, 203, 204, 205} < set(found)


@pytest.mark.parametrize(
    "name",
    ["._00.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/00.png", "__MACOSX/x.png"],
)
def test_leftovers_of_systems_are_skipped(tmp_path, name, caplog):
    splits_of(tmp_path, "train", "val", "test")
    for place in ("", "train", "train/cat"):
        path = tmp_path / place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert len(own.load(tmp_path).train) == 24
    assert not caplog.records


def test_other_files_are_said_even_quietly(tmp_path, caplog):
    splits_of(tmp_path, "train", "val", "test")
    for i in range(12):
        (tmp_path / f"train/cat/{i}.txt").write_text("a note")
    (tmp_path / "train/README.md").write_text("of no class")
    caplog.set_level("WARNING")
    assert len(own.load(tmp_path).train) == 24
    assert "not images and not read: 12 files, the first" in caplog.text
    assert "train/cat/0.txt" in caplog.text
    (tmp_path / "train/cat/13.txt").write_text("one more than images")
    with pytest.raises(DataError, match="cat has 12 images but more other files: 13 files, the f"):
        own.load(tmp_path)


def broken_link(folder):
    for i in (3, 5):
        (folder / f"train/cat/{i:02d}.png").unlink()
        (folder / f"train/cat/{i:02d}.png").symlink_to("/nowhere/x.png")


def no_images(folder):
    for i in (3, 4, 6, 8):
        (folder / f"train/cat/{i:02d}.png").write_bytes(b"<html>")


def pages(folder):
    for name in ("train/cat/03.tiff", "test/dog/01.tiff"):
        image = grey(3)
        image.save(folder / name, save_all=True, append_images=[image] * 4)


def a_loop(folder):
    (folder / "train/cat/again").symlink_to(folder / "train")


def outside(folder):
    for i in range(5):
        save(folder / f"train/{i}.png", grey(3))


def a_third_split(folder):
    fill(folder / "holdout", count=3)


def a_pipe(folder):
    os.mkfifo(folder / "train/cat/x.png")


def unknown_format(folder):
    for name in ("x.heic", "y.nii"):
        (folder / "test/cat" / name).write_bytes(b"not known here")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            broken_link,
            r"03\.png is a link to /nowhere/x\.png, which .* \(the first of 2 such, of 48",
        ),
        (no_images, r"cat/03\.png is not an image .*known format \(the first of 4 such, of 48"),
        (pages, r"03\.tiff has 5 pages or frames; only single .* \(the first of 2 such, of 50"),
        (a_loop, r"/again/cat is a link to a folder that it lies in"),
        (outside, r"images lie in no class folder: 5 files, the first .*train/0\.png"),
        (
            a_third_split,
            r"images lie in no class folder: 6 files, the first .*holdout/cat/00\.png",
        ),
        (a_pipe, r"x\.png is not an ordinary file"),
        (unknown_format, r"x\.heic is not an image .* \(the first of 2 such, of 50 files"),
        (lambda f: shutil.rmtree(f / "train/dog"), "test/dog is a class that train does not have"),
    ],
)
def test_what_cannot_be_read_is_named_and_counted(tmp_path, harm, message):
    splits_of(tmp_path, "train", "test")
    harm(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        own.load(tmp_path)
    assert "\n" not in str(error.value)


def test_one_class_is_refused(tmp_path):
    fill(tmp_path, classes=("images",), count=20)
    with pytest.raises(DataError, match="has one class folder only, 'images'; two are needed"):
        own.load(tmp_path)


# Grey of more than 8 bits.


def deep(folder, largest=4095):
    """12 bits in 16, in train, val and test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                pixels = rng.integers(0, largest + 1, (20, 20)).astype(np.uint16)
                save(folder / split / name / f"{i}.png", Image.fromarray(pixels))
    return folder


def test_the_range_is_that_of_train_and_recorded(tmp_path, caplog):
    deep(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
        save(path, Image.fromarray(np.full((20, 20), 9000, np.uint16)))
    caplog.set_level("INFO")
    found = own.load(tmp_path)
    low, high = found.facts["window"]
    assert 0 <= low < 20
    assert 4080 < high <= 4095
    assert found.facts["window_from"] == "percentiles of train"
    assert "20 of 20 images have more than 8 bits" in caplog.text
    assert to_array(found.train[0]).max() > 0.95
    assert (to_array(found.test[0]) == 1).all()


def test_a_window_that_is_given(tmp_path):
    deep(tmp_path)
    found = own.load(tmp_path, (0, 65535))
    assert found.facts["window"] == [0, 65535]
    assert found.facts["window_from"] == "given"
    assert to_array(found.train[0]).max() < 0.07


def test_a_window_without_use_is_refused(tmp_path):
    splits_of(tmp_path / "mine", "train", "val", "test")
    with pytest.raises(InputError, match="--window 0 9 has no effect: no image has grey values"):
        own.load(tmp_path / "mine", (0, 9))
    with pytest.raises(InputError, match="--window has no effect: 'digits' is not a folder"):
        datasets.load("digits", root=tmp_path, window=(0, 9))


def test_inverted_pictures_in_8_and_16_bits_are_equal(tmp_path):
    """The field case: one picture as uint8 and as uint16, white is zero in both."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            tiff(tmp_path / split / name / "8.tiff", ramp, 0)
            tiff(tmp_path / split / name / "16.tiff", ramp.astype(np.uint16) * 257, 0)
    found = own.load(tmp_path).train
    deep_one, plain_one = (to_array(found[i])[0] for i in (0, 1))
    np.testing.assert_allclose(deep_one, plain_one, atol=2e-3)
    assert plain_one[0, 0] == 1


# A table.


def table(folder, *rows, head="file,label,split"):
    lines(folder / "labels.csv", [head, *rows])


@pytest.fixture
def listed(tmp_path):
    """12 pictures of two classes for train, 4 for test, in one folder."""
    rows = []
    for i in range(16):
        save(tmp_path / f"scan {i:02d}.png", grey(i))
        rows.append(
            f"scan {i:02d}.png,{'left' if i % 2 else 'right'},{'test' if i > 11 else 'train'}"
        )
    table(tmp_path, *rows)
    return tmp_path, rows


def test_a_table_says_class_and_split(listed):
    folder, _ = listed
    found = own.load(folder)
    assert found.class_names == ["left", "right"]
    assert values(found.test) == [12, 13, 14, 15]
    assert found.test.labels.tolist() == [1, 0, 1, 0]
    assert sorted(values(found.train) + values(found.val)) == list(range(12))
    assert found.facts["labels"] == "labels.csv"
    assert found.facts["val"] == "held out"


def test_a_table_without_splits(listed):
    folder, rows = listed
    table(folder, *(row.rpartition(",")[0] for row in rows), head="file,label")
    found = own.load(folder)
    assert [len(s) for s in (found.train, found.val, found.test)] == [10, 2, 4]
    assert found.facts["test"] == "held out"


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_of_spreadsheets(listed, delimiter):
    folder, rows = listed
    before = labels_of(own.load(folder))
    rows = [row.replace(",", delimiter).replace("test", " Testing ") for row in rows]
    head = delimiter.join(("\ufeffFile ", " LABEL", "Split"))
    table(folder, *rows, delimiter * 2, "", head=head)
    assert labels_of(own.load(folder)) == before


def test_names_in_a_table_may_look_the_same(listed):
    folder, rows = listed
    (folder / "scan 03.png").rename(folder / unicodedata.normalize("NFD", "Ö 03.png"))
    (folder / "scan 05.png").rename(folder / "scan 05.png ")
    rows[3] = rows[3].replace("scan 03.png", unicodedata.normalize("NFC", " Ö 03.png"))
    table(folder, *rows)
    assert len(own.load(folder).test) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0].replace("train", "trane"),
            "unknown split 'trane' .valid: train, tr",
        ),
        (
            lambda rows: rows[0].replace("train", ""),
            "labels.csv, line 2: nothing in column 'split'",
        ),
        (
            lambda rows: rows[0].replace("right", " "),
            "labels.csv, line 2: nothing in column 'label'",
        ),
        (lambda rows: rows[0].replace("00.png", "99.png"), r"does not exist: 1 file, the first"),
        (lambda rows: rows[1], r"lists 1 images more than once, as .*scan 01\.png"),
        (lambda rows: rows[0] + ",more", "labels.csv, line 2 has 4 cells, the first line 3"),
        (lambda rows: "labels.csv,left,train", r"labels\.csv is not an image"),
    ],
)
def test_a_table_is_understood_or_refused(listed, change, message):
    folder, rows = listed
    table(folder, change(rows), *rows[1:])
    with pytest.raises(InputError, match=message) as error:
        own.load(folder)
    assert "\n" not in str(error.value)


def test_other_columns_and_heads(listed, caplog):
    folder, rows = listed
    table(folder, *rows, head="path,label,split")
    with pytest.raises(DataError, match=r"no column 'file' \(it has: path, label, split\)"):
        own.load(folder)
    table(folder, *(f"{row},70" for row in rows), head="file,label,split,age")
    assert len(own.load(folder).test) == 4
    assert caplog.messages == [f"{folder / 'labels.csv'}: columns that are not read: age"]
    table(folder, *(f"{row},left" for row in rows), head="file,label,split,label")
    with pytest.raises(DataError, match="several columns 'label'"):
        own.load(folder)
    (folder / "labels.csv").write_bytes("file,label\nx,Zähne\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not a readable CSV file"):
        own.load(folder)


def test_one_label_in_two_spellings_is_refused(listed):
    folder, rows = listed
    rows = [row.replace("left", "1").replace("right", "2") for row in rows]
    table(folder, *rows[:-1], rows[-1].replace(",1,", ",1.0,"))
    with pytest.raises(DataError, match=r"one label in two spellings, '1' and '1\.0'"):
        own.load(folder)


def test_images_that_a_table_leaves_out(listed, caplog):
    folder, rows = listed
    table(folder, *rows[:-1])
    assert len(own.load(folder).test) == 3
    assert "does not list, so they are not read: 1 file, the first" in caplog.text
    table(folder, *rows[:2], *rows[-4:-2])
    with pytest.raises(
        DataError, match="lists 4 images, but leaves out more: 12 files, the first"
    ):
        own.load(folder)


# Names that are taken.


@pytest.mark.parametrize(
    "name", ["digits", "stl10", "breastmnist", "organs_axial", "dtd", "octdl", "medmnist"]
)
def test_a_folder_with_a_built_in_name_is_ambiguous(tmp_path, name):
    splits_of(tmp_path / name, "train", "test")
    message = rf"'{name}' is ambiguous: .*{name} has folders .*rename it, .*--dataset my_{name}$"
    with pytest.raises(InputError, match=message):
        datasets.load(name, root=tmp_path)


def test_what_built_in_datasets_keep_is_theirs(tmp_path, stl10):
    (tmp_path / "dtd/dtd").mkdir(parents=True)
    (tmp_path / "octdl/OCTDL").mkdir(parents=True)
    (tmp_path / "digits").mkdir()
    assert len(datasets.load("digits", root=tmp_path).train) == 1293
    assert len(datasets.load("stl10", root=stl10).test) == 3
    with pytest.raises(MissingFileError, match="dataset_1 does not exist"):
        datasets.load("octdl", root=tmp_path)
    with pytest.raises(DataError, match="dtd is incomplete"):
        datasets.load("dtd", root=tmp_path)
    assert "stl10_binary" not in datasets.names(tmp_path)
