import pickle
import subprocess

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from src.core.errors import DataError, InputError
from src.embedding import datasets
from tests.embedding.datasets.support import grey, save


def test_without_val_a_tenth_is_held_out(folder):
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


def test_with_val_nothing_is(folder):
    save(folder / "mine/val/b_dog/x.JPG", Image.new("RGB", (3, 2)))
    splits = datasets.load("mine", root=folder)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [22, 1, 3]
    assert splits.val.labels.tolist() == [1]
    assert splits.val[0].mode == "RGB"
    assert "val" not in splits.facts


def test_no_image_is_decoded_for_a_split(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:45])  # the header is whole
    splits = datasets.load("mine", root=folder)
    assert splits.test.labels.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match=r"mine/test/a cat/00\.png is not an image"):
        splits.test[0]


def test_other_files_are_ignored_and_noted(folder, caplog):
    expected = datasets.load("mine", root=folder).train.labels
    for name in (".DS_Store", "train/.hidden/x.png", "train/b_dog/._00.png"):
        path = folder / "mine" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert not caplog.records
    (folder / "mine/train/b_dog/notes.txt").write_bytes(b"")
    assert (datasets.load("mine", root=folder).train.labels == expected).all()
    assert "not images and not read: 1 file, the first" in caplog.text
    assert "notes.txt" in caplog.text


def test_splits_can_be_pickled(folder):
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
        (
            "rm mine/train/*/?[1-9].png",
            "mine has no validation split, and class .a cat. has only 1 row",
        ),
    ],
)
def test_bad_layouts(folder, harm, message):
    subprocess.run(harm, shell=True, check=True, cwd=folder)
    with pytest.raises(InputError, match=message) as error:
        datasets.load("mine", root=folder)
    assert "\n" not in str(error.value)
