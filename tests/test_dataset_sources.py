"""Readers of published data sets, on small files in their own formats, and downloads."""

import hashlib
import http.server
import pickle
import socket
import sys
import tarfile
import threading

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.model_selection import train_test_split

from src import datasets
from src.datasets import downloads, torchvision_sets
from src.errors import (
    DataError,
    InputError,
    MissingFileError,
    MissingPackageError,
    OutputError,
    UnknownNameError,
)


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to connect or to resolve a name fails the test."""

    def refuse(*args, **kwargs):
        pytest.fail("tried to use the network")

    monkeypatch.setattr(downloads, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in entries))


def labels_of(splits):
    return [split.labels.tolist() for split in (splits.train, splits.val, splits.test)]


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value, value, value)).save(path, quality=100, subsampling=0)


@pytest.fixture
def stl10(tmp_path):
    """30 training and 3 test images; pixel (row 1, column 2) of image i is (i, 0, 7)."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 3)):
        pixels = np.zeros((count, 3, 96, 96), np.uint8)  # the file's order: n, colour, column, row
        pixels[:, 0, 2, 1] = np.arange(count)
        pixels[:, 2, 2, 1] = 7
        pixels.tofile(folder / f"{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 3 + 1).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar")
    return tmp_path


@pytest.mark.usefixtures("no_network")
class TestTorchvision:
    def test_stl10(self, stl10):
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

    def test_oxford_pets(self, tmp_path):
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

    def test_dtd(self, tmp_path):
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

    def test_dtd_with_a_class_missing_from_a_split(self, tmp_path):
        for split, names in (("train", "ab"), ("val", "b"), ("test", "ab")):
            lines(tmp_path / f"dtd/dtd/labels/{split}1.txt", [f"{c}/{c}.jpg" for c in names])
        with pytest.raises(DataError, match="train and val have different classes"):
            datasets.load("dtd", root=tmp_path)

    def test_aircraft(self, tmp_path):
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
    def test_damaged_stl10(self, stl10, harm):
        harm(stl10 / "stl10_binary")
        with pytest.raises(DataError, match="stl10") as error:
            datasets.load("stl10", root=stl10)
        assert "\n" not in str(error.value)


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


@pytest.mark.usefixtures("no_network")
class TestMedMNIST:
    def test_breastmnist_is_rgb_at_224_px(self, tmp_path):
        medmnist(tmp_path, "breastmnist", 224)
        splits = datasets.load("breastmnist", root=tmp_path)
        assert splits.class_names == ["malignant", "normal, benign"]
        assert labels_of(splits) == [[0, 1, 0, 1], [0, 1], [0, 1]]
        assert (splits.train[3].mode, splits.train[3].size) == ("RGB", (224, 224))
        assert splits.train[3].getpixel((5, 5)) == (3, 3, 3)
        assert splits.facts["image_size"] == 224

    def test_the_size_picks_the_file(self, tmp_path):
        medmnist(tmp_path, "retinamnist", 28, colour=True)
        medmnist(tmp_path, "pneumoniamnist", 64)
        small = datasets.load("retinamnist", root=tmp_path, image_size=28).val
        assert (small[1].mode, small[1].size) == ("RGB", (28, 28))
        larger = datasets.load("pneumoniamnist", root=tmp_path, image_size=64).val
        assert (larger[1].mode, larger[1].size) == ("L", (64, 64))

    def test_images_are_read_when_asked_for(self, tmp_path, monkeypatch):
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
    def test_what_cannot_be_used(self, tmp_path, name, size, message):
        with pytest.raises(InputError, match=message):
            datasets.load(name, root=tmp_path, image_size=size)

    def test_damaged_files(self, tmp_path):
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


@pytest.mark.usefixtures("no_network")
class TestMedIMeta:
    @pytest.mark.parametrize("hdf5", [False, True])
    def test_default_task(self, tmp_path, hdf5):
        medimeta(tmp_path, hdf5=hdf5)
        splits = pickle.loads(pickle.dumps(datasets.load("organs_axial", root=tmp_path)))
        assert splits.class_names == ["liver", "spleen"]
        assert labels_of(splits) == [[0, 1, 1], [1], [0, 0]]
        assert [splits.train[i].getpixel((4, 3)) for i in range(3)] == [
            (v, v, v) for v in (0, 10, 40)
        ]
        assert splits.train[0].size == (5, 4)
        assert splits.facts["task"] == "organ label"

    def test_any_id_with_a_task(self, tmp_path):
        medimeta(tmp_path, "organs_odd")
        splits = datasets.load("organs_odd", root=tmp_path, task="side")
        assert splits.class_names == ["left", "right"]
        assert labels_of(splits) == [[1, 0, 0], [1], [1, 0]]

    @pytest.mark.parametrize(
        ("task", "error", "message"),
        [
            (None, InputError, r"needs --task NAME \(valid: age, organ label, side\)"),
            ("sides", UnknownNameError, "'sides'; did you mean 'side'"),
            ("age", InputError, "'age' of organs_odd is REGRESSION; one class an image"),
        ],
    )
    def test_tasks_are_checked(self, tmp_path, task, error, message):
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
            (lambda f: lines(f / "splits/val.txt", ["000006.tiff"]), DataError, "no image 6"),
            (lambda f: (f / "task_labels/organ label.npy").unlink(), MissingFileError, "npy"),
            (lambda f: (f / "task_labels/organ label.npy").write_bytes(b"x"), DataError, "npy"),
            (lambda f: (f / "images").rename(f / "pictures"), MissingFileError, "neither"),
        ],
    )
    def test_damage_is_named(self, tmp_path, harm, error, message):
        harm(medimeta(tmp_path))
        with pytest.raises(error, match=message):
            datasets.load("organs_axial", root=tmp_path)

    def test_damaged_images_are_named(self, tmp_path):
        folder = medimeta(tmp_path)
        (folder / "images/000003.tiff").write_bytes(b"II*\0")
        with pytest.raises(DataError, match=r"000003\.tiff"):
            datasets.load("organs_axial", root=tmp_path).test[0]

    def test_hdf5_without_h5py(self, tmp_path, monkeypatch):
        medimeta(tmp_path, hdf5=True)
        splits = datasets.load("organs_axial", root=tmp_path)
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(MissingPackageError, match="pip install h5py"):
            splits.train[0]


