"""Arrays of images in the shapes and types that people have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import DataError, MissingFileError
from src.embedding import datasets
from src.embedding.datasets.decoding import to_array, to_rgb
from src.embedding.datasets.pixels import layout
from tests.embedding.datasets.support import labels_of, medimeta

RNG = np.random.default_rng(0)


def shown(array):
    """The pictures of an array, as rows of values 0..1."""
    found = layout("x", array.shape, array.dtype, lambda: (array.min(), array.max()))
    return [to_array(found.image(row)) for row in array]


@given(colour=st.booleans(), size=st.tuples(st.integers(4, 9), st.integers(4, 9)))
def test_all_forms_of_one_picture_are_equal(colour, size):
    shape = (2, *size, 3) if colour else (2, *size)
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    array[0, 0, 0], array[0, 0, 1] = 0, 255
    expected = shown(array)
    forms = [array.astype(kind) for kind in ("i8", ">u2", "f4", "f2", "f8")]
    forms += [np.asfortranarray(array), (array / np.float32(255)).astype(np.float32)]
    if colour:
        forms.append(array.transpose(0, 3, 1, 2))
    else:
        forms += [array[..., None], array[:, None], array[:, None].astype(np.float64)]
    for form in forms:
        np.testing.assert_allclose(shown(form), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 4), np.uint8), r"shaped \(2, 8, 8, 4\); \(n, h, w\), \(n, h, w, c\)"),
        (np.zeros((2, 64), np.uint8), r"shaped \(2, 64\)"),
        (np.full((2, 8, 8), 4095, np.uint16), r"values from 4095 to 4095; 0\.\.255 or 0\.\.1"),
        (np.full((2, 8, 8), -0.5), r"values from -0\.5 to -0\.5"),
        (np.full((2, 8, 8), np.nan), "values from nan to nan"),
        (np.zeros((2, 8, 8), complex), "of type complex128, not of numbers"),
    ],
)
def test_others_are_refused(array, message):
    with pytest.raises(DataError, match=message):
        shown(array)


def breastmnist(root, images, size=28, counts=(6, 4, 4)):
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{split}_images"] = images(count)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
    (root / "medmnist").mkdir(exist_ok=True)
    suffix = "" if size == 28 else f"_{size}"
    np.savez(root / "medmnist" / f"breastmnist{suffix}.npz", **arrays)


def random(count, size=28):
    return np.random.default_rng(count).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a[..., None],
        lambda a: a[:, None],
        lambda a: np.repeat(a[:, None], 3, 1),
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.float64),
        lambda a: a / 255,
    ],
)
def test_medmnist_files_of_other_programs(tmp_path, form):
    breastmnist(tmp_path, random)
    expected = datasets.load("breastmnist", root=tmp_path, image_size=28)
    before = [np.asarray(expected.test[i]) for i in range(4)]
    breastmnist(tmp_path, lambda count: form(random(count)))
    found = datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert labels_of(found) == labels_of(expected)
    np.testing.assert_array_equal([np.asarray(found.test[i]) for i in range(4)], before)


def test_pictures_of_another_size_than_the_name_says(tmp_path):
    breastmnist(tmp_path, random, size=224)
    message = (
        r"holds images of 28 x 28 px, not of 224 .*breastmnist\.npz and pass --image_size 28$"
    )
    with pytest.raises(DataError, match=message):
        datasets.load("breastmnist", root=tmp_path)


def test_other_counts_than_medmnists_are_said(tmp_path, caplog):
    breastmnist(tmp_path, random)
    datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert (
        "has {'train': 6, 'val': 4, 'test': 4} images; MedMNIST lists {'train': 546" in caplog.text
    )
    caplog.clear()
    breastmnist(tmp_path, random, counts=(546, 78, 156))
    datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert not caplog.records


def test_a_file_of_another_size_is_named_where_one_is_missing(tmp_path, monkeypatch):
    from src.embedding.datasets import medmnist_sets

    def refuse(url, path, md5):
        raise MissingFileError(f"cannot download {url}; put it at {path}")

    monkeypatch.setattr(medmnist_sets, "fetch", refuse)
    breastmnist(tmp_path, random)
    with pytest.raises(MissingFileError, match="its images of 28 px exist: --image_size 28$"):
        datasets.load("breastmnist", root=tmp_path)
    with pytest.raises(MissingFileError, match=r"pneumoniamnist_224\.npz$"):
        datasets.load("pneumoniamnist", root=tmp_path)


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a.astype(np.float32),
        lambda a: a.astype(np.int64),
        lambda a: a / 255,
        lambda a: a[..., 0],
        lambda a: a.transpose(0, 3, 1, 2),
    ],
)
def test_medimeta_hdf5_of_other_types(tmp_path, form):
    h5py = pytest.importorskip("h5py")
    folder = medimeta(tmp_path, hdf5=True)
    expected = [np.asarray(image) for image in images_of(tmp_path)]
    with h5py.File(folder / "images.hdf5", "r+") as file:
        array = form(file["images"][()])
        del file["images"]
        file["images"] = array
    for image, before in zip(images_of(tmp_path), expected, strict=True):
        assert (np.asarray(image) == before).all()


def images_of(root):
    split = datasets.load("organs_axial", root=root).train
    return [to_rgb(split[i]) for i in range(len(split))]


def test_floats_of_no_known_range_are_one_line(tmp_path):
    h5py = pytest.importorskip("h5py")
    folder = medimeta(tmp_path, hdf5=True)
    with h5py.File(folder / "images.hdf5", "r+") as file:
        array = file["images"][()] * 50.0
        del file["images"]
        file["images"] = array
    with pytest.raises(DataError, match=r"images\.hdf5 has values from 0 to 2500; 0\.\.255"):
        datasets.load("organs_axial", root=tmp_path)
