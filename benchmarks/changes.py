"""Changes to files, of bytes and of what they say, for `fuzz`."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from src.bundle import checksums, contents, datasheet, rendering

REPACKED = "repacked"  # a file beside an input whose own sums are right
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1.0, -0.0, 0.5, 1e-300, 1e300, 10**9, 2**31, 2**63 - 1,
    -(2**63), 2**63, 10**400, float("nan"), float("inf"), "", "a", "../a", "a\nb", "\x1b[2J",
    "\ud800", "é", "0" * 1000, [], {}, [[]], {"a": {}}, [None] * 100,
)  # fmt: skip
NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
DTYPES = (
    "<f4",
    "<f8",
    "|i1",
    "<i8",
    "<u8",
    "|b1",
    "|O",
    "<U3",
    "<c8",
    "|V4",
    ">f4",
    "<f2",
    "<m8[s]",
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to three of: bits flipped, a part lost, doubled, overwritten or appended."""
    raw = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_flip, _flip, _truncate, _lose, _double, _overwrite, _append, _number))(
            raw, rng
        )
    return bytes(raw)


def _place(raw: bytearray, rng: random.Random) -> int:
    """A place; often near the beginning or the end, where formats have their headers."""
    size = max(1, len(raw))
    near = min(size, 256)
    return rng.choice((rng.randrange(size), rng.randrange(near), size - 1 - rng.randrange(near)))


def _flip(raw: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if raw:
            raw[_place(raw, rng)] ^= 1 << rng.randrange(8)


def _truncate(raw: bytearray, rng: random.Random) -> None:
    del raw[_place(raw, rng) :]


def _lose(raw: bytearray, rng: random.Random) -> None:
    at = _place(raw, rng)
    del raw[at : at + rng.randint(1, 64)]


def _double(raw: bytearray, rng: random.Random) -> None:
    at, to = _place(raw, rng), _place(raw, rng)
    raw[to:to] = raw[at : at + rng.randint(1, 256)]


def _overwrite(raw: bytearray, rng: random.Random) -> None:
    at, size = _place(raw, rng), rng.randint(1, 64)
    raw[at : at + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))


def _append(raw: bytearray, rng: random.Random) -> None:
    raw += rng.choice((b"\0", b" ", b"PK\x05\x06", rng.randbytes(rng.randint(1, 64))))


def _number(raw: bytearray, rng: random.Random) -> None:
    at, size = _place(raw, rng), rng.choice((2, 4, 8))
    raw[at : at + size] = rng.choice(NUMBERS).to_bytes(16, "little")[:size]


# What JSON says.


def edited(content: Any, rng: random.Random) -> Any:
    """A JSON value of which one value is another, is missing, or is new."""
    if isinstance(content, dict | list) and content and rng.random() < 0.85:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = rng.choice(list(keys))
        changed = content.copy()
        roll = rng.random()
        if roll < 0.1:
            del changed[key]
        elif roll < 0.2 and isinstance(changed, dict):
            changed[rng.choice(("a", "", "format", "../a", str(key) + " "))] = rng.choice(VALUES)
        else:
            changed[key] = edited(content[key], rng)
        return changed
    if type(content) in (int, float) and rng.random() < 0.5:
        return content + rng.choice((-1, 1, 1e-9, 1e-3))
    return rng.choice(VALUES)


def json_text(content: Any, rng: random.Random) -> bytes:
    """A JSON value with a change, as text; now and then not as Python would write it."""
    text = json.dumps(edited(content, rng), indent=rng.choice((1, 1, None)))
    if rng.random() < 0.05:
        text = rng.choice(
            ("[" * 100_000, text.replace("{", '{"a": 1, "a": 2, ', 1), "\ufeff" + text)
        )
    return text.encode() + rng.choice((b"\n", b"\n", b"", b"\0"))


def json_file(path: Path, rng: random.Random) -> None:
    """Change a JSON file."""
    raw = path.read_bytes()
    changed = damaged(raw, rng) if rng.random() < 0.5 else json_text(json.loads(raw), rng)
    path.write_bytes(changed)


# Arrays.


def npz(path: Path, rng: random.Random) -> None:
    """Change an .npz file; a repacked one is marked by `REPACKED`."""
    if rng.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return
    (path.parent / REPACKED).touch()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    entries = list(members.items())
    rng.choice((_swap, _rename, _drop, _twice, _array_header, _array_header, _content))(
        entries, rng
    )
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(name, content)


Entries = list[tuple[str, bytes]]


