"""create_db.py --like: images are embedded as those of a bundle, or what differs is said."""

import json

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from src.bundle import contents
from src.database import read
from tests.bundle.support import bundle, recompose
from tests.support import call, files_below

KSAME = ["--anonymizer", "ksame", "--k", 2]


def weights(path, seed):
    import torch

    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", pretrained=False)
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def giver(tmp_path_factory):
    """A site with images, a network's weights and a bundle of embeddings by them."""
    home = tmp_path_factory.mktemp("giver")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for name in ("left", "right"):
            folder = home / "data" / "mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 255, (40, 40, 3), np.uint8)
                Image.fromarray(picture).save(folder / f"{i}.png")
    weights(home / "w.safetensors", 0)
    weights(home / "others.safetensors", 1)
    place = ["--dataset", "mine", "--backbone", "test_resnet", "--device", "cpu",
             "--database_root", home / "database"]  # fmt: skip
    made = call("create_db", *place, "--dataset_root", home / "data", "--weights",
                home / "w.safetensors", "--image_size", 64, "--precision", "bf16")  # fmt: skip
    assert made.status == 0, made.err
    assert call("anonymize", *place, *KSAME).status == 0
    done = bundle("create", *place, *KSAME, "--output", home / "bundle", "--logs")
    assert done.status == 0, done.err
    return home


def like(giver, root, *flags, file="w.safetensors"):
    return call(
        "create_db", "--dataset", "mine", "--dataset_root", giver / "data", "--device", "cpu",
        "--database_root", root, "--weights", giver / file, "--like", giver / "bundle", *flags,
    )  # fmt: skip


def test_the_bundle_says_all_that_it_takes(giver):
    way = contents.read(giver / "bundle").sheet["preprocessing"]
    assert way["precision"] == "bf16"
    assert way["image_size"] == 64
    assert way["input_size"] == [3, 64, 64]
    assert len(way["weights"]) == 16
    assert way["transform"]["mean"]
    assert way["versions"]["timm"] == timm.__version__
    assert way["own_weights"] is True


def test_images_are_embedded_as_the_bundles_were(giver, tmp_path):
    done = like(giver, tmp_path)
    assert done.status == 0, done.err
    for split in ("train", "val", "test"):
        ours = read(tmp_path / "mine" / "test_resnet" / f"{split}.npz")
        theirs = read(giver / "database" / "mine" / "test_resnet" / f"{split}.npz")
        assert ours.fingerprint == theirs.fingerprint
        assert ours.meta["precision"] == "bf16"
        assert ours.meta["image_size"] == 64
    done = call("probing", "--dataset", "mine", "--backbone", "test_resnet", "--device", "cpu",
                "--database_root", tmp_path, "--output_root", tmp_path / "logs", "-e", 1,
                "--bundle", giver / "bundle")  # fmt: skip
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--precision", "fp32"], "--precision fp32 contradicts --like"),  # the default, given
        (["--image_size", 32], "--image_size 32 contradicts --like"),
        (["--backbone", "test_vit"], "--backbone test_vit contradicts --like"),
        (["--backbone", "vit_base_patch14_dinov2.lvd142m"], "contradicts --like"),
        (["--from", "x.csv"], "--like has no effect with --from"),
    ],
)
def test_flags_that_contradict_the_bundle(giver, tmp_path, flags, message):
    if "--from" in flags:
        done = call("create_db", "--dataset", "mine", "--backbone", "test_resnet",
                    "--database_root", tmp_path, "--like", giver / "bundle", *flags)  # fmt: skip
    else:
        done = like(giver, tmp_path, *flags)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err, done.err
    assert not files_below(tmp_path)


def test_flags_that_agree_are_fine(giver, tmp_path):
    flags = ["--precision", "bf16", "--image_size", 64, "--backbone", "test_resnet"]
    assert like(giver, tmp_path, *flags).status == 0


def test_other_weights_are_an_error_that_names_both(giver, tmp_path):
    done = like(giver, tmp_path, file="others.safetensors")
    assert done.status == 2
    theirs = contents.read(giver / "bundle").sheet["preprocessing"]["weights"]
    assert f"instead of {theirs}" in done.err
    assert "weights " in done.err
    assert not files_below(tmp_path)


def test_rows_by_other_weights_are_refused_by_a_head(giver, tmp_path):
    place = ["--dataset", "mine", "--backbone", "test_resnet", "--device", "cpu",
             "--database_root", tmp_path]  # fmt: skip
    done = call("create_db", *place, "--dataset_root", giver / "data", "--image_size", 64,
                "--precision", "bf16", "--weights", giver / "others.safetensors")  # fmt: skip
    assert done.status == 0, done.err
    done = call("probing", *place, "--bundle", giver / "bundle",
                "--output_root", tmp_path / "logs")  # fmt: skip
    assert done.status == 2
    assert "was made in another way than the bundle's rows: weights" in done.err


def changed(giver, tmp_path, **preprocessing):
    import shutil

    folder = shutil.copytree(giver / "bundle", tmp_path / "bundle")
    sheet = json.loads((folder / "datasheet.json").read_text())
    recompose(folder, preprocessing={**sheet["preprocessing"], **preprocessing})
    return folder


def test_other_versions_are_a_warning(giver, tmp_path):
    folder = changed(giver, tmp_path, versions={"timm": "0.4.12", "torch": "1.0"})
    done = like(giver, tmp_path / "database", "--like", folder)
    assert done.status == 0, done.err
    assert f"timm {timm.__version__}, not 0.4.12" in done.err


def test_what_a_bundle_does_not_say_is_a_warning(giver, tmp_path):
    folder = changed(giver, tmp_path, weights=None)
    done = like(giver, tmp_path / "database", "--like", folder)
    assert done.status == 0, done.err
    assert "not compared: weights" in done.err


def test_a_hostile_datasheet_gives_no_settings(giver, tmp_path):
    folder = changed(giver, tmp_path, image_size=[1], precision={"a": 1}, window="x")
    done = like(giver, tmp_path / "database", "--like", folder)
    assert done.status == 2
    assert done.err.count("\n") == 1


def test_what_is_no_bundle(giver, tmp_path):
    done = like(giver, tmp_path / "database", "--like", giver / "data")
    assert done.status == 2
    assert "is not a bundle" in done.err
    assert not files_below(tmp_path)
