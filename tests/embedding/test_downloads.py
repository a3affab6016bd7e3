"""Downloads: whole, checked files or one line."""

import errno
import hashlib
import http.server
import socket
import tarfile
import threading

import pytest

from src.core.errors import DataError, MissingFileError, OutputError
from src.embedding import datasets, downloads
from src.embedding.datasets import torchvision_sets
from tests.embedding.datasets.support import medmnist


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


def test_medmnist(tmp_path, server, monkeypatch, capsys):
    from medmnist.info import INFO

    path = medmnist(tmp_path, "breastmnist", 28)
    content = path.read_bytes()
    path.rename(tmp_path / "www" / path.name)
    path.parent.rmdir()
    monkeypatch.setitem(INFO["breastmnist"], "url", f"{server}/{path.name}?download=1")
    monkeypatch.setitem(INFO["breastmnist"], "MD5", "0" * 32)
    with pytest.raises(DataError, match=f"arrived damaged .*put it at {path}"):
        datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert everything(tmp_path / "medmnist") == []
    monkeypatch.setitem(INFO["breastmnist"], "MD5", hashlib.md5(content).hexdigest())
    splits = datasets.load("breastmnist", root=tmp_path, image_size=28)
    assert len(splits.train) == 4
    assert path.read_bytes() == content
    assert capsys.readouterr() == ("", "")


def test_archives_are_unpacked_whole(tmp_path, server, stl10, monkeypatch):
    from src.embedding.datasets import torchvision_sets

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


def test_an_archive_put_there_by_hand_is_used(tmp_path, stl10, no_network):
    root = tmp_path / "fresh"
    root.mkdir()
    with tarfile.open(root / "stl10_binary.tar.gz", "w:gz") as tar:
        tar.add(stl10 / "stl10_binary", "stl10_binary")
    assert len(datasets.load("stl10", root=root).test) == 3


def test_another_process_may_unpack_it_first(tmp_path, stl10, no_network, monkeypatch):
    def first(archive, folder):
        (stl10 / "stl10_binary").rename(folder)
        raise OutputError("Directory not empty")

    root = tmp_path / "fresh"
    root.mkdir()
    (root / "stl10_binary.tar.gz").touch()
    monkeypatch.setattr(torchvision_sets, "unpack", first)
    assert len(datasets.load("stl10", root=root).test) == 3


def test_a_damaged_archive_leaves_nothing(tmp_path, stl10, no_network):
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


def test_a_full_disk_is_not_a_damaged_archive(tmp_path, stl10, no_network, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    root = tmp_path / "fresh"
    root.mkdir()
    with tarfile.open(root / "stl10_binary.tar.gz", "w:gz") as tar:
        tar.add(stl10 / "stl10_binary", "stl10_binary")
    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(OutputError, match=r"cannot write .*stl10_binary: No space left on device"):
        datasets.load("stl10", root=root)


def test_a_connection_that_breaks_leaves_nothing(tmp_path, server):
    (tmp_path / "www/a.npz").write_bytes(bytes(3_000_000))
    with pytest.raises(MissingFileError, match=r"only 1500000 of 3000000 bytes arrived"):
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
def test_without_a_network(tmp_path, monkeypatch, name, file):
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


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(MissingFileError, match="timed out"):
            downloads.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a", tmp_path / "a")
