"""What a partner gets: all of it, whole, and nothing that was to stay at home."""

import hashlib
import io
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from src import anonymizers, provenance
from src.bundle import contents, datasheet, decoders, making
from src.database import EmbeddingSet, read, write
from src.errors import DataError
from src.models.cvae import Decoder
from tests.conftest import call, files_below

SHORT = ["--num_epochs", "3"]
DP = ["--anonymizer", "dpcvae", "--epsilon", "2", "--epochs", "2", "--seed", "0"]
CVAE = ["--anonymizer", "cvae", "--seed", "0", *SHORT]
KSAME = ["--anonymizer", "ksame", "--k", "5"]


def bundle(*argv):
    return call("src.bundle.__main__", *argv)


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits):
    """A site with originals and three bundles: `home/{cvae,dp,ksame}`."""
    home = tmp_path_factory.mktemp("home-of-the-originals")
    folder = home / "database" / "digits" / "pixels"
    facts = {"dataset": {"source": str(home)}, "backbone": {"input_size": [1, 8, 8]}}
    for split in ("train", "val", "test"):
        data = getattr(digits, split)
        meta = {**data.meta, "facts": facts, "extraction": "0123456789abcdef"}
        write(folder / f"{split}.npz", EmbeddingSet(data.embeddings, data.labels, meta))
    for name, flags in (("cvae", CVAE), ("dp", DP), ("ksame", KSAME)):
        place = flags_of(home)
        assert call("anonymize", *place, *flags).status == 0
        logs = home / "logs"
        if name == "cvae":
            release = ["--release", "cvae-num_epochs3-s0"]
            probing = [*place[:-2], "--output_root", logs, "-e", 2, "--seed", 0, *release]
            assert call("probing", *probing).status == 0
        made = bundle(
            "create", *place, *flags, "--output", home / name, "--license", "CC-BY-4.0",
            *(["--logs", logs] if name != "dp" else []),
        )  # fmt: skip
        assert made.status == 0, made.err
    return home


def flags_of(home):
    return [
        "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", home / "database", "--ckpt_root", home / "ckpts",
    ]  # fmt: skip


@pytest.fixture
def copy(home, tmp_path):
    """A bundle of the DP-CVAE to change."""
    return shutil.copytree(home / "dp", tmp_path / "bundle")


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


def test_a_local_backbone_loses_its_folder():
    assert datasheet.public_name("local-dir:/home/me/vit-7") == "local-dir:vit-7"
    assert datasheet.public_name("hf-hub:owner/model") == "hf-hub:owner/model"
    data = EmbeddingSet(np.ones((1, 1)), np.zeros(1, int), {"source": {"train": "0123"}})
    meta = datasheet.public_rows(data, "digits", "local-dir:/home/me/vit-7").meta
    assert meta == {"dataset": "digits", "backbone": "local-dir:vit-7"}


# The datasheet.


def test_the_datasheet_states_the_guarantee_and_no_figure_outside_of_it(home):
    sheet = json.loads((home / "dp" / "datasheet.json").read_text())
    facts = read(home / "dp" / "train.npz").meta["facts"]
    assert sheet["facts"] == facts
    stated = float(re.match(r"\((.*), 1e-05\)-differential privacy", sheet["guarantee"])[1])
    assert facts["epsilon"] <= stated < facts["epsilon"] + 1e-4
    assert sheet["utility"] == sheet["audits"] == []
    text = (home / "dp" / "datasheet.md").read_text()
    assert sheet["guarantee"] in text
    assert "CC-BY-4.0" in text


def test_without_a_guarantee_it_says_so_and_quotes_what_was_measured(home):
    sheet = json.loads((home / "cvae" / "datasheet.json").read_text())
    assert sheet["guarantee"].startswith("None.")
    assert [figure["id"] for figure in sheet["utility"]] == ["cvae-num_epochs3-s0"]
    assert 50 < sheet["utility"][0]["auc"] <= 100
    assert [c["rows"] for c in sheet["classes"]] == np.bincount(
        read(home / "cvae" / "train.npz").labels
    ).tolist()
    ksame = json.loads((home / "ksame" / "datasheet.json").read_text())
    assert "Groups of 5 real rows" in ksame["guarantee"]
    assert ksame["utility"] == []  # those of another release


@pytest.mark.parametrize("name", ["ksame", "latent-ksame", "latent-linear", "plan"])
def test_merged_rows_are_not_called_several_persons(name):
    anonymizer = anonymizers.get(name)
    text = datasheet.statement(anonymizer, anonymizer.parse({"k": 5}), {})
    assert "5 rows, which may all be of one person" in text
    assert ("decoder was fitted to all training rows" in text) == (name != "ksame")


