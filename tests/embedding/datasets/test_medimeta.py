import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from src.core.errors import (
    DataError,
    InputError,
    MissingFileError,
    MissingPackageError,
    UnknownNameError,
)
from src.embedding import datasets
from src.embedding.persons import Choice
from tests.embedding.datasets.support import labels_of, lines, medimeta

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize("hdf5", [False, True])
def test_default_task(tmp_path, hdf5):
    medimeta(tmp_path, hdf5=hdf5)
    splits = pickle.loads(pickle.dumps(datasets.load("organs_axial", root=tmp_path)))
    assert splits.class_names == ["liver", "spleen"]
    assert labels_of(splits) == [[0, 1, 1], [1], [0, 0]]
    assert [splits.train[i].getpixel((4, 3)) for i in range(3)] == [(v, v, v) for v in (0, 10, 40)]
    assert splits.train[0].size == (5, 4)
    assert splits.facts["task"] == "organ label"


def test_any_id_with_a_task(tmp_path):
    medimeta(tmp_path, "organs_odd")
    splits = datasets.load("organs_odd", root=tmp_path, task="side")
    assert splits.class_names == ["left", "right"]
    assert labels_of(splits) == [[1, 0, 0], [1], [1, 0]]


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        (None, InputError, r"needs --task NAME \(valid: age, organ label, side\)"),
        ("sides", UnknownNameError, "'sides'; did you mean 'side'"),
        ("age", InputError, "'age' of organs_odd is REGRESSION; one class per image"),
    ],
)
def test_tasks_are_checked(tmp_path, task, error, message):
    medimeta(tmp_path, "organs_odd")
    with pytest.raises(error, match=message):
        datasets.load("organs_odd", root=tmp_path, task=task)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda f: (f / "info.yaml").unlink(), MissingFileError, "unpack it to"),
        (lambda f: (f / "info.yaml").write_text("[1"), DataError, r"info\.yaml"),
        (lambda f: (f / "splits/val.txt").unlink(), MissingFileError, r"val\.txt"),
        (lambda f: lines(f / "splits/val.txt", ["x.tiff"]), DataError, r"val\.txt"),
        (
            lambda f: lines(f / "splits/val.txt", ["000006.tiff"]),
            DataError,
            "image 6 does not exist; there are 6 labels",
        ),
        (lambda f: (f / "task_labels/organ label.npy").unlink(), MissingFileError, "npy"),
        (lambda f: (f / "task_labels/organ label.npy").write_bytes(b"x"), DataError, "npy"),
        (lambda f: (f / "images").rename(f / "pictures"), MissingFileError, "neither"),
    ],
)
def test_damage_is_named(tmp_path, harm, error, message):
    harm(medimeta(tmp_path))
    with pytest.raises(error, match=message):
        datasets.load("organs_axial", root=tmp_path)


def test_damaged_images_are_named(tmp_path):
    folder = medimeta(tmp_path)
    (folder / "images/000003.tiff").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"000003\.tiff"):
        datasets.load("organs_axial", root=tmp_path).test[0]


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    medimeta(tmp_path, hdf5=True)
    splits = datasets.load("organs_axial", root=tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackageError, match="pip install h5py"):
        splits.train[0]


def annotate(folder, ids, name="patient_id"):
    """`annotations.csv` as MedIMeta's scripts write it."""
    rows = [f"images/{i:06d}.tiff,{i % 2},original/{i}.png,train,{x}" for i, x in enumerate(ids)]
    lines(folder / "annotations.csv", [f"filepath,tasks/side,original_filepath,x,{name}", *rows])


@pytest.mark.parametrize("hdf5", [False, True])
def test_patients_of_annotations(tmp_path, hdf5):
    annotate(medimeta(tmp_path, hdf5=hdf5), ["P7", "P3", "P9", "P7", "P3", "P9"])
    splits = datasets.load("organs_axial", root=tmp_path)
    train, val, test = (s.persons.tolist() for s in (splits.train, splits.val, splits.test))
    assert train[1] == train[2] != train[0]  # images 0, 1, 4
    assert val[0] == test[1]  # images 2; 3, 5
    assert test[0] == train[0]
    unknown = datasets.load("organs_axial", root=tmp_path, persons=Choice("none"))
    assert unknown.train.persons is None


def test_annotations_without_patients(tmp_path):
    annotate(medimeta(tmp_path), "abcdef", name="camera")
    assert datasets.load("organs_axial", root=tmp_path).train.persons is None


def test_annotations_of_some_patients_are_refused(tmp_path):
    annotate(medimeta(tmp_path), ["P7", "", "P9", "nan", "P3", "P9"])
    with pytest.raises(DataError, match=r"annotations.csv: 2 of 6 rows have no person"):
        datasets.load("organs_axial", root=tmp_path)


def test_splits_by_patient(tmp_path):
    folder = medimeta(tmp_path)
    count = 40
    np.save(folder / "task_labels/organ label.npy", np.arange(count) // 2 % 2)
    for i in range(count):
        Image.new("L", (5, 4), i).save(folder / f"images/{i:06d}.tiff")
    for split, part in (("train", range(20)), ("val", range(20, 30)), ("test", range(30, 40))):
        lines(folder / f"splits/{split}.txt", [f"images/{i:06d}.tiff" for i in part])
    annotate(folder, [f"P{i // 2 % 10}" for i in range(count)])
    splits = datasets.load("organs_axial", root=tmp_path, persons=Choice(by_person=True))
    whose = [set(s.persons.tolist()) for s in (splits.train, splits.val, splits.test)]
    assert sum(map(len, whose)) == len(set().union(*whose)) == 10
    values = [s[i].getpixel((0, 0))[0] for s in (splits.train, splits.val, splits.test)
              for i in range(len(s))]  # fmt: skip
    assert sorted(values) == list(range(count))
    assert splits.facts["val"] == "held out by person"
    for source in ("folder", "dicom"):
        with pytest.raises(InputError, match=f"--persons {source} has no effect: MedIMeta's"):
            datasets.load("organs_axial", root=tmp_path, persons=Choice(source))
