"""docs/data.md: each command on images and weights runs as written, on files made here."""

import re
import shlex

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src.database import SPLITS, Database
from tests.embedding.datasets.support import lines, save
from tests.support import ROOT, call

PAGE = (ROOT / "docs/data.md").read_text()
FENCE = re.compile(r"```\n(.*?)```", re.DOTALL)
COUNTS = {"train": 10, "val": 3, "test": 3}


def section(title):
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def commands(title):
    """The commands of a section."""
    blocks = FENCE.findall(section(title))
    return [b.strip() for b in blocks if b.startswith("python create_db.py")]


def picture(seed, *, deep=False):
    shape, kind, largest = ((20, 20), np.uint16, 4096) if deep else ((20, 20, 3), np.uint8, 256)
    return np.random.default_rng(seed).integers(0, largest, shape).astype(kind)


def folder(name, writer=lambda path, seed: save(path, Image.fromarray(picture(seed)))):
    """Splits and classes, the page's own file names among them."""
    seed = 0
    for split, count in COUNTS.items():
        for label in ("benign", "malignant"):
            for i in range(count):
                writer(name / split / label / f"{i}.png", seed := seed + 1)


def lesions(root):
    folder(root / "lesions")
    for line in FENCE.findall(section("Your own images"))[0].split("\n")[:4]:
        path = root / line.removeprefix("assets/data/")
        if path.parts[-3] == "valid" or "valid" in path.parts:
            (root / "lesions/val").rename(root / "lesions/valid")
        save(path, Image.fromarray(picture(99)))
    copied = Image.open(root / "lesions/train/benign/1.png")
    save(root / "lesions/test/benign/copy.bmp", copied)


def moles(root):
    for i in range(60):
        label = "benign" if i % 2 else "malignant"
        save(root / "moles" / label / f"{i}.png", Image.fromarray(picture(i)))


def scans(root):
    head, *rows = next(
        b for b in FENCE.findall(section("Your own images")) if b.startswith("file,")
    ).split()
    for i in range(20):
        rows.append(f"images/{i}.png,{'benign' if i % 2 else 'malignant'},train")
        rows.append(f"images/t{i}.png,{'benign' if i % 2 else 'malignant'},test")
    for seed, row in enumerate(rows):
        save(root / "scans" / row.partition(",")[0], Image.fromarray(picture(seed)))
    lines(root / "scans/labels.csv", [head, *rows])


def xray(root):
    def writer(path, seed):
        save(path, Image.fromarray(picture(seed, deep=True)))

    folder(root / "xray", writer)


def ct(root):
    from tests.embedding.datasets.test_dicom import write

    def writer(path, seed):
        tags = {"RescaleSlope": 1, "RescaleIntercept": -1024}
        write(path.with_suffix(".dcm"), picture(seed, deep=True), **tags)

    folder(root / "ct", writer)


MAKERS = {make.__name__: make for make in (lesions, moles, scans, xray, ct)}


@pytest.mark.parametrize("command", [*commands("Your own images"), *commands("Backbones")])
def test_each_command_runs_as_written(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    python, script, *flags = shlex.split(command)
    assert (python, script) == ("python", "create_db.py")
    dataset, backbone = (flags[flags.index(f) + 1] for f in ("--dataset", "--backbone"))
    MAKERS[dataset](tmp_path / "assets/data")
    if "--weights" in flags:
        torch.save(timm.create_model("test_vit").state_dict(), "weights.pth")
    done = call("create_db", *flags)
    assert done.status == 0, done.err
    found = Database(tmp_path / "assets/database", dataset, backbone).read()
    assert all(len(getattr(found, split)) for split in SPLITS)
    assert found.train.class_names == ["benign", "malignant"]
    facts = found.train.meta["facts"]["dataset"]
    assert ("window" in facts) == (dataset in ("xray", "ct"))
    assert ("copies_dropped" in facts) == ("--drop_copies" in flags)
    assert ("copies_in_test" in facts) == (dataset == "lesions")


def test_the_page_has_a_command_for_every_kind():
    assert len(commands("Your own images")) == 6
    assert len(commands("Backbones")) == 1
