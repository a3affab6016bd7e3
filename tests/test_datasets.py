"""Data sets: pixel values, splits, folders of images, and the registry."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from src import datasets
from src.datasets import medmnist_sets
from src.datasets.base import ImageArray, ImageFiles, ImageSet, ImageSplits, to_array, to_rgb
from src.errors import DataError, InputError, MissingFileError, UnknownNameError

GREY16 = np.array([[0, 1, 65535], [256, 32768, 4369]], np.uint16)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def grey(value, size=(3, 2)):
    return Image.new("L", size, value)


@pytest.fixture
def folder(tmp_path):
    """`mine`: two classes, train 12 + 10, test 2 + 1; the value of an image names it."""
    for label, (name, counts) in enumerate({"b_dog": (12, 2), "a cat": (10, 1)}.items()):
        for split, count in zip(("train", "test"), counts, strict=True):
            for i in range(count):
                save(tmp_path / "mine" / split / name / f"{i:02d}.png", grey(100 * label + i))
    return tmp_path


class TestPixels:
    def test_sixteenths_are_exact(self):
        values = (np.arange(17, dtype=np.float32) / 16)[None]
        image = ImageSet(ImageArray(values[None]), np.zeros(1, np.int64))[0]
        assert (to_array(image)[0] * 16).tolist() == [list(range(17))]
        expected = [round(k * 255 / 16) for k in range(17)]
        assert np.asarray(to_rgb(image)).tolist() == [[[v] * 3 for v in expected]]

    def test_grey_and_colour(self):
        array = to_array(grey(51))
        assert array.shape == (1, 2, 3)
        assert array.dtype == np.float32
        assert (array == np.float32(0.2)).all()
        colour = to_array(Image.new("RGB", (3, 2), (255, 0, 51)))
        assert colour.shape == (3, 2, 3)
        assert colour[:, 1, 2].tolist() == [1, 0, np.float32(0.2)]

    @pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
    def test_16_bit_grey_keeps_its_values(self, tmp_path, suffix):
        save(tmp_path / f"deep.{suffix}", Image.fromarray(GREY16))
        image = ImageFiles([tmp_path / f"deep.{suffix}"])[0]
        assert image.mode == "F"
        assert (to_array(image)[0] == GREY16 / np.float32(65535)).all()
        assert np.asarray(to_rgb(image))[..., 0].tolist() == [[0, 0, 255], [1, 128, 17]]

    @pytest.mark.parametrize(
        ("mode", "colour", "expected"),
        [
            ("1", 1, [255]),
            ("LA", (7, 0), [7]),
            ("RGBA", (1, 2, 3, 0), [1, 2, 3]),
            ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
            ("F", 1.0, [255]),
        ],
    )
    def test_other_modes(self, mode, colour, expected):
        array = to_array(Image.new(mode, (3, 2), colour))
        assert (array[:, 0, 0] * 255).tolist() == expected
        assert np.asarray(to_rgb(Image.new(mode, (3, 2), colour)))[0, 0].tolist() in (
            expected,
            expected * 3,
        )

    @pytest.mark.filterwarnings("error")
    def test_palette(self, tmp_path):
        image = Image.new("P", (3, 2), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(tmp_path / "plain.png")
        image.save(tmp_path / "transparent.png", transparency=b"\x00\xff")
        for name in ("plain.png", "transparent.png"):
            read = ImageFiles([tmp_path / name])[0]
            assert (read.mode, read.getpixel((0, 0))) == ("RGB", (10, 20, 30))

    def test_unknown_range_is_an_error(self, tmp_path):
        save(tmp_path / "deep.tiff", Image.new("F", (3, 2), 300.0))
        with pytest.raises(DataError, match=r"deep\.tiff .*0\.\.1"):
            ImageFiles([tmp_path / "deep.tiff"])[0]

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp"])
    @pytest.mark.parametrize("harm", ["truncated", "text", "empty", "gone"])
    def test_damaged_files_are_named(self, tmp_path, suffix, harm):
        path = tmp_path / f"bad.{suffix}"
        pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
        save(path, Image.fromarray(pixels))
        if harm == "gone":
            path.unlink()
        else:
            whole = path.read_bytes()
            path.write_bytes({"truncated": whole[:900], "text": b"hello", "empty": b""}[harm])
        with pytest.raises(MissingFileError if harm == "gone" else DataError) as error:
            ImageFiles([path])[0]
        assert str(error.value).count(str(path)) == 1

    def test_rgb_sets(self):
        images = ImageArray(np.full((1, 2, 3), 9, np.uint8))
        labels = np.zeros(1, np.int64)
        assert ImageSet(images, labels)[0].mode == "L"
        image = ImageSet(images, labels, rgb=True)[0]
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (9, 9, 9))


class TestSplits:
    def test_digits(self):
        digits = load_digits()
        x = digits.images / 16
        rest, test = train_test_split(
            np.arange(1797), test_size=0.2, random_state=12345, stratify=digits.target
        )
        train, val = train_test_split(
            rest, test_size=0.1, random_state=12345, stratify=digits.target[rest]
        )
        splits = datasets.load("digits", root="absent")
        assert [len(train), len(val), len(test)] == [1293, 144, 360]
        for split, rows in ((splits.train, train), (splits.val, val), (splits.test, test)):
            assert split.labels.dtype == np.int64
            assert (split.labels == digits.target[rows]).all()
            pixels = np.stack([to_array(split[i])[0] for i in range(len(split))])
            assert (pixels == x[rows]).all()
        assert splits.class_names == [str(c) for c in range(10)]

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([[], [0], [0]], "train: no images"),
            ([[0, 1], [2], [0]], r"val: label 2 is not in 0\.\.1"),
            ([[0, 1], [0], [-1]], r"test: label -1 is not in 0\.\.1"),
            ([[0, 0], [0], [1]], "test: class 'dog' does not occur in train"),
        ],
    )
    def test_labels_are_checked(self, labels, message):
        sets = [
            ImageSet(ImageArray(np.zeros((len(y), 2, 2), np.uint8)), np.array(y, np.int64))
            for y in labels
        ]
        with pytest.raises(DataError, match=message):
            ImageSplits(*sets, class_names=["cat", "dog"])

    def test_numbers_of_images_and_labels_are_compared(self):
        one = ImageSet(ImageArray(np.zeros((1, 2, 2), np.uint8)), np.zeros(1, np.int64))
        two = ImageSet(one.images, np.zeros(2, np.int64))
        with pytest.raises(DataError, match="val: 1 images but 2 labels"):
            ImageSplits(one, two, one, class_names=["cat"])


class TestFolders:
    def test_without_val_a_tenth_is_held_out(self, folder):
        splits = datasets.load("mine", root=folder)
        assert splits.class_names == ["a cat", "b_dog"]
        values = [100 + i for i in range(10)] + list(range(12))
        labels = np.repeat([0, 1], [10, 12])
        train, val = train_test_split(
            np.arange(22), test_size=0.1, random_state=12345, stratify=labels
        )
        for split, rows in ((splits.train, train), (splits.val, val)):
            assert split.labels.tolist() == labels[rows].tolist()
            found = [split[i].getpixel((0, 0)) for i in range(len(split))]
            assert found == [values[row] for row in rows]
        assert splits.test.labels.tolist() == [0, 1, 1]
        assert splits.facts["val"] == "held out"

    def test_with_val_nothing_is(self, folder):
        save(folder / "mine/val/b_dog/x.JPG", Image.new("RGB", (3, 2)))
        splits = datasets.load("mine", root=folder)
        assert [len(s) for s in (splits.train, splits.val, splits.test)] == [22, 1, 3]
        assert splits.val.labels.tolist() == [1]
        assert splits.val[0].mode == "RGB"
        assert "val" not in splits.facts

    def test_no_image_is_decoded_for_a_split(self, folder):
        for path in folder.rglob("*.png"):
            path.write_bytes(b"garbage")
        splits = datasets.load("mine", root=folder)
        assert splits.test.labels.tolist() == [0, 1, 1]
        with pytest.raises(DataError, match=r"mine/test/a cat/00\.png is not an image"):
            splits.test[0]

    def test_other_files_are_ignored_and_noted(self, folder, caplog):
        expected = datasets.load("mine", root=folder).train.labels
        for name in (".DS_Store", "train/.hidden/x.png", "train/b_dog/._00.png"):
            path = folder / "mine" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
        assert not caplog.records
        (folder / "mine/train/b_dog/Thumbs.db").write_bytes(b"")
        caplog.set_level("INFO")
        assert (datasets.load("mine", root=folder).train.labels == expected).all()
        assert "1 entries are not images, such as" in caplog.text
        assert "Thumbs.db" in caplog.text

    def test_splits_can_be_pickled(self, folder):
        splits = pickle.loads(pickle.dumps(datasets.load("mine", root=folder)))
        assert splits.test[1].tobytes() == grey(0).tobytes()

    @pytest.mark.parametrize(
        ("harm", "message"),
        [
            ("rm -r mine/test", r"mine/test is not a folder.*\{train,val,test\}/<class>/"),
            ("rm -r mine/train", "mine/train is not a folder"),
            ("mkdir mine/train/empty", "mine/train/empty has no images"),
            ("mkdir -p mine/val/cow", "cow is a class that train does not have.*a cat, b_dog"),
            ("mkdir mine/val", "mine/val has no class folders"),
            ("rm mine/train/*/*.png", "mine/train/a cat has no images"),
            ("rm mine/train/*/?[1-9].png", "mine/val is missing, and .* too few to hold out 10%"),
        ],
    )
    def test_bad_layouts(self, folder, harm, message):
        subprocess.run(harm, shell=True, check=True, cwd=folder)
        with pytest.raises(InputError, match=message) as error:
            datasets.load("mine", root=folder)
        assert "\n" not in str(error.value)


class TestRegistry:
    def test_names(self, folder):
        (folder / "medimeta/oct").mkdir(parents=True)
        (folder / "medimeta/oct/info.yaml").write_text("")
        names = datasets.names(folder)
        assert {"mine", "oct", "digits", "stl10", "octdl", "breastmnist", "skinl_derm"} < set(
            names
        )
        assert len(names) == len(datasets.NAMES) + 2 == 1 + 8 + 10 + 2

    def test_medmnist_flags_are_those_of_the_package(self):
        from medmnist.info import INFO

        single = {
            flag
            for flag, info in INFO.items()
            if "multi-label" not in info["task"] and not flag.endswith("3d")
        }
        assert set(medmnist_sets.FLAGS) == single
        assert set(medmnist_sets.UNSUITED) == set(INFO) - single

    def test_unknown_name(self, folder):
        with pytest.raises(UnknownNameError, match=r"'mime'; did you mean 'mine'.*breastmnist"):
            datasets.load("mime", root=folder)

    def test_a_task_without_tasks(self, folder):
        with pytest.raises(InputError, match=r"--task x: only MedIMeta's.* digits has none"):
            datasets.load("digits", root=folder, task="x")

    def test_octdl_says_how_to_prepare_it(self, tmp_path):
        with pytest.raises(MissingFileError, match=r"octdl_preprocessing\.py --output"):
            datasets.load("octdl", root=tmp_path)

    def test_a_typo_costs_no_heavy_import(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from src import datasets, errors\n"
            "try: datasets.load('x', root=Path(sys.argv[1]))\n"
            "except errors.UnknownNameError: print(sorted({'torch', 'sklearn'} & {*sys.modules}))"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
