import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from src.core.errors import DataError, MissingFileError
from src.embedding import datasets
from tests.embedding.datasets.support import labels_of, lines, paint

pytestmark = pytest.mark.usefixtures("no_network")


def test_stl10(stl10):
    splits = datasets.load("stl10", root=stl10)
    labels = np.arange(30) % 3
    train, val = train_test_split(
        np.arange(30), test_size=0.1, random_state=12345, stratify=labels
    )
    assert splits.class_names == ["airplane", "bird", "car"]
    assert labels_of(splits) == [labels[train].tolist(), labels[val].tolist(), [0, 1, 2]]
    for split, rows in ((splits.train, train), (splits.val, val), (splits.test, range(3))):
        images = [split[i] for i in range(len(split))]
        assert [image.getpixel((2, 1)) for image in images] == [(row, 0, 7) for row in rows]


def test_oxford_pets(tmp_path):
    home = tmp_path / "oxford-iiit-pet"
    names = [f"Abyssinian_{i}" for i in range(10)] + [f"great_pyrenees_{i}" for i in range(10)]
    lines(
        home / "annotations/trainval.txt",
        [f"{name} {1 + (i >= 10)} {1 + (i >= 10)} 1" for i, name in enumerate(names)],
    )
    lines(home / "annotations/test.txt", ["great_pyrenees_100 2 2 1", "Abyssinian_100 1 1 1"])
    for i, name in enumerate(names):
        paint(home / f"images/{name}.jpg", 10 * i)
    (home / "images/great_pyrenees_100.jpg").write_bytes(b"garbage")
    splits = datasets.load("oxford-pets", root=tmp_path)
    labels = np.repeat([0, 1], 10)
    train, val = train_test_split(
        np.arange(20), test_size=0.1, random_state=12345, stratify=labels
    )
    assert splits.class_names == ["Abyssinian", "Great Pyrenees"]
    assert labels_of(splits) == [labels[train].tolist(), labels[val].tolist(), [1, 0]]
    assert [splits.train[i].getpixel((0, 0))[0] for i in range(18)] == [10 * i for i in train]
    with pytest.raises(DataError, match=r"great_pyrenees_100\.jpg is not an image"):
        splits.test[0]
    with pytest.raises(MissingFileError, match=r"Abyssinian_100\.jpg does not exist"):
        splits.test[1]


def test_dtd(tmp_path):
    home = tmp_path / "dtd/dtd"
    for value, split in enumerate(("train", "val", "test")):
        names = [f"{c}/{c}_{split}.jpg" for c in ("zigzagged", "banded")]
        lines(home / f"labels/{split}1.txt", names)
        paint(home / "images" / names[0], 50 * value)
    splits = datasets.load("dtd", root=tmp_path)
    assert splits.class_names == ["banded", "zigzagged"]
    assert labels_of(splits) == [[1, 0]] * 3
    assert [s[0].getpixel((0, 0))[0] for s in (splits.train, splits.val, splits.test)] == [
        *(0, 50, 100)
    ]


def test_dtd_with_a_class_missing_from_a_split(tmp_path):
    for split, names in (("train", "ab"), ("val", "b"), ("test", "ab")):
        lines(tmp_path / f"dtd/dtd/labels/{split}1.txt", [f"{c}/{c}.jpg" for c in names])
    with pytest.raises(DataError, match="train and val have different classes"):
        datasets.load("dtd", root=tmp_path)


def test_aircraft(tmp_path):
    home = tmp_path / "fgvc-aircraft-2013b/data"
    lines(home / "variants.txt", ["A300B4", "Boeing 717"])
    for split, entries in (
        ("train", ["0000001 Boeing 717", "0000002 A300B4"]),
        ("val", ["0000003 A300B4"]),
        ("test", ["0000004 Boeing 717"]),
    ):
        lines(home / f"images_variant_{split}.txt", entries)
    paint(home / "images/0000004.jpg", 33)
    splits = datasets.load("aircraft", root=tmp_path)
    assert splits.class_names == ["A300B4", "Boeing 717"]
    assert labels_of(splits) == [[1, 0], [0], [1]]
    assert splits.test[0].getpixel((0, 0)) == (33, 33, 33)


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "train_y.bin").unlink(),
        lambda f: (f / "class_names.txt").unlink(),
        lambda f: (f / "test_X.bin").write_bytes(b"123"),
        lambda f: (f / "test_y.bin").write_bytes(b"\1"),
        lambda f: (f / "test_y.bin").write_bytes(b"\1\0\1"),
    ],
)
def test_damaged_stl10(stl10, harm):
    harm(stl10 / "stl10_binary")
    with pytest.raises(DataError, match="stl10") as error:
        datasets.load("stl10", root=stl10)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(stl10):
    (stl10 / "stl10_binary/test_y.bin").unlink()
    with pytest.raises(DataError, match=r"stl10_binary is incomplete .*test_y\.bin"):
        datasets.load("stl10", root=stl10)
