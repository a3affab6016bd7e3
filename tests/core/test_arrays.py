"""Files that say more than they hold: refused by their headers, before anything is loaded."""

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from src.core import arrays
from src.core.errors import DataError
from src.database import EmbeddingSet, read, write
from tests.support import call

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 0, 1])
MIB = 1 << 20


def header(shape, dtype="<f4", **more):
    """The start of an .npy file."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape, **more}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def made(path, embeddings=None, labels=None, **more):
    """An .npz of these bytes; what is not given is an honest array of four rows."""
    for array, content in ((X, embeddings), (Y, labels)):
        if content is None:
            file = io.BytesIO()
            np.save(file, array)
            more["embeddings.npy" if array is X else "labels.npy"] = file.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        given = {"embeddings.npy": embeddings, "labels.npy": labels, **more}
        for name, content in given.items():
            if content is not None:
                with archive.open(name, "w", force_zip64=True) as member:
                    for part in [content] if isinstance(content, bytes) else content:
                        member.write(part)
    return path


def zeros(size):
    """That many bytes, a MiB at a time: a thousandth of it on disk."""
    yield from [bytes(MIB)] * (size // MIB)
    yield bytes(size % MIB)


def refused(path, message):
    """Refused with little memory and in little time."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(DataError, match=message) as error:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert peak < 64 * MIB
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10**9, 768), "<f4"),
        ((10**9, 1), "|i1"),
        ((1 << 62, 3), "<f4"),
        ((1 << 64, 3), "<f4"),
        ((-4, -3), "<f4"),
        ((4, 3, 1 << 40), "|u1"),
        ((0, 3), "<f4"),
        ((5, 3), "<f4"),
        ((3, 3), "<f4"),
        ((4, 3), "<f8"),
        ((4, 3), "<U100000000"),
    ],
)
def test_shapes_that_the_bytes_do_not_have(tmp_path, shape, dtype):
    path = made(tmp_path / "a.npz", header(shape, dtype) + X.tobytes())
    refused(path, "has not the size of")


@pytest.mark.parametrize("label", [10**9, arrays.MOST_CLASSES, 2**62])
def test_labels_that_count_too_many_classes(tmp_path, label):
    np.savez(tmp_path / "a.npz", embeddings=X, labels=Y * label)
    refused(tmp_path / "a.npz", f"label {label} is too large; labels are 0..C-1, with C up to")


def test_the_largest_label(tmp_path):
    np.savez(tmp_path / "a.npz", embeddings=X, labels=Y * (arrays.MOST_CLASSES - 1))
    assert read(tmp_path / "a.npz").num_classes == arrays.MOST_CLASSES


def test_zeros_that_inflate_a_thousand_to_one(tmp_path):
    rows = 100_000
    head = header((rows, 1000), "|i1")
    path = made(
        tmp_path / "a.npz", [head, *zeros(rows * 1000)], [header((rows,), "|i1"), bytes(rows)]
    )
    assert path.stat().st_size < MIB
    refused(path, "would take 5.01e.08 bytes of memory, more than 1.34e.08 and 20 per byte")
    path = made(tmp_path / "b.npz", labels=[header((10**8,), "|i1"), *zeros(10**8)])
    refused(path, "would take 9e.08 bytes of memory")


def test_a_header_that_inflates(tmp_path):
    start = b"\x93NUMPY\x02\x00" + struct.pack("<L", 1 << 30)
    path = made(tmp_path / "a.npz", [start, *zeros(200 * MIB)])
    refused(path, r"has .npy format \(2, 0\), not \(1, 0\)")


