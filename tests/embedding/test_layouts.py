"""Checkpoints as other programs write them, on small models with random weights."""

import logging
import re

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from src.core.errors import DataError, InputError
from src.embedding.backbones import load
from src.embedding.layouts import is_head
from tests.embedding.support import CPU, colour, splits


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def body(state):
    return {name: value for name, value in state.items() if not name.startswith("head.")}


TO_TRANSFORMERS = [
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"^norm\.", "layernorm."),
    (r"^head\.", "classifier."),
    (r"attn\.proj", "attention.output.dense"),
    (r"ls([12])\.gamma", r"layer_scale\1.lambda1"),
]
OF_VIT = [
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
    (r"norm1\.", "layernorm_before."),
    (r"norm2\.", "layernorm_after."),
]


def transformers(state, prefix="", *, vit=True):
    """As transformers names the arrays of ViT and DINOv2: query, key and value are three."""
    found = {}
    for name, value in state.items():
        theirs = name
        for pattern, replacement in TO_TRANSFORMERS + OF_VIT * vit:
            theirs = re.sub(pattern, replacement, theirs)
        theirs = theirs if theirs.startswith("classifier") else prefix + theirs
        if "attn.qkv" not in theirs:
            found[theirs] = value
            continue
        for part, array in zip(("query", "key", "value"), value.chunk(3), strict=True):
            found[theirs.replace("attn.qkv", f"attention.attention.{part}")] = array.clone()
    return found


LAYOUTS = {
    "timm": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "args": "x"},
    "ema": lambda s: {"state_dict": {k: v * 0 for k, v in s.items()}, "state_dict_ema": s},
    "distributed": lambda s: {"state_dict": prefixed(s, "module.")},
    "compiled": lambda s: prefixed(s, "_orig_mod.module."),
    "lightning": lambda s: {
        "state_dict": {**prefixed(s, "model.backbone."), "criterion.weight": torch.ones(2)},
        "pytorch-lightning_version": "2.1",
    },
    "compiled in lightning": lambda s: {"state_dict": prefixed(s, "net._orig_mod.")},
    "DINO": lambda s: {
        "student": prefixed({k: v * 0 for k, v in body(s).items()}, "module.backbone."),
        "teacher": {**prefixed(body(s), "backbone."), "head.mlp.0.weight": torch.ones(3)},
    },
    "DINOv2": lambda s: {
        "model": {
            **prefixed({k: v * 0 for k, v in body(s).items()}, "student.backbone."),
            **prefixed(body(s), "teacher.backbone."),
            "teacher.dino_head.last_layer.weight": torch.ones(3),
            "dino_loss.center": torch.ones(3),
        }
    },
    "blocks in chunks": lambda s: {
        "teacher": {
            re.sub(r"^blocks\.", "backbone.blocks.0.", k): v
            for k, v in body(s).items()
            if k.startswith("blocks.")
        }
        | prefixed({k: v for k, v in body(s).items() if k[:7] != "blocks."}, "backbone.")
    },
    "transformers": lambda s: transformers(s, "vit."),
    "transformers without a classifier": lambda s: {
        **transformers(body(s)),
        "pooler.dense.weight": torch.ones(4),
    },
}


def same(model, state):
    own = model.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_model(saved, tmp_path, layout, caplog):
    caplog.set_level(logging.INFO)
    state = saved[1]["test_vit"].state_dict()
    torch.save(LAYOUTS[layout](state), tmp_path / "theirs.pth")
    found = load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "theirs.pth")
    assert same(found.model.model, state)
    assert "state_dict" not in found.model.model.pretrained_cfg
    renamed = layout not in ("timm", "state_dict", "model", "ema")
    assert [m for m in caplog.messages if "the names are not those of 'test_vit'" in m][
        :1
    ] == caplog.messages
    assert len(caplog.messages) == renamed