def _swap(entries: Entries, rng: random.Random) -> None:
    names = [name for name, _ in entries]
    rng.shuffle(names)
    entries[:] = [(name, content) for name, (_, content) in zip(names, entries, strict=True)]


def _rename(entries: Entries, rng: random.Random) -> None:
    at = rng.randrange(len(entries))
    entries[at] = (
        rng.choice(("meta", "../labels.npy", "Labels.npy", "/", "x" * 300)),
        entries[at][1],
    )


def _drop(entries: Entries, rng: random.Random) -> None:
    del entries[rng.randrange(len(entries))]


def _twice(entries: Entries, rng: random.Random) -> None:
    entries.append(rng.choice(entries))


def _content(entries: Entries, rng: random.Random) -> None:
    at = rng.randrange(len(entries))
    entries[at] = (entries[at][0], damaged(entries[at][1], rng))


def _array_header(entries: Entries, rng: random.Random) -> None:
    """Another shape, type or order for the bytes of an array, or a header that lies."""
    at = rng.randrange(len(entries))
    name, content = entries[at]
    array = np.load(io.BytesIO(content))
    shape = list(array.shape)
    roll = rng.random()
    if roll < 0.4:
        shape.insert(rng.randint(0, len(shape)), rng.choice((*NUMBERS, -1)))
    elif roll < 0.6:
        shape = shape[::-1]
    dtype = rng.choice(DTYPES) if rng.random() < 0.5 else array.dtype.str
    header = {"descr": dtype, "fortran_order": rng.random() < 0.5, "shape": tuple(shape)}
    if rng.random() < 0.1:
        header[rng.choice(("extra", "descr"))] = rng.choice(("(" * 500, (("a", "<f4"),)))
    text = repr(header).encode() + b"\n"
    data = array.tobytes() if rng.random() < 0.8 else bytes(rng.choice((0, 1000, 10**6)))
    version = rng.choice((b"\x01\0", b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"))
    size = struct.pack("<H" if version[0] == 1 else "<L", len(text))
    entries[at] = (name, b"\x93NUMPY" + version + size + text + data)


# Tensors.


def safetensors(path: Path, rng: random.Random) -> None:
    """Change a file of tensors, or the JSON of its header."""
    raw = path.read_bytes()
    if rng.random() < 0.5:
        path.write_bytes(damaged(raw, rng))
        return
    (length,) = struct.unpack("<Q", raw[:8])
    text = json_text(json.loads(raw[8 : 8 + length]), rng)
    if rng.random() < 0.7:
        text += b" " * (-len(text) % 8)
        length = len(text)
    path.write_bytes(struct.pack("<Q", length) + text + raw[8 + length :])


# Bundles.

BY_NAME: dict[str, Callable[[Path, random.Random], None]] = {
    contents.ROWS: npz,
    contents.DECODER: safetensors,
    contents.SHEET: json_file,
}


def bundle(folder: Path, rng: random.Random) -> None:
    """Change a file of a bundle, often with sums and sentences that fit the change."""
    roll = rng.random()
    path = rng.choice(sorted(folder.iterdir()))
    if roll < 0.1:
        _rearrange(folder, path, rng)
    elif path.name in BY_NAME:
        BY_NAME[path.name](path, rng)
    else:
        path.write_bytes(damaged(path.read_bytes(), rng))
    if rng.random() < 0.5:
        _retell(folder)
    if rng.random() < 0.8 and not (folder / contents.SUMS).is_dir():
        files = sorted(folder.iterdir())
        found = {
            p.name: checksums.sha256(p) for p in files if p.name != contents.SUMS and p.is_file()
        }
        (folder / contents.SUMS).write_bytes(checksums.listed(found))


def _rearrange(folder: Path, path: Path, rng: random.Random) -> None:
    """A file less, more, under another's name, or from another bundle."""
    roll = rng.randrange(5)
    if roll == 0:
        path.unlink()
    elif roll == 1:
        (folder / rng.choice(("more.txt", ".x", "é"))).write_bytes(b"x")
    elif roll == 2:
        shutil.copy(
            path, folder / rng.choice(sorted(p.name for p in folder.iterdir() if p != path))
        )
    elif roll == 3:
        path.unlink()
        path.symlink_to("/etc/hostname")
    else:
        path.unlink()
        path.mkdir()


def _retell(folder: Path) -> None:
    """The datasheet as it would be written of what it says now, if it can be."""
    try:
        sheet = json.loads((folder / contents.SHEET).read_bytes())
        text = datasheet.canonical(sheet)
        (folder / contents.SHEET).write_text(text)
        (folder / contents.SHEET_TEXT).write_text(rendering.render(json.loads(text)))
    except Exception:
        return