@pytest.fixture
def server(tmp_path):
    """Serve `tmp_path/www`; `/short/...` breaks off after half of the file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[1].split("?")[0]
            content = (tmp_path / "www" / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // (2 if "/short/" in self.path else 1)])

        def log_message(self, *args):
            pass

    (tmp_path / "www").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestDownloads:
    def test_medmnist(self, tmp_path, server, monkeypatch, capsys):
        from medmnist.info import INFO

        path = medmnist(tmp_path, "breastmnist", 28)
        content = path.read_bytes()
        path.rename(tmp_path / "www" / path.name)
        path.parent.rmdir()
        monkeypatch.setitem(INFO["breastmnist"], "url", f"{server}/{path.name}?download=1")
        monkeypatch.setitem(INFO["breastmnist"], "MD5", "0" * 32)
        with pytest.raises(DataError, match=f"came damaged .*put it at {path}"):
            datasets.load("breastmnist", root=tmp_path, image_size=28)
        assert everything(tmp_path / "medmnist") == []
        monkeypatch.setitem(INFO["breastmnist"], "MD5", hashlib.md5(content).hexdigest())
        splits = datasets.load("breastmnist", root=tmp_path, image_size=28)
        assert len(splits.train) == 4
        assert path.read_bytes() == content
        assert capsys.readouterr() == ("", "")

    def test_archives_are_unpacked_whole(self, tmp_path, server, stl10, monkeypatch):
        from src.datasets import torchvision_sets

        archive = tmp_path / "www/stl10_binary.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(stl10 / "stl10_binary", "stl10_binary")
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        source = torchvision_sets.SOURCES["stl10"]
        packed = source.archives[0]._replace(url=f"{server}/stl10_binary.tar.gz", md5=md5)
        monkeypatch.setitem(
            torchvision_sets.SOURCES,
            "stl10",
            torchvision_sets.Source(source.read, (packed,), source.splits),
        )
        root = tmp_path / "fresh"
        assert len(datasets.load("stl10", root=root).train) == 27
        assert sorted(path.name for path in root.iterdir()) == [
            *("stl10_binary", "stl10_binary.tar.gz")
        ]

    def test_an_archive_put_there_by_hand_is_used(self, tmp_path, stl10, no_network):
        root = tmp_path / "fresh"
        root.mkdir()
        with tarfile.open(root / "stl10_binary.tar.gz", "w:gz") as tar:
            tar.add(stl10 / "stl10_binary", "stl10_binary")
        assert len(datasets.load("stl10", root=root).test) == 3

    def test_another_process_may_unpack_it_first(self, tmp_path, stl10, no_network, monkeypatch):
        def first(archive, folder):
            (stl10 / "stl10_binary").rename(folder)
            raise OutputError("Directory not empty")

        root = tmp_path / "fresh"
        root.mkdir()
        (root / "stl10_binary.tar.gz").touch()
        monkeypatch.setattr(torchvision_sets, "unpack", first)
        assert len(datasets.load("stl10", root=root).test) == 3

    def test_a_damaged_archive_leaves_nothing(self, tmp_path, stl10, no_network):
        root = tmp_path / "fresh"
        root.mkdir()
        archive = root / "stl10_binary.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(stl10 / "stl10_binary", "stl10_binary")
        for content in (archive.read_bytes()[:-500], b"text"):
            archive.write_bytes(content)
            with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz is damaged"):
                datasets.load("stl10", root=root)
            assert everything(root) == ["stl10_binary.tar.gz"]

    def test_a_connection_that_breaks_leaves_nothing(self, tmp_path, server):
        (tmp_path / "www/a.npz").write_bytes(bytes(3_000_000))
        with pytest.raises(MissingFileError, match=r"only 1500000 of 3000000 bytes came"):
            downloads.fetch(f"{server}/short/a.npz", tmp_path / "new/a.npz")
        assert everything(tmp_path / "new") == []

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("stl10", "stl10_binary.tar.gz"),
            ("oxford-pets", "oxford-iiit-pet/images.tar.gz"),
            ("dtd", "dtd/dtd-r1.0.1.tar.gz"),
            ("aircraft", "fgvc-aircraft-2013b.tar.gz"),
            ("breastmnist", "medmnist/breastmnist_224.npz"),
            ("pathmnist", "medmnist/pathmnist_224.npz"),
        ],
    )
    def test_without_a_network(self, tmp_path, monkeypatch, name, file):
        def unreachable(*args, **kwargs):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        root = tmp_path / "data"
        with pytest.raises(MissingFileError, match="cannot download http") as error:
            datasets.load(name, root=root)
        message = str(error.value)
        assert message.endswith(f"not known); fetch it by other means and put it at {root / file}")
        assert "\n" not in message
        assert not root.exists()

    def test_a_silent_server_is_given_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(MissingFileError, match="timed out"):
                downloads.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a", tmp_path / "a")
