"""Data that several tests of datasets read, and a network that is not there."""

import socket

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from src.embedding import downloads
from tests.embedding.datasets.support import grey, save


@pytest.fixture
def folder(tmp_path):
    """`mine`: two classes, train 12 + 10, test 2 + 1; the value of an image names it."""
    for label, (name, counts) in enumerate({"b_dog": (12, 2), "a cat": (10, 1)}.items()):
        for split, count in zip(("train", "test"), counts, strict=True):
            for i in range(count):
                save(tmp_path / "mine" / split / name / f"{i:02d}.png", grey(100 * label + i))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to connect or to resolve a name fails the test."""

    def refuse(*args, **kwargs):
        pytest.fail("tried to use the network")

    monkeypatch.setattr(downloads, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def stl10(tmp_path):
    """30 training and 3 test images; pixel (row 1, column 2) of image i is (i, 0, 7)."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 3)):
        pixels = np.zeros((count, 3, 96, 96), np.uint8)  # the file's order: n, colour, column, row
        pixels[:, 0, 2, 1] = np.arange(count)
        pixels[:, 2, 2, 1] = 7
        pixels.tofile(folder / f"{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 3 + 1).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar")
    return tmp_path


@pytest.fixture(scope="session")
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
