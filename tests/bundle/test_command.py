"""The commands, and what a partner does with a bundle."""

import json

import numpy as np
import pytest

from src.bundle import contents
from src.database import EmbeddingSet, read, write
from tests.bundle.support import bundle
from tests.support import call, files_below


def test_unknown_commands():
    done = bundle("creat")
    assert done.status == 2
    assert "unknown command 'creat'; did you mean 'create'?" in done.err


def test_drawing_rows_by_class(home, tmp_path):
    def draw(*flags):
        path = tmp_path / "drawn.npz"
        done = bundle("sample", home / "dp", "--output", path, *flags)
        assert done.status == 0, done.err
        return read(path)

    counts = [0, 5, 0, 0, 1, 0, 0, 0, 0, 3]
    drawn = draw("--class_counts", *counts)
    assert np.bincount(drawn.labels, minlength=10).tolist() == counts
    assert drawn.meta["drawn_from"] == contents.read(home / "dp").sheet["release"]
    assert draw("--class_counts", *counts).fingerprint == drawn.fingerprint
    assert draw("--class_counts", *counts, "--seed", 1).fingerprint != drawn.fingerprint
    weighted = draw("--rows", 400, "--class_distribution", 3, 1, *[0] * 8)
    assert set(weighted.labels) == {0, 1}
    assert np.mean(weighted.labels == 0) == pytest.approx(0.75, abs=0.1)
    assert len(draw("--rows", 7)) == 7


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("ksame", ["--rows", 5], "ksame-5 has no decoder to draw from"),
        ("dp", [], "either --rows or --class_counts"),
        ("dp", ["--rows", 5, "--class_counts", 5], "either --rows or --class_counts"),
        ("dp", ["--class_counts", 5, 5], "10 classes need as many numbers"),
        ("dp", ["--rows", 5, "--class_distribution", *[0] * 10], "not all 0"),
        ("dp", ["--rows", 0], "0 is below 1"),
    ],
)
def test_rows_that_cannot_be_drawn(home, tmp_path, name, flags, message):
    done = bundle("sample", home / name, "--output", tmp_path / "drawn.npz", *flags)
    assert done.status == 2
    assert message in done.err
    assert not list(tmp_path.iterdir())


def real(digits, **more):
    return EmbeddingSet(digits.val.embeddings, digits.val.labels, **more)


@pytest.mark.parametrize("kind", ["plain", "persons", "release", "zip"])
def test_a_sample_replaces_nothing_but_a_sample(home, tmp_path, digits, kind):
    path = tmp_path / "train.npz"
    if kind == "plain":
        write(path, real(digits, meta=digits.val.meta))
    elif kind == "persons":  # even if it says that it is a sample
        persons = np.arange(len(digits.val))
        write(path, real(digits, meta={"drawn_from": "cvae-s0"}, persons=persons))
    elif kind == "release":
        path.write_bytes((home / "cvae" / "train.npz").read_bytes())
    else:
        np.savez(path, weights=np.zeros(3))
    before = path.read_bytes()
    done = bundle("sample", home / "cvae", "--rows", 5, "--output", path)
    assert done.status == 2
    assert f"--output {path} exists and is not a sample of a bundle" in done.err
    assert path.read_bytes() == before
    path.write_bytes(b"")
    for rows in (5, 7):
        assert bundle("sample", home / "cvae", "--rows", rows, "--output", path).status == 0
        assert len(read(path)) == rows


def online(*flags):
    return call(
        "probing_noise_cvae", "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", "database", "--output_root", "logs", "-e", 2, "--sigma", 0, 1,
        "--seed", 3, *flags,
    )  # fmt: skip


def test_a_head_from_a_bundle_alone(partner):
    done = online("--decoder", "dp")
    assert done.status == 0, done.err
    assert "distance unknown" in done.out
    (result,) = partner.glob("logs/digits/pixels/digits_bundle-dpcvae-*-s3_sigma0.json")
    content = json.loads(result.read_text())
    assert content["average_mindistance"] is None
    assert content["inputs"]["release"] == read(partner / "dp" / "train.npz").fingerprint
    assert 0 < content["auc"] <= 100


def test_bundles_that_do_not_fit_the_partner(partner, digits):
    assert (
        "--variance 2.0 has no effect: the bundle"
        in online("--decoder", "dp", "--variance", 2).err
    )
    folder = partner / "database" / "digits" / "pixels"
    for split in ("val", "test"):
        data = getattr(digits, split)
        meta = {**data.meta, "backbone": "resnet18"}
        other = EmbeddingSet(data.embeddings, data.labels, meta)
        write(folder.with_name("resnet18") / f"{split}.npz", other)
    refusal = online("--decoder", "dp", "--backbone", "resnet18").err
    assert "rows are by backbone 'pixels', not 'resnet18'" in refusal
    write(folder / "test.npz", EmbeddingSet(digits.test.embeddings[:, :9], digits.test.labels))
    assert "has 9 dimensions but" in online("--decoder", "dp").err
    assert not (partner / "logs").exists() or not files_below(partner / "logs")


def test_help_of_each_command_answers():
    for name in ("create", "verify", "sample"):
        done = bundle(name, "--help")
        assert done.status == 0
        assert f"usage: python -m src.bundle {name} " in done.out
    assert "src.bundle sample" in bundle("--help").out