@pytest.mark.parametrize("convert", [lambda s: s, lambda s: transformers(s, vit=False)])
def test_dinov2_with_registers(tmp_path, convert):
    """Meta's names, then transformers': timm keeps no position of the class token."""
    name = "vit_small_patch14_reg4_dinov2"
    state = body(timm.create_model(name, img_size=56).state_dict())
    theirs = dict(state)
    theirs["register_tokens"] = theirs.pop("reg_token")
    first = torch.zeros(1, 1, 384)
    theirs["pos_embed"] = torch.cat([first, theirs["pos_embed"]], 1)
    theirs["mask_token"] = torch.zeros(1, 384)
    torch.save(convert(theirs), tmp_path / "theirs.pth")
    found = load(
        name, splits(colour()), device=CPU, weights=tmp_path / "theirs.pth", image_size=56
    )
    assert same(found.model.model, state)


def test_a_suffix_does_not_decide(saved, tmp_path):
    state = saved[1]["test_vit"].state_dict()
    safetensors.torch.save_file(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        found = load("test_vit", splits(colour()), device=CPU, weights=tmp_path / name)
        assert same(found.model.model, state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html>Sign in</html>", "is a web page"),
        (b"", "is empty$"),
        (b'{"weight_map": {}}', "is not weights .* begins with"),
        (b"hello there, this is text", "is not weights in safetensors or torch's format"),
    ],
)
def test_what_is_no_file_of_weights_is_recognised(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.safetensors {message}") as error:
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)
    np.savez(tmp_path / "x.npz", kernel=np.ones(3))
    with pytest.raises(DataError, match=r"x\.npz is an \.npz of numpy arrays"):
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "x.npz")
    with pytest.raises(InputError, match="is a folder; name the file"):
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path)


def test_a_published_file_is_recognised_too(tmp_path, monkeypatch):
    """A captive portal's page in the cache of downloads."""
    from src.embedding import timm_models

    (tmp_path / "model.safetensors").write_text("<html>Please sign in</html>")
    monkeypatch.setattr(timm_models, "_from_hub", lambda *_: tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors is a web page"):
        load("test_vit.r160_in1k", splits(colour()), device=CPU)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda: timm.create_model("test_resnet").state_dict(),
            "it lacks 78 of its 78 arrays, the first 'cls_token', and has 92 others, the first "
            r"'conv1\.0\.weight'; it calls its arrays 'conv1\.…', 'bn1\.…', 'layer1\.…'",
        ),
        (
            lambda: transformers(timm.create_model("vit_tiny_patch16_224").state_dict()),
            r"size mismatch for cls_token.* \(and \d+ more\)$",
        ),
        (lambda: {"epoch": torch.tensor(3)}, "it lacks 78 .* 'epoch'"),
        (lambda: {"epoch": 3}, r"holds no arrays that are weights \(it holds: epoch\)"),
    ],
)
def test_what_does_not_fit_is_one_short_line(tmp_path, state, message):
    torch.save(state(), tmp_path / "x.pth")
    with pytest.raises(DataError, match=message) as error:
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "x.pth")
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_unused_arrays_behind_a_prefix_are_refused(saved, tmp_path):
    state = saved[1]["test_vit"].state_dict()
    theirs = {
        **prefixed(state, "backbone."),
        "decoder.x": torch.ones(2),
        "decoder.y": torch.ones(2),
    }
    torch.save({"state_dict": theirs}, tmp_path / "x.pth")
    with pytest.raises(
        DataError, match="2 of its arrays would be left unused, the first 'decoder.x'"
    ):
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "x.pth")


def test_heads():
    heads = (
        *("head.weight", "head_dist.bias", "teacher.dino_head.x", "fc.bias", "mask_token"),
        *("vit.pooler.dense.weight", "student.backbone.cls_token", "module.projector.0.weight"),
    )
    assert all(map(is_head, heads))
    bodies = ("blocks.0.attn.qkv.weight", "decoder.x", "headless.x", "norm.weight", "fc_norm.bias")
    assert not any(map(is_head, bodies))
