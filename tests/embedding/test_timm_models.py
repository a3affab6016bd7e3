"""timm's models: weights by name, from files, a hub and a folder."""

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

from src.core.errors import DataError, InputError, MissingFileError, UnknownNameError
from src.embedding.backbones import load
from tests.embedding.support import CPU, colour, splits


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
    with pytest.raises(DataError, match=rf"cannot load {damaged}: truncated or damaged"):
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
    assert {**cached.facts, "own_weights": True} == same.facts
