"""Bundles to look at and to change."""

import hashlib
import json

import numpy as np

from src.bundle import datasheet, decoders, rendering
from src.database import EmbeddingSet, dump, read
from tests.support import call

SHORT = ["--num_epochs", "3"]
DP = ["--anonymizer", "dpcvae", "--epsilon", "2", "--epochs", "2", "--seed", "0"]
CVAE = ["--anonymizer", "cvae", "--seed", "0", *SHORT]
KSAME = ["--anonymizer", "ksame", "--k", "5"]


def bundle(*argv):
    return call("src.bundle.__main__", *argv)


def flags_of(home):
    return [
        "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", home / "database", "--ckpt_root", home / "ckpts",
    ]  # fmt: skip


def refused(folder, message):
    done = bundle("verify", folder)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert message in done.err, done.err


def contents_of(folder):
    """datasheet.json of a bundle."""
    return json.loads((folder / "datasheet.json").read_text())


def sum_up(folder):
    """New checksums, as whoever changes a file knowingly writes them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def rewrite(folder, sheet=(), **arrays):
    """Put other arrays into train.npz and, as its datasheets tell, another sheet beside it."""
    if arrays:
        with np.load(folder / "train.npz") as before:
            np.savez(folder / "train.npz", **{**before, **arrays})
    content = json.loads((folder / "datasheet.json").read_text())
    content = json.loads(datasheet.canonical({**content, **dict(sheet)}))
    (folder / "datasheet.json").write_text(datasheet.canonical(content))
    (folder / "datasheet.md").write_text(rendering.render(content))


def sheet_with(folder, **more):
    return json.dumps({**json.loads((folder / "datasheet.json").read_text()), **more})


def with_rows(folder, embeddings=None, labels=None, **meta):
    """Other rows and items of `meta` in train.npz, as our writer would write them."""
    rows = read(folder / "train.npz")
    other = EmbeddingSet(
        rows.embeddings if embeddings is None else embeddings,
        rows.labels if labels is None else labels,
        {**rows.meta, **meta},
    )
    with (folder / "train.npz").open("wb") as file:
        dump(file, other, compressed=False)


def recompose(folder, **sheet):
    """All that follows from train.npz and the decoder, as who knows the code would write it."""
    rows = read(folder / "train.npz")
    decoder = None
    if (folder / "decoder.safetensors").exists():
        decoder = decoders.read(folder / "decoder.safetensors")
    rewrite(folder, {**datasheet.described(rows, decoder), **sheet})
    sum_up(folder)
