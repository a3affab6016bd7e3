import json
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from src import backbones
from src.backbones import load
from src.datasets.base import ImageArray, ImageSet, ImageSplits
from src.errors import DataError, InputError, MissingFileError, UnknownNameError

CPU = torch.device("cpu")


def splits(*arrays):
    """Three splits; one array stands for all of them."""
    arrays = arrays if len(arrays) == 3 else arrays * 3
    sets = [ImageSet(ImageArray(a), np.zeros(len(a), np.int64)) for a in arrays]
    return ImageSplits(*sets, class_names=["only"])


def colour(n=3, size=40):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)


class Mixed:
    """Images of any modes and sizes."""

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def mixed(*images):
    split = ImageSet(Mixed(*images), np.zeros(len(images), np.int64))
    return ImageSplits(split, split, split, class_names=["only"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Random weights of small timm models with their classifiers, in both file formats."""
    folder = tmp_path_factory.mktemp("weights")
    models = {}
    for name in ("test_vit", "test_resnet"):
        torch.manual_seed(1)
        models[name] = timm.create_model(name).eval()
        state = models[name].state_dict()
        safetensors.torch.save_file(state, folder / f"{name}.safetensors")
        torch.save({"state_dict": state, "epoch": 3}, folder / f"{name}.pth")
    return folder, models


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_local_checkpoint_gives_its_models_pre_logits_features(saved, name):
    folder, models = saved
    images = splits(colour())
    loaded = [
        load(name, images, device=CPU, weights=folder / f"{name}{suffix}")
        for suffix in (".safetensors", ".pth")
    ]
    config = timm.data.resolve_model_data_config(models[name])
    transform = timm.data.create_transform(**config, is_training=False)
    x = torch.stack([transform(Image.fromarray(image)) for image in colour()])
    with torch.inference_mode():
        expected = models[name].forward_head(models[name].forward_features(x), pre_logits=True)
    for backbone in loaded:
        ours = torch.stack([backbone.transform(images.train[i]) for i in range(3)])
        assert torch.equal(ours, x)
        with torch.inference_mode():
            torch.testing.assert_close(backbone.model(ours), expected, rtol=1e-4, atol=1e-5)
        assert backbone.dim == expected.shape[1]
        assert not backbone.model.training
    assert loaded[0].facts == loaded[1].facts
    assert loaded[0].facts["input_size"] == [3, 160, 160]
    json.dumps(loaded[0].facts)


def test_the_fingerprint_tells_weights_apart(saved, tmp_path):
    folder, models = saved
    state = dict(models["test_vit"].state_dict())
    state["norm.bias"] = state["norm.bias"] + 1e-3
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    first, second = (
        load("test_vit", splits(colour()), device=CPU, weights=path).facts["weights"]
        for path in (folder / "test_vit.safetensors", tmp_path / "other.safetensors")
    )
    assert first != second


def test_position_embeddings_are_resized_to_the_image_size(saved):
    folder, models = saved
    weights = folder / "test_vit.safetensors"
    backbone = load("test_vit", splits(colour()), device=CPU, weights=weights, image_size=96)
    assert backbone.facts["input_size"] == [3, 96, 96]
    ours = backbone.model.model.pos_embed
    theirs = timm.layers.resample_abs_pos_embed(
        models["test_vit"].pos_embed, new_size=[6, 6], num_prefix_tokens=1
    )
    assert ours.shape == (1, 1 + 6 * 6, 64)
    torch.testing.assert_close(ours, theirs)
    convolutions = load(
        "test_resnet",
        splits(colour()),
        device=CPU,
        weights=folder / "test_resnet.pth",
        image_size=64,
    )
    assert convolutions.facts["input_size"] == [3, 64, 64]


def test_grey_images_enter_timm_models_as_colour(saved):
    grey = np.random.default_rng(0).integers(0, 256, (2, 40, 40), dtype=np.uint8)
    backbone = load(
        "test_resnet", splits(grey), device=CPU, weights=saved[0] / "test_resnet.safetensors"
    )
    x = backbone.transform(Image.fromarray(grey[0]))
    assert x.shape == (3, 160, 160)
    assert torch.equal(x[0], x[1])


def test_a_size_that_the_model_does_not_take_is_named(saved):
    with pytest.raises(InputError, match=r"'test_vit' does not take images of size 100 x 100"):
        load(
            "test_vit",
            splits(colour()),
            device=CPU,
            weights=saved[0] / "test_vit.pth",
            image_size=100,
        )


def test_weights_of_another_model_are_refused(saved, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(DataError, match=r"test_resnet.pth .*'test_vit': it lacks 78 of its 78"):
        load("test_vit", splits(colour()), device=CPU, weights=saved[0] / "test_resnet.pth")
    assert not caplog.records  # timm's own notes name every array
    assert torch.nn.Module.load_state_dict.__module__ == "torch.nn.modules.module"


def test_weights_of_other_shapes_are_refused_naming_the_first(saved, tmp_path):
    state = dict(saved[1]["test_vit"].state_dict())
    state["norm.bias"] = torch.zeros(65)
    safetensors.torch.save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(
        DataError, match=r"wide.safetensors .*size mismatch for norm.bias"
    ) as error:
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "wide.safetensors")
    assert "\n" not in str(error.value)


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_weights_are_refused(saved, tmp_path, suffix):
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes((saved[0] / f"test_vit{suffix}").read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot load .*damaged.* into backbone 'test_vit'"):
        load("test_vit", splits(colour()), device=CPU, weights=damaged)


def test_pickled_objects_are_never_loaded(tmp_path):
    torch.save({"state_dict": _Touch(tmp_path / "touched")}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="it holds pickled objects"):
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.pth does not exist"):
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet19",
            r"^unknown backbone 'resnet19'; did you mean 'resnet18'\? .*timm.list_models",
        ),
        ("resnet18.a9_in1k", r"^unknown backbone .*did you mean 'resnet18.a\d_in1k'"),
        ("pixel", r"did you mean 'pixels'\?"),
    ],
)
def test_unknown_names_get_one_line_with_close_ones(name, message):
    with pytest.raises(UnknownNameError, match=message) as error:
        load(name, splits(colour()), device=CPU)
    assert len(str(error.value)) < 300


def test_other_sources_of_models(saved, tmp_path):
    with pytest.raises(InputError, match=r"'timm/resnet18'.*hf-hub:timm/resnet18"):
        load("timm/resnet18", splits(colour()), device=CPU)
    with pytest.raises(InputError, match=r"Config file not found"):
        load(f"local-dir:{tmp_path}", splits(colour()), device=CPU)
    timm.models.save_for_hf(saved[1]["test_vit"], tmp_path / "model", safe_serialization=True)
    local = load(f"local-dir:{tmp_path / 'model'}", splits(colour()), device=CPU)
    same = load("test_vit", splits(colour()), device=CPU, weights=saved[0] / "test_vit.pth")
    assert local.facts["weights"] == same.facts["weights"]


def test_a_model_without_published_weights_needs_a_file():
    with pytest.raises(InputError, match=r"no pretrained weights.*'test_maxvit'.*--weights FILE"):
        load("test_maxvit", splits(colour()), device=CPU)


@pytest.fixture
def closed_hub(monkeypatch, tmp_path):
    """A hub that refuses connections, and an empty cache."""
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_no_network_is_told_at_once(closed_hub, caplog, capfd):
    caplog.set_level(logging.INFO)
    start = time.monotonic()
    with pytest.raises(MissingFileError) as error:
        load("test_vit.r160_in1k", splits(colour()), device=CPU)
    assert time.monotonic() - start < 15
    message = str(error.value)
    assert "http://127.0.0.1:9/timm/test_vit.r160_in1k/resolve/main/model.safetensors" in message
    assert "--weights FILE" in message
    assert "\n" not in message
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_cached_weights_need_no_network(saved, closed_hub):
    snapshot = closed_hub / "models--timm--test_vit.r160_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    os.link(saved[0] / "test_vit.safetensors", snapshot / "model.safetensors")
    reference = snapshot.parent.parent / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("abc")
    cached = load("test_vit.r160_in1k", splits(colour()), device=CPU)
    same = load("test_vit", splits(colour()), device=CPU, weights=saved[0] / "test_vit.pth")
    assert cached.facts == same.facts


# Pixels.


def test_pixels_are_the_image_in_rows_of_its_channels():
    images = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)  # n, h, w, colour
    backbone = load("pixels", splits(images), device=CPU)
    x = torch.stack([backbone.transform(Image.fromarray(image)) for image in images])
    expected = images.transpose(0, 3, 1, 2).reshape(2, -1).astype(np.float32) / 255
    assert backbone.dim == 18
    np.testing.assert_array_equal(backbone.model(x).numpy(), expected)


def test_pixels_of_digits_are_sixteenths():
    from src.datasets import digits

    images = digits.load()
    backbone = load("pixels", images, device=CPU)
    values = backbone.model(backbone.transform(images.train[0])[None]) * 16
    assert backbone.dim == 64
    assert torch.equal(values, values.round())
    assert 1 < values.max() <= 16


def test_pixels_resized():
    grey = np.full((2, 10, 20), 51, np.uint8)
    backbone = load("pixels", splits(grey), device=CPU, image_size=4)
    x = backbone.transform(Image.fromarray(grey[0]))
    assert x.shape == (1, 4, 4)
    torch.testing.assert_close(x, torch.full((1, 4, 4), 0.2))
    different = mixed(Image.new("L", (5, 5)), Image.new("L", (9, 3)))
    assert load("pixels", different, device=CPU, image_size=2).dim == 4


def test_pixels_of_different_sizes_are_refused():
    images = mixed(Image.new("L", (7, 5)), Image.new("L", (9, 3)))
    backbone = load("pixels", images, device=CPU)
    with pytest.raises(
        InputError, match=r"different sizes, 3 x 9 and 5 x 7 \(h x w\).*image_size"
    ):
        backbone.transform(images.train[1])


def test_pixels_of_grey_images_among_colour_ones_are_repeated():
    grey, red = Image.new("L", (2, 2), 51), Image.new("RGB", (2, 2), (255, 0, 0))
    backbone = load("pixels", mixed(grey, red), device=CPU)
    assert backbone.dim == 12
    assert torch.equal(backbone.transform(grey), torch.full((3, 2, 2), 0.2))


def test_pixels_have_no_weights(tmp_path):
    with pytest.raises(InputError, match="'pixels' has no weights"):
        load("pixels", splits(colour()), device=CPU, weights=tmp_path)


def test_a_transform_can_be_sent_to_a_worker(saved):
    import pickle

    weights = saved[0] / "test_vit.pth"
    for name, file in (("pixels", None), ("test_vit", weights)):
        backbone = backbones.load(name, splits(colour()), device=CPU, weights=file)
        image = Image.fromarray(colour()[0])
        again = pickle.loads(pickle.dumps(backbone.transform))
        assert torch.equal(again(image), backbone.transform(image))