def test_a_directory_that_fills_the_memory(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(6_000):
            archive.writestr(f"{number:0200}", b"")
    refused(path, "a part of .* bytes is longer than 1048576")


def test_a_text_that_inflates(tmp_path):
    size = arrays.MOST_META + 4
    text = [header((), f"<U{size // 4}"), *zeros(size)]
    refused(made(tmp_path / "a.npz", **{"meta.npy": text}), "meta is not JSON in one text of at")
    text = header((), "<i8") + bytes(8)
    refused(made(tmp_path / "b.npz", **{"meta.npy": text}), "meta is not JSON in one text of at")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is not finite"),
        ('{"a": 1e999}', "1e999 is not finite"),
        ('{"a": ' + "9" * 400 + "}", "is not a whole number of 64 bits"),
        ('{"a": 9223372036854775808}', "is not a whole number of 64 bits"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested more than 64 deep"),
        ('{"a": ' + "[" * 50_000, "recursion"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_meta_that_could_not_be_written_again(tmp_path, text, message):
    np.savez(tmp_path / "a.npz", embeddings=X, labels=Y, meta=np.array(text))
    refused(tmp_path / "a.npz", message)


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e300])
def test_nothing_finite_at_all(tmp_path, fill):
    np.savez(tmp_path / "a.npz", embeddings=np.full((5000, 100), fill), labels=np.zeros(5000))
    refused(tmp_path / "a.npz", r"embeddings\[0, 0\] is")


@pytest.mark.parametrize("name", ["embeddings.npy", "labels.npy", "other.npy"])
def test_two_arrays_of_one_name(tmp_path, name):
    path = made(tmp_path / "a.npz", **{"other.npy": b""})
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    refused(path, f"holds '{name}' twice")


def test_a_name_that_the_directory_and_the_entry_do_not_share(tmp_path):
    """`meta` may be absent, but not by a flipped bit of its name."""
    write(tmp_path / "a.npz", EmbeddingSet(X, Y, {"class_names": ["cat", "dog"]}))
    content = (tmp_path / "a.npz").read_bytes()
    for where in (content.index(b"meta.npy"), content.rindex(b"meta.npy")):
        flipped = bytearray(content)
        flipped[where] ^= 1
        (tmp_path / "b.npz").write_bytes(flipped)
        refused(tmp_path / "b.npz", "File name in directory")


def test_an_entry_that_swallows_those_after_it(tmp_path):
    """`meta` may be absent, but not because the entry before says that its comment is long."""
    path = tmp_path / "a.npz"
    write(path, EmbeddingSet(X, Y, {"class_names": ["cat", "dog"]}))
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"labels.npy") - 46
    raw[entry + 32 : entry + 34] = b"\xff\xff"
    path.write_bytes(raw)
    with np.load(path) as plain:
        assert plain.files == ["embeddings", "labels"]
    refused(path, "its directory has 2 entries, not 3")


def test_other_arrays_beside_ours_are_left_alone(tmp_path):
    path = made(tmp_path / "a.npz", **{"images.npy": zeros(300 * MIB), "notes.txt": b"hello"})
    assert np.array_equal(read(path).embeddings, X)


def test_at_the_command_line(tmp_path):
    folder = tmp_path / "database" / "d" / "b"
    folder.mkdir(parents=True)
    for split in ("train", "val", "test"):
        made(folder / f"{split}.npz", header((10**9, 768)) + X.tobytes())
    flags = ["--dataset", "d", "--backbone", "b", "--database_root", tmp_path / "database"]
    done = call("anonymize", *flags, "--anonymizer", "ksame", "--k", 2)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "has not the size of float32 shaped (1000000000, 768)" in done.err


# What is written can be read.


def test_what_shrinks_too_much_to_be_trusted_is_written_as_it_is(tmp_path, monkeypatch):
    path, constant = (
        tmp_path / "a.npz",
        EmbeddingSet(np.zeros((2000, 50), np.float32), np.zeros(2000, int)),
    )
    write(path, constant)
    small = path.stat().st_size
    monkeypatch.setattr(arrays, "MOST_HELD", 1 << 16)
    refused(path, "would take")
    write(path, constant)
    assert small < 10_000 < 400_000 < path.stat().st_size
    assert read(path).fingerprint == constant.fingerprint


def test_a_meta_that_could_not_be_read_is_not_written(tmp_path):
    data = EmbeddingSet(X, Y, {"class_names": ["x" * arrays.MOST_META]})
    with pytest.raises(DataError, match="meta has .* characters, more than"):
        write(tmp_path / "a.npz", data)
    assert not list(tmp_path.iterdir())


def test_honest_files_of_other_programs(tmp_path):
    for number, array in enumerate((X.astype(">f8"), np.asfortranarray(X), X.astype(np.int8))):
        for save in (np.savez, np.savez_compressed):
            path = tmp_path / f"{number}.npz"
            save(path, embeddings=array, labels=Y.astype(np.uint8), paths=np.array(["a"] * 4))
            assert np.array_equal(read(path).embeddings, X)
            assert np.array_equal(read(path).labels, Y)


def test_fifty_thousand_rows_pay_less_than_a_second(tmp_path):
    rows = np.random.default_rng(0).random((50_000, 768), np.float32)
    write(tmp_path / "a.npz", EmbeddingSet(rows, np.arange(50_000) % 10))
    start = time.process_time()
    with np.load(tmp_path / "a.npz") as plain:
        loaded = {name: plain[name] for name in plain.files}
    plain_time = time.process_time() - start
    start = time.process_time()
    data = read(tmp_path / "a.npz")
    assert time.process_time() - start < plain_time + 1
    assert np.array_equal(data.embeddings, loaded["embeddings"])