# Whatever is wrong with a bundle.


def refused(folder, message):
    done = bundle("verify", folder)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert message in done.err, done.err


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
    refused(tmp_path, "is no bundle")
    refused(tmp_path / "nowhere", "is not a folder")
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    refused(tmp_path, "has a line that is no checksum: 'nonsense'")


def sum_up(folder):
    """New checksums, as whoever changes a file knowingly writes them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_parts_of_different_bundles(copy, home):
    shutil.copy(home / "cvae" / "decoder.safetensors", copy)
    sum_up(copy)
    refused(copy, "datasheet.json describes other contents")
    (copy / "decoder.safetensors").unlink()
    sum_up(copy)
    refused(copy, "datasheet.json describes other contents")
    (copy / "datasheet.json").write_text("[]")
    sum_up(copy)
    refused(copy, "is no datasheet of format 1")


def rewrite(folder, sheet=(), **arrays):
    """Put other arrays into train.npz and, as its datasheets tell, another sheet beside it."""
    if arrays:
        with np.load(folder / "train.npz") as before:
            np.savez(folder / "train.npz", **{**before, **arrays})
    content = json.loads((folder / "datasheet.json").read_text())
    content.update(sheet)
    (folder / "datasheet.json").write_text(json.dumps(content))
    (folder / "datasheet.md").write_text(datasheet.render(content))


def sheet_with(folder, **more):
    return json.dumps({**json.loads((folder / "datasheet.json").read_text()), **more})


def with_meta(folder, **more):
    meta = {**read(folder / "train.npz").meta, **more}
    rewrite(folder, meta=np.array(json.dumps(meta)))


def with_settings(folder, **more):
    settings = {**read(folder / "train.npz").meta["settings"], **more}
    with_meta(folder, settings=settings)
    rewrite(folder, {"settings": settings})


def with_member(folder, name):
    with zipfile.ZipFile(folder / "train.npz", "a") as archive:
        archive.writestr(name, "x,y")


def without_variance(folder):
    settings = read(folder / "train.npz").meta["settings"]
    del settings["variance"]
    with_meta(folder, settings=settings)
    rewrite(folder, {"settings": settings})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: rewrite(f, originals=np.ones((2, 2))), "originals.npy"),
        (lambda f: with_member(f, "/home/me/patients.csv"), "patients.csv"),
        (lambda f: with_meta(f, source="/home/me/x"), "meta holds 'source'"),
        (lambda f: with_meta(f, anonymizer="ksame"), "'anonymizer' is not that"),
        (lambda f: with_meta(f, class_names=3), "meta holds 'class_names'"),
        (lambda f: (f / "datasheet.md").write_text("(0, 0)-DP"), "datasheet.md does not say"),
        (lambda f: rewrite(f, {"rows": 5}), "'rows' is not that"),
        (lambda f: rewrite(f, {"dimensions": 3}), "'dimensions' is not that"),
        (lambda f: rewrite(f, {"release": "../x"}), "names a release '../x'"),
        (lambda f: (f / "datasheet.json").write_text("[" * 200_000), "nested too deeply"),
        (lambda f: rewrite(f, {"patients": "..."}), "'patients'"),
        (lambda f: (f / "datasheet.json").write_text(sheet_with(f, audits=5)), "is no datasheet"),
        (without_variance, "no 'variance'"),
        (lambda f: with_settings(f, variance=-1.0), "--variance -1.0 is below"),
        (lambda f: with_settings(f, variance=float("nan")), "NaN is not finite"),
        (lambda f: with_settings(f, variance=float("inf")), "Infinity is not finite"),
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
    other = Decoder(len(decoder.minimum), classes, 64, 8)
    decoders.write(path, other)
    prints = datasheet.fingerprints(read(copy / "train.npz"), other)
    rewrite(copy, {"fingerprints": prints})
    sum_up(copy)
    refused(copy, "'classes' is not" if classes == 12 else "fewer classes than the rows")


def test_a_class_of_which_no_row_was_drawn_is_described():
    rows = EmbeddingSet(np.ones((3, 4)), np.array([0, 0, 1]), {"class_names": ["a", "b", "c"]})
    expected = [("a", 2), ("b", 1), ("c", 0), ("3", 0)]
    classes = datasheet.described(rows, Decoder(4, 4, 3, 1))["classes"]
    assert [(c["name"], c["rows"]) for c in classes] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("minimum"), "minimum"),
        (lambda t: t.update(secret=torch.ones(3)), "secret"),
        (lambda t: t.update(extent=torch.ones(3)), "holds no decoder"),
        (lambda t: t["extent"].fill_(float("nan")), "not finite"),
        (lambda t: t["class_weights"].fill_(0), "not a distribution"),
        (lambda t: t.update(class_weights=torch.ones(3)), "3 classes leave none of its 3 inputs"),
    ],
)
def test_decoders_that_are_none(tmp_path, change, message):
    path = tmp_path / "decoder.safetensors"
    tensors = Decoder(4, 2, 3, 1).state_dict()
    change(tensors)
    save_file(tensors, path, metadata={"observation_std": "0.1"})
    with pytest.raises(DataError, match=message):
        decoders.read(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="holds no decoder"):
        decoders.read(path)


def test_decoders_come_back_as_they_were(tmp_path):
    decoder = Decoder(4, 2, 3, 1)
    decoder.observation_std = 0.125
    decoders.write(tmp_path / "decoder.safetensors", decoder)
    again = decoders.read(tmp_path / "decoder.safetensors")
    assert again.observation_std == 0.125
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


# Bundles that are not made.


def test_the_originals_are_no_release(home, tmp_path):
    before = files_below(tmp_path)
    done = bundle(
        "create", *flags_of(home), "--anonymizer", "identity", "--output", tmp_path / "b"
    )
    assert done.status == 2
    assert "would give the originals away" in done.err
    assert files_below(tmp_path) == before


def test_a_decoder_that_did_not_draw_the_rows(home, tmp_path):
    other = ["--ckpt_root", tmp_path / "ckpts"]  # another secret key
    done = bundle("create", *flags_of(home)[:-2], *other, *DP, "--output", tmp_path / "b")
    assert done.status == 2
    assert "did not draw the released rows" in done.err
    assert not (tmp_path / "b").exists()


def test_an_interrupted_bundle_leaves_nothing(home, tmp_path, monkeypatch):
    def interrupted(sheet):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasheet, "render", interrupted)
    done = bundle("create", *flags_of(home), *KSAME, "--output", tmp_path / "b")
    assert done.status == 130
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_not_written_over(home):
    done = bundle("create", *flags_of(home), *KSAME, "--output", home / "dp")
    assert done.status == 2
    assert "cannot write" in done.err
    assert bundle("verify", home / "dp").status == 0


def test_unknown_commands():
    done = bundle("creat")
    assert done.status == 2
    assert "unknown command 'creat'; did you mean 'create'?" in done.err


# What the partner does with it.


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


@pytest.fixture
def partner(home, tmp_path, monkeypatch, digits):
    """Another site: a bundle and its own val and test rows; the originals are out of reach."""
    shutil.copytree(home / "dp", tmp_path / "dp")
    for split in ("val", "test"):
        write(tmp_path / "database" / "digits" / "pixels" / f"{split}.npz", getattr(digits, split))
    monkeypatch.chdir(tmp_path)
    away = home.with_name("away")
    home.rename(away)
    yield tmp_path
    away.rename(home)


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
    assert "variance 2.0 cannot be given" in online("--decoder", "dp", "--variance", 2).err
    folder = partner / "database" / "digits" / "pixels"
    meta = {**digits.test.meta, "backbone": "resnet18"}
    write(folder / "test.npz", EmbeddingSet(digits.test.embeddings, digits.test.labels, meta))
    assert "backbone 'pixels', not 'resnet18'" in online("--decoder", "dp").err
    write(folder / "test.npz", EmbeddingSet(digits.test.embeddings[:, :9], digits.test.labels))
    assert "has 9 dimensions but" in online("--decoder", "dp").err
    assert not (partner / "logs").exists() or not files_below(partner / "logs")


def test_a_sampled_row_is_a_draw_of_the_decoder(home):
    """With z and noise scaled to 0 what is drawn is the decoded class itself."""
    loaded = contents.read(home / "dp")
    loaded.decoder.observation_std = 0.0
    sheet = {**loaded.sheet, "settings": {**loaded.sheet["settings"], "variance": 0.0}}
    drawn = making.sample(loaded._replace(sheet=sheet), counts=[1] * 10, seed=0)
    expected = loaded.decoder.embed(torch.zeros(10, 8), torch.arange(10))
    np.testing.assert_allclose(drawn.embeddings, expected.numpy(), rtol=1e-6)
    assert provenance.fingerprint_arrays(drawn.labels) == provenance.fingerprint_arrays(
        np.arange(10)
    )


def test_draws_that_overflow_are_refused(home):
    loaded = contents.read(home / "dp")
    loaded.decoder.minimum.fill_(3e38)
    loaded.decoder.extent.fill_(3e38)
    loaded.decoder.layers[2].bias.data.fill_(1e3)  # all features at their largest, 6e38
    with pytest.raises(DataError, match="not finite"):
        making.sample(loaded, counts=[1] * 10, seed=0)
