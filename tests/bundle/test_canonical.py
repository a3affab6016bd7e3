"""One form: what our writer would not write for the same content is refused, sums or not."""

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.torch import load, save

from src.bundle import contents, decoders
from src.database import EmbeddingSet, dump, read
from src.networks.cvae import Decoder
from tests.bundle.support import CVAE, bundle, flags_of, refused, sum_up
from tests.support import ROOT, call


def repacked(path, *, compress=zipfile.ZIP_STORED, names=None, remark=b"", **fields):
    """The same arrays in another zip."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name in names or found:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, 0o644 << 16, compress
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, found[name])
        archive.comment = remark


def spliced(path, position, content):
    """Bytes put where no entry of the zip is; offsets are set right."""
    raw = path.read_bytes()
    end = raw.rindex(b"PK\x05\x06")
    (start,) = struct.unpack("<L", raw[end + 16 : end + 20])
    place = {"front": 0, "gap": start, "after": len(raw)}[position]
    moved = bytearray(raw[:place] + content + raw[place:])
    if position != "after":
        shift = len(content)
        moved[end + shift + 16 : end + shift + 20] = struct.pack("<L", start + shift)
        entry = start + shift
        while position == "front" and moved[entry : entry + 4] == b"PK\x01\x02":
            (at,) = struct.unpack("<L", moved[entry + 42 : entry + 46])
            moved[entry + 42 : entry + 46] = struct.pack("<L", at + shift)
            entry += 46 + sum(struct.unpack("<3H", moved[entry + 28 : entry + 34]))
    path.write_bytes(moved)


MEMBERS = ["embeddings.npy", "labels.npy", "meta.npy"]
UNICODE = b"\x75\x70\x05\x00\x01abcd"  # an extra field
ZIPS = {
    "comment": lambda p: repacked(p, remark=b"patients: ..."),
    "comment of an entry": lambda p: repacked(p, comment=b"patients: ..."),
    "an extra field": lambda p: repacked(p, extra=UNICODE),
    "deflated": lambda p: repacked(p, compress=zipfile.ZIP_DEFLATED),
    "bzip2": lambda p: repacked(p, compress=zipfile.ZIP_BZIP2),
    "a date": lambda p: repacked(p, date_time=(2024, 5, 6, 7, 8, 10)),
    "a user": lambda p: repacked(p, external_attr=0o600 << 16),
    "a system": lambda p: repacked(p, create_system=0),
    "order": lambda p: repacked(p, names=MEMBERS[::-1]),
    "in front": lambda p: spliced(p, "front", b"PK patients: ..."),
    "before the directory": lambda p: spliced(p, "gap", b"patients: ..."),
    "after the end": lambda p: spliced(p, "after", b"patients: ..."),
    "padding": lambda p: p.write_bytes(p.read_bytes() + b"\0" * 4096),
}


def float64(path):
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "embeddings": arrays["embeddings"].astype(float)})


def fortran(path):
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "embeddings": np.asfortranarray(arrays["embeddings"])})


def columns(path):
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "labels": arrays["labels"][:, None]})


@pytest.mark.parametrize("change", [*ZIPS.values(), float64, fortran, columns])
def test_another_file_of_the_same_rows(copy, change):
    before = read(copy / "train.npz")
    change(copy / "train.npz")
    after = read(copy / "train.npz")  # a file that others may use
    assert (after.fingerprint, after.meta) == (before.fingerprint, before.meta)
    sum_up(copy)
    refused(copy, f"train.npz {contents.NOT_OURS}")


def test_names_that_occur_twice(copy):
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(copy / "train.npz", "a") as archive:
            archive.writestr("labels.npy", archive.read("labels.npy"))
    sum_up(copy)
    refused(copy, "train.npz holds 'labels.npy' twice")


def with_header(change):
    """A decoder's file with another header, padded as safetensors does unless it is changed."""

    def changed(path):
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        text = change(json.loads(raw[8 : 8 + size]))
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])

    return changed


def compact(header):
    return json.dumps(header, separators=(",", ":")).encode()


def metadata(header, **more):
    return {**header, "__metadata__": {**header["__metadata__"], **more}}


