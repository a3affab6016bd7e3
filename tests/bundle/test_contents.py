"""The files of a bundle: all of them, whole, and nothing that was to stay at home."""

import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from src.bundle import contents, datasheet, decoders, rendering
from src.core.errors import DataError, InputError
from src.database import EmbeddingSet, Splits, read
from src.networks.cvae import Decoder
from tests.bundle.support import (
    KSAME,
    bundle,
    flags_of,
    recompose,
    refused,
    rewrite,
    sheet_with,
    sum_up,
    with_rows,
)


def unpacked(path):
    """A file's bytes, and those of what it holds compressed."""
    raw = path.read_bytes()
    if path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            raw += b"".join(archive.read(name) for name in archive.namelist())
    return raw


@pytest.mark.parametrize("name", ["cvae", "dp", "ksame"])
def test_all_of_it_and_nothing_else(home, name):
    files = {"train.npz", "datasheet.json", "datasheet.md", "SHA256SUMS"}
    files |= set() if name == "ksame" else {"decoder.safetensors"}
    assert {path.name for path in (home / name).iterdir()} == files
    for line in (home / name / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split("  ")
        assert hashlib.sha256((home / name / file).read_bytes()).hexdigest() == digest
    assert bundle("verify", home / name).status == 0


@pytest.mark.parametrize("name", ["cvae", "dp", "ksame"])
def test_no_original_row_is_inside(home, name, digits):
    everything = b"".join(unpacked(path) for path in (home / name).iterdir())
    for split in (digits.train, digits.val, digits.test):
        assert not any(row.tobytes() in everything for row in split.embeddings)
    released = read(home / name / "train.npz").embeddings
    squares = np.square(released[:, None] - digits.train.embeddings[None, :200]).sum(2)
    assert squares.min() > 1e-3


@pytest.mark.parametrize("name", ["cvae", "dp", "ksame"])
def test_no_path_and_no_fingerprint_of_originals_is_inside(home, name, digits):
    everything = b"".join(unpacked(path) for path in (home / name).iterdir())
    for word in ("home-of-the-originals", "/tmp", "database", "ckpts", "0123456789abcdef"):
        assert word.encode() not in everything
    for split in (digits.train, digits.val, digits.test):
        assert split.fingerprint.encode() not in everything


def test_no_weight_of_the_encoder_is_inside(home):
    fitted = load_file(home / "ckpts" / "digits" / "pixels" / "cvae-num_epochs3-s0.safetensors")
    everything = b"".join(unpacked(path) for path in (home / "cvae").iterdir())
    assert {key.split(".")[0] for key in fitted} == {"encoder", "decoder"}
    for key, weights in fitted.items():
        assert (weights.numpy().tobytes() in everything) == key.startswith("decoder"), key
    for name in ("cvae", "dp"):
        assert set(load_file(home / name / "decoder.safetensors")) == decoders.TENSORS


# Whatever is wrong with a bundle.


@pytest.mark.parametrize(
    "name", ["train.npz", "decoder.safetensors", "datasheet.json", "datasheet.md"]
)
def test_a_changed_or_missing_file(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, f"{name} was changed")
    (copy / name).unlink()
    refused(copy, f"{name} does not exist")


def test_files_that_do_not_belong(copy):
    (copy / ".notes").write_text("patients: ...")
    refused(copy, ".notes does not belong to the bundle")
    (copy / ".notes").unlink()
    (copy / "more").mkdir()
    refused(copy, "more does not belong to the bundle")
    (copy / "more").rmdir()
    with (copy / "SHA256SUMS").open("a") as file:
        file.write("0" * 64 + "  ../train.npz\n")
    refused(copy, "../train.npz does not exist")


def test_links_are_no_files(copy, tmp_path):
    shutil.move(copy / "train.npz", tmp_path / "elsewhere.npz")
    (copy / "train.npz").symlink_to(tmp_path / "elsewhere.npz")
    refused(copy, "train.npz is not a plain file")
    shutil.move(copy / "SHA256SUMS", tmp_path / "sums")
    (copy / "SHA256SUMS").symlink_to(tmp_path / "sums")
    refused(copy, "SHA256SUMS is not a plain file")


def test_no_bundle_at_all(tmp_path):
    refused(tmp_path, "is not a bundle")
    refused(tmp_path / "nowhere", "is not a folder")
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    refused(tmp_path, "has a line that is not a checksum: 'nonsense'")


def test_parts_of_different_bundles(copy, home):
    shutil.copy(home / "cvae" / "decoder.safetensors", copy)
    sum_up(copy)
    refused(copy, "datasheet.json goes with a decoder that counts other rows")
    (copy / "decoder.safetensors").unlink()
    sum_up(copy)
    refused(copy, "datasheet.json has no decoder, but its rows were drawn from one")
    shutil.copy(home / "dp" / "decoder.safetensors", copy)
    shutil.copy(home / "ksame" / "train.npz", copy)
    sum_up(copy)
    refused(copy, "datasheet.json goes with a decoder that counts other rows")
    (copy / "datasheet.json").write_text("[]")
    sum_up(copy)
    refused(copy, "is not a datasheet of format 3")


def with_settings(folder, **more):
    settings = {**read(folder / "train.npz").meta["settings"], **more}
    with_rows(folder, settings=settings)
    rewrite(folder, {"settings": settings})


def with_text(folder, text):
    (folder / "datasheet.json").write_text(text)


def with_member(folder, name):
    with zipfile.ZipFile(folder / "train.npz", "a") as archive:
        archive.writestr(name, "x,y")


def without_variance(folder):
    settings = read(folder / "train.npz").meta["settings"]
    del settings["variance"]
    with_rows(folder, settings=settings)
    rewrite(folder, {"settings": settings})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: rewrite(f, originals=np.ones((2, 2))), f"train.npz {contents.NOT_OURS}"),
        (lambda f: with_member(f, "/home/me/patients.csv"), f"train.npz {contents.NOT_OURS}"),
        (lambda f: with_rows(f, source="/home/me/x"), "meta holds 'source'"),
        (lambda f: rewrite(f, meta=np.array('{"format": "/x"}')), "has format '/x', which this"),
        (lambda f: with_rows(f, anonymizer="ksame"), "'anonymizer' does not match"),
        (lambda f: with_rows(f, class_names=3), "meta holds 'class_names'"),
        (lambda f: (f / "datasheet.md").write_text("(0, 0)-DP"), "datasheet.md does not say"),
        (lambda f: rewrite(f, {"rows": 5}), "'rows' does not match"),
        (lambda f: rewrite(f, {"dimensions": 3}), "'dimensions' does not match"),
        (lambda f: rewrite(f, {"release": "../x"}), "names a release '../x'"),
        (lambda f: with_text(f, "[" * 200_000), "maximum recursion depth exceeded"),
        (lambda f: rewrite(f, {"patients": "..."}), "'patients'"),
        (lambda f: with_text(f, sheet_with(f, audits=5)), "quotes what has not exactly"),
        (without_variance, "has incomplete settings"),
        (lambda f: with_settings(f, variance=-1.0), "--variance -1.0 is below"),
    ],
)  # fmt: skip
def test_content_that_does_not_belong_although_the_sums_are_right(copy, change, message):
    change(copy)
    sum_up(copy)
    refused(copy, message)


