import pickle

import numpy as np
import pytest

from src.core.errors import DataError, InputError
from src.embedding import datasets
from tests.embedding.datasets.support import labels_of, medmnist

pytestmark = pytest.mark.usefixtures("no_network")


def test_breastmnist_is_rgb_at_224_px(tmp_path):
    medmnist(tmp_path, "breastmnist", 224)
    splits = datasets.load("breastmnist", root=tmp_path)
    assert splits.class_names == ["malignant", "normal, benign"]
    assert labels_of(splits) == [[0, 1, 0, 1], [0, 1], [0, 1]]
    assert (splits.train[3].mode, splits.train[3].size) == ("RGB", (224, 224))
    assert splits.train[3].getpixel((5, 5)) == (3, 3, 3)
    assert splits.facts["image_size"] == 224


def test_the_size_picks_the_file(tmp_path):
    medmnist(tmp_path, "retinamnist", 28, colour=True)
    medmnist(tmp_path, "pneumoniamnist", 64)
    small = datasets.load("retinamnist", root=tmp_path, image_size=28).val
    assert (small[1].mode, small[1].size) == ("RGB", (28, 28))
    larger = datasets.load("pneumoniamnist", root=tmp_path, image_size=64).val
    assert (larger[1].mode, larger[1].size) == ("L", (64, 64))


def test_images_are_read_when_asked_for(tmp_path, monkeypatch):
    medmnist(tmp_path, "breastmnist", 28)
    read = []
    item = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda s, k: read.append(k) or item(s, k)
    )
    splits = datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert read == ["train_labels", "val_labels", "test_labels"]
    copy = pickle.loads(pickle.dumps(splits))
    assert [copy.test[i].getpixel((0, 0))[0] for i in (1, 0)] == [1, 0]
    assert read[3:] == ["test_images"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("bloodmnist", 32, "no images of 32 px; .*28, 64, 128, 224"),
        ("chestmnist", None, "several labels"),
        ("organmnist3d", 28, "volumes"),
    ],
)
def test_what_cannot_be_used(tmp_path, name, size, message):
    with pytest.raises(InputError, match=message):
        datasets.load(name, root=tmp_path, image_size=size)


def test_damaged_files(tmp_path):
    path = medmnist(tmp_path, "breastmnist", 224, label_width=2)
    with pytest.raises(DataError, match="multi-label"):
        datasets.load("breastmnist", root=tmp_path)
    whole = medmnist(tmp_path, "breastmnist", 224).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"breastmnist_224\.npz is incomplete or damaged"):
        datasets.load("breastmnist", root=tmp_path)
    np.savez(path, train_labels=np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="val_labels"):
        datasets.load("breastmnist", root=tmp_path)