@pytest.mark.parametrize(
    "change",
    [
        with_header(lambda h: compact(metadata(h, patients="..."))),
        with_header(lambda h: compact(metadata(h, observation_noise="0.10"))),
        with_header(lambda h: json.dumps(h).encode()),
        with_header(lambda h: compact(dict(reversed(h.items())))),
        with_header(lambda h: compact(h) + b" " * 800),
    ],
)
def test_another_file_of_the_same_decoder(copy, change):
    before = load((copy / "decoder.safetensors").read_bytes())
    change(copy / "decoder.safetensors")
    after = load((copy / "decoder.safetensors").read_bytes())
    assert all(after[name].equal(before[name]) for name in before)
    sum_up(copy)
    refused(copy, f"decoder.safetensors {contents.NOT_OURS}")


def test_a_decoder_with_bytes_that_no_tensor_has(copy):
    path = copy / "decoder.safetensors"
    path.write_bytes(path.read_bytes() + b"patients: ...")
    sum_up(copy)
    refused(copy, "does not hold a decoder")
    tensors = load((copy.parent / "bundle" / "decoder.safetensors").read_bytes()[:-13])
    tensors["minimum"] = tensors["minimum"].double()
    path.write_bytes(save(tensors, metadata={"observation_noise": "0.1"}))
    sum_up(copy)
    refused(copy, "not finite float32")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n ", "\n  "),
        lambda text: text + "\n",
        lambda text: "\n" + text,
        lambda text: text.replace('"format": 3', '"format": 3,\n "format": 3'),
        lambda text: text.replace('"format": 3', '"format": 3e0'),
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1) + "\n",
        lambda text: text.replace("digits", "d\\u0069gits"),
    ],
)
def test_another_json_of_the_same_datasheet(copy, change):
    text = (copy / "datasheet.json").read_text()
    (copy / "datasheet.json").write_text(change(text))
    assert json.loads(change(text)) == json.loads(text)
    sum_up(copy)
    refused(copy, "datasheet.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: reversed(lines),
        lambda lines: [line.replace("\n", "\r\n") for line in lines],
        lambda lines: [*lines[:-1], lines[-1].rstrip("\n")],
    ],
)
def test_other_lists_of_the_same_sums(copy, change):
    path = copy / "SHA256SUMS"
    path.write_bytes("".join(change(path.read_text().splitlines(keepends=True))).encode())
    refused(copy, f"SHA256SUMS {contents.NOT_OURS}")


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_permissions_and_times_say_nothing(home, tmp_path, umask):
    before = os.umask(umask)
    try:
        flags = [*flags_of(home), *CVAE, "--license", "CC-BY-4.0", "--logs", home / "logs"]
        assert bundle("create", *flags, "--output", tmp_path / "b").status == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "b", *(tmp_path / "b").iterdir()):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == (0o755 if path.is_dir() else 0o644), path.name
        assert found.st_mtime == contents.EPOCH
        if path.is_file():
            assert path.read_bytes() == (home / "cvae" / path.name).read_bytes()
    with zipfile.ZipFile(tmp_path / "b" / "train.npz") as archive:
        for entry in archive.infolist():
            assert (entry.date_time, entry.create_system) == ((1980, 1, 1, 0, 0, 0), 3)
            assert entry.external_attr >> 16 == 0o644


# Sizes.


def with_names(path, text):
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
        np.savez(path, **{**arrays, "meta": np.array(json.dumps({**meta, **text}))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "datasheet.json").write_bytes(b"[" + b"[]," * 3_000_000), "more than"),
        (lambda f: (f / "datasheet.md").write_bytes(b"x" * (1 << 26)), "has more than"),
        (lambda f: with_names(f / "train.npz", {"class_names": ["x" * 5_000_000]}), "at most"),
        (lambda f: (f / "decoder.safetensors").write_bytes(b"\xff" * 1000), "a header of"),
    ],
)
def test_files_that_are_too_large(copy, change, message):
    change(copy)
    sum_up(copy)
    refused(copy, message)


def test_many_sums(copy):
    (copy / "SHA256SUMS").write_text("".join(f"{n:064x}  {n}\n" for n in range(100_000)))
    refused(copy, "SHA256SUMS has more than 1024 bytes")


