"""Small images for the tests of datasets."""

import numpy as np
import pytest
import yaml
from PIL import Image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def grey(value, size=(3, 2)):
    return Image.new("L", size, value)


def lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in entries))


def labels_of(splits):
    return [split.labels.tolist() for split in (splits.train, splits.val, splits.test)]


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value, value, value)).save(path, quality=100, subsampling=0)


def medmnist(root, name, size, *, colour=False, label_width=1):
    """Write a MedMNIST file with 4 / 2 / 2 images; image i of a split has the value i."""
    suffix = "" if size == 28 else f"_{size}"
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        shape = (count, size, size, 3) if colour else (count, size, size)
        values = np.arange(count, dtype=np.uint8).reshape(-1, *[1] * (len(shape) - 1))
        arrays[f"{split}_images"] = np.broadcast_to(values, shape)
        arrays[f"{split}_labels"] = (np.arange(count * label_width) % 2).astype(np.uint8)
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"].reshape(count, label_width)
    path = root / "medmnist" / f"{name}{suffix}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


TASKS = [
    {
        "task_name": "organ label",
        "task_target": "MULTICLASS_CLASSIFICATION",
        "labels": {0: "liver", 1: "spleen"},
    },
    {"task_name": "age", "task_target": "REGRESSION", "labels": {"type": "integer"}},
    {"task_name": "side", "task_target": "BINARY_CLASSIFICATION", "labels": ["left", "right"]},
]


def medimeta(root, name="organs_axial", *, hdf5=False):
    """Six grey images, image i of the value 10 i; splits list them in descending order."""
    folder = root / "medimeta" / name
    (folder / "task_labels").mkdir(parents=True)
    info = {"id": name, "name": "Organs", "input_size": [1, 4, 5], "tasks": TASKS}
    (folder / "info.yaml").write_text(yaml.safe_dump(info))
    np.save(folder / "task_labels/organ label.npy", np.array([0, 1, 1, 0, 1, 0]))
    np.save(folder / "task_labels/side.npy", np.array([[1], [0], [1], [1], [0], [0]]))
    images = np.arange(0, 60, 10, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 4, 5, 1), np.uint8
    )
    if hdf5:
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "images.hdf5", "w") as file:
            file["images"] = images
    else:
        (folder / "images").mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(folder / f"images/{i:06d}.tiff")
    for split, rows in (("train", [4, 1, 0]), ("val", [2]), ("test", [5, 3])):
        lines(folder / f"splits/{split}.txt", [f"images/{row:06d}.tiff" for row in rows])
    return folder


def tiff(path, values, photometric, compression=None):
    """A grey TIFF file of 8 or 16 bits; photometric 0: zero is white.

    Pillow writes that tag (262) itself, so it is changed in the file's directory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, compression=compression)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    for i in range(int.from_bytes(content[start : start + 2], "little")):
        at = start + 2 + 12 * i
        if int.from_bytes(content[at : at + 2], "little") == 262:
            content[at + 8 : at + 10] = photometric.to_bytes(2, "little")
    path.write_bytes(bytes(content))