def test_numbers_too_large_to_be_finite(copy):
    text = (copy / "datasheet.json").read_text()
    (copy / "datasheet.json").write_text(text.replace('"variance": 1.0', '"variance": 1e999'))
    sum_up(copy)
    refused(copy, "1e999 is not finite")


@pytest.mark.parametrize("classes", [8, 12])
def test_decoders_of_other_classes_than_the_rows(copy, classes):
    path = copy / "decoder.safetensors"
    decoder = decoders.read(path)
    path.write_bytes(decoders.serialized(Decoder(len(decoder.minimum), classes, 64, 8)))
    recompose(copy)
    refused(copy, "counts other rows" if classes == 12 else "fewer classes than the rows")


# Bundles that are not written.


def test_an_interrupted_bundle_leaves_nothing(home, tmp_path, monkeypatch):
    def interrupted(sheet):
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "render", interrupted)
    done = bundle("create", *flags_of(home), *KSAME, "--output", tmp_path / "b")
    assert done.status == 130
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_not_written_over(home):
    done = bundle("create", *flags_of(home), *KSAME, "--output", home / "dp")
    assert done.status == 2
    assert "cannot write" in done.err
    assert bundle("verify", home / "dp").status == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"release": "ksame-6"}, "names a release 'ksame-6', but its settings are those of"),
        ({"anonymizer": None}, "has no 'anonymizer'"),
        ({"rows": 5}, "describes other contents: 'rows'"),
    ],
)
def test_a_bundle_that_no_one_could_read_is_not_written(home, tmp_path, change, message):
    whole = contents.read(home / "ksame")
    with pytest.raises(DataError, match=message):
        contents.write(tmp_path / "b", whole._replace(sheet={**whole.sheet, **change}))
    assert not list(tmp_path.iterdir())


def test_a_bundle_comes_back_as_it_was(home, tmp_path):
    whole = contents.read(home / "dp")
    contents.write(tmp_path / "b", whole)
    for path in (home / "dp").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_format_is_the_only_item_of_meta_beside_the_known_ones(home):
    with np.load(home / "dp" / "train.npz") as arrays:
        meta = json.loads(str(arrays["meta"]))
    assert meta.keys() == {*datasheet.RELEASED, "format"}
    assert meta["format"] == 1


# What others use of a bundle.


def test_its_decoder_draws_with_the_variance_of_the_settings(home, copy):
    assert contents.read(home / "dp").decoder.variance == 1.0
    settings = {**read(copy / "train.npz").meta["settings"], "variance": 0.5}
    with_rows(copy, settings=settings)
    release = contents.read(home / "dp").sheet["release"].replace("dpcvae-", "dpcvae-var0.5-")
    recompose(copy, release=release)
    assert contents.read(copy).decoder.variance == 0.5


def test_what_records_say_of_it(home):
    bundle = contents.read(home / "dp")
    subject = contents.subject(bundle)
    assert subject.id == f"bundle-{bundle.sheet['release']}"
    assert subject.anonymizer == "dpcvae"
    assert subject.settings == bundle.rows.meta["settings"]
    assert subject.rows == bundle.rows.fingerprint


def splits_by(digits, backbone):
    meta = {**digits.test.meta, "backbone": backbone}
    test = EmbeddingSet(digits.test.embeddings, digits.test.labels, meta)
    return Splits(digits.train, digits.val, test)


def test_a_decoder_for_test_rows_by_the_same_backbone(home, digits):
    cpu, bundle = torch.device("cpu"), contents.read(home / "dp")
    assert contents.decoder_for(bundle, digits, cpu) is bundle.decoder
    with pytest.raises(InputError, match="by backbone 'pixels', not 'resnet18'"):
        contents.decoder_for(bundle, splits_by(digits, "resnet18"), cpu)
    with pytest.raises(InputError, match="ksame-5 has no decoder, only rows"):
        contents.decoder_for(contents.read(home / "ksame"), digits, cpu)
    local = bundle._replace(sheet={**bundle.sheet, "backbone": "local-dir:vit-7"})
    elsewhere = splits_by(digits, "local-dir:/home/partner/vit-7")
    assert contents.decoder_for(local, elsewhere, cpu) is bundle.decoder