def test_a_label_that_counts_a_thousand_million_classes(copy):
    labels = read(copy / "train.npz").labels.copy()
    labels[0] = 10**9
    with np.load(copy / "train.npz") as arrays:
        np.savez(copy / "train.npz", **{**arrays, "labels": labels})
    sum_up(copy)
    refused(copy, "label 1000000000 is too large")
    labels[0] = 10**6  # that a file may have, but not one with this datasheet
    with np.load(copy / "train.npz") as arrays:
        np.savez(copy / "train.npz", **{**arrays, "labels": labels})
    sum_up(copy)
    refused(copy, "is not in the one form")


def test_draws_that_no_memory_holds(home, tmp_path):
    for flags in (["--rows", 2_000_000_000], ["--class_counts", *[10**9] * 10]):
        done = bundle("sample", home / "dp", "--output", tmp_path / "x.npz", *flags)
        assert done.status == 2
        assert "0 rows are too many: at most 6882960 rows of 64 dimensions" in done.err
        assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Outputs.


@pytest.mark.parametrize("name", ["mine.txt", "mine", "mine.npz.bak", "kept.npz", "folder.npz"])
def test_what_is_there_is_never_emptied(home, tmp_path, name):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "kept.npz").write_text("years of work")
    if name != "folder.npz":
        (tmp_path / name).write_text("years of work")
    done = bundle("sample", home / "dp", "--rows", 5, "--output", tmp_path / name)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert name == "folder.npz" or (tmp_path / name).read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({name, "folder.npz", "kept.npz"})


def test_rows_are_not_drawn_into_a_bundle(copy):
    before = (copy / "train.npz").read_bytes()
    done = bundle("sample", copy, "--rows", 5, "--output", copy / "train.npz")
    assert done.status == 2
    assert "is in the bundle" in done.err
    assert (copy / "train.npz").read_bytes() == before


def test_earlier_draws_are_replaced(home, tmp_path):
    for rows in (5, 6):
        path = tmp_path / "drawn.npz"
        assert bundle("sample", home / "dp", "--rows", rows, "--output", path).status == 0
        assert len(read(path)) == rows


def test_a_folder_that_is_taken_is_said_before_the_fit(home, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("years of work")
    done = call(
        "src.bundle.__main__", "create", *flags_of(home)[:-2], "--ckpt_root", tmp_path / "none",
        *CVAE, "--output", tmp_path / "b",
    )  # fmt: skip
    assert done.status == 2
    assert "not empty" in done.err
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "b" / "notes.txt").read_text() == "years of work"


def test_the_bytes_of_a_file_are_known_beforehand():
    """Whatever Python, numpy and system: a bundle must be the same file at the partner's."""
    file = io.BytesIO()
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    dump(file, EmbeddingSet(rows, np.array([0, 1, 1]), {"b": 1, "a": "x"}), compressed=False)
    assert hashlib.sha256(file.getvalue()).hexdigest()[:16] == "8a20e2f7180c264d"
    decoder = Decoder(1, 2, 1, 1)
    for tensor in decoder.state_dict().values():
        tensor.fill_(0.5)
    content = decoders.serialized(decoder)
    assert hashlib.sha256(content).hexdigest()[:16] == "4ed765c105326a81"


def test_a_bomb_at_the_command_line(copy):
    """The largest that is still read: it is refused within 1 GiB and 10 seconds."""
    rows = 50_000
    with zipfile.ZipFile(copy / "train.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (
            ("embeddings", np.zeros((rows, 500), np.int8)),
            ("labels", np.zeros(rows, np.int8)),
            ("meta", np.array("[" * 50 + "[]," * 1_000_000)),
        ):
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{name}.npy", file.getvalue())
    assert (copy / "train.npz").stat().st_size < 100_000
    sum_up(copy)
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'src.bundle', 'verify', sys.argv[1]])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(done.returncode, used.ru_maxrss, used.ru_utime + used.ru_stime)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    status, kilobytes, seconds = map(float, done.stdout.split())
    assert status == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert kilobytes < 1 << 20
    assert seconds < 15  # to import torch included
