"""Small images for the tests of datasets."""

import numpy as np
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
