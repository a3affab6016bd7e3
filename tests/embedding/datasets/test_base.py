"""Pixel values, damaged files, and the checks of splits."""

import numpy as np
import pytest
from PIL import Image

from src.core.errors import DataError, MissingFileError
from src.embedding.datasets.base import (
    ImageArray,
    ImageFiles,
    ImageSet,
    ImageSplits,
)
from src.embedding.datasets.decoding import to_array, to_rgb
from tests.embedding.datasets.support import grey, save

GREY16 = np.array([[0, 1, 65535], [256, 32768, 4369]], np.uint16)


def test_sixteenths_are_exact():
    values = (np.arange(17, dtype=np.float32) / 16)[None]
    image = ImageSet(ImageArray(values[None]), np.zeros(1, np.int64))[0]
    assert (to_array(image)[0] * 16).tolist() == [list(range(17))]
    expected = [round(k * 255 / 16) for k in range(17)]
    assert np.asarray(to_rgb(image)).tolist() == [[[v] * 3 for v in expected]]


def test_grey_and_colour():
    array = to_array(grey(51))
    assert array.shape == (1, 2, 3)
    assert array.dtype == np.float32
    assert (array == np.float32(0.2)).all()
    colour = to_array(Image.new("RGB", (3, 2), (255, 0, 51)))
    assert colour.shape == (3, 2, 3)
    assert colour[:, 1, 2].tolist() == [1, 0, np.float32(0.2)]


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_keeps_its_values(tmp_path, suffix):
    save(tmp_path / f"deep.{suffix}", Image.fromarray(GREY16))
    image = ImageFiles([tmp_path / f"deep.{suffix}"])[0]
    assert image.mode == "F"
    assert (to_array(image)[0] == GREY16 / np.float32(65535)).all()
    assert np.asarray(to_rgb(image))[..., 0].tolist() == [[0, 0, 255], [1, 128, 17]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("LA", (7, 255), [7]),
        ("RGBA", (1, 2, 3, 255), [1, 2, 3]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("F", 1.0, [255]),
    ],
)
def test_other_modes(mode, colour, expected):
    array = to_array(Image.new(mode, (3, 2), colour))
    assert (array[:, 0, 0] * 255).tolist() == expected
    assert np.asarray(to_rgb(Image.new(mode, (3, 2), colour)))[0, 0].tolist() in (
        expected,
        expected * 3,
    )


@pytest.mark.filterwarnings("error")
def test_palette(tmp_path):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "transparent.png", transparency=b"\x00\xff")
    for name in ("plain.png", "transparent.png"):
        read = ImageFiles([tmp_path / name])[0]
        assert (read.mode, read.getpixel((0, 0))) == ("RGB", (10, 20, 30))


def test_unknown_range_is_an_error(tmp_path):
    save(tmp_path / "deep.tiff", Image.new("F", (3, 2), 300.0))
    with pytest.raises(DataError, match=r"deep\.tiff .*0\.\.1"):
        ImageFiles([tmp_path / "deep.tiff"])[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp"])
@pytest.mark.parametrize("harm", ["truncated", "text", "empty", "gone"])
def test_damaged_files_are_named(tmp_path, suffix, harm):
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


def test_the_reason_of_an_error_is_kept(tmp_path):
    """A file that exists and cannot be opened is not "not an image"."""
    path = tmp_path / "loop.png"
    path.symlink_to(path)
    with pytest.raises(DataError, match=rf"^cannot read {path}: Too many levels of symbolic"):
        ImageFiles([path])[0]
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"^cannot read .*folder\.png: Is a directory$"):
        ImageFiles([tmp_path / "folder.png"])[0]


def test_rgb_sets():
    images = ImageArray(np.full((1, 2, 3), 9, np.uint8))
    labels = np.zeros(1, np.int64)
    assert ImageSet(images, labels)[0].mode == "L"
    image = ImageSet(images, labels, rgb=True)[0]
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (9, 9, 9))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[], [0], [0]], "train: no images"),
        ([[0, 1], [2], [0]], r"val: label 2 is not in 0\.\.1"),
        ([[0, 1], [0], [-1]], r"test: label -1 is not in 0\.\.1"),
        ([[0, 0], [0], [1]], "test: class 'dog' does not occur in train"),
    ],
)
def test_labels_are_checked(labels, message):
    sets = [
        ImageSet(ImageArray(np.zeros((len(y), 2, 2), np.uint8)), np.array(y, np.int64))
        for y in labels
    ]
    with pytest.raises(DataError, match=message):
        ImageSplits(*sets, class_names=["cat", "dog"])


def test_numbers_of_images_and_labels_are_compared():
    one = ImageSet(ImageArray(np.zeros((1, 2, 2), np.uint8)), np.zeros(1, np.int64))
    two = ImageSet(one.images, np.zeros(2, np.int64))
    with pytest.raises(DataError, match="val: 1 images but 2 labels"):
        ImageSplits(one, two, one, class_names=["cat"])
