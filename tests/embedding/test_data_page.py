"""docs/data.md: each command runs as written, on files made here."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import timm
import torch
from PIL import Image
from pyarrow import parquet

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
    lines = "".join(FENCE.findall(section(title))).splitlines()
    return [line for line in lines if line.startswith("python create_db.py")]


def example(title, head):
    """The lines of the example that begins with this one."""
    found = next(b for b in FENCE.findall(section(title)) if b.startswith(head))
    return found.splitlines()


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
    head, *rows = example("Your own images", "file,label")
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


def nodules(root):
    """Images of which the page's table names three; the others are two persons' each."""
    head, *rows = example("Your own images", "file,person")
    folder(root / "nodules")
    save(root / "nodules/train/malignant/0815.png", Image.fromarray(picture(98)))
    names = [row.partition(",")[0] for row in rows]
    for number, path in enumerate(sorted((root / "nodules").rglob("*.png"))):
        name = str(path.relative_to(root / "nodules"))
        if name not in names and path.stem not in names:
            rows.append(f"{name},{number % 8}")
    lines(Path("persons.csv"), [head, *rows])


def clinic(root):
    def writer(path, seed):
        save(path.parent / str(seed // 2) / path.name, Image.fromarray(picture(seed)))

    folder(root / "clinic", writer)


MAKERS = {make.__name__: make for make in (lesions, moles, scans, xray, ct, nodules, clinic)}


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
    assert (found.train.persons is not None) == (dataset in ("nodules", "clinic"))
    if "--split" in flags:
        assert facts["persons_in_several_splits"] == 0
    elif dataset == "nodules":
        assert facts["persons_in_several_splits"]
        assert "--split person" in done.err


def test_the_page_has_a_command_for_every_kind():
    assert len(commands("Your own images")) == 9
    assert len(commands("Your own embeddings")) == 8
    assert len(commands("Backbones")) == 1


# Embeddings.

ROWS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
KINDS = np.array(["benign", "malignant"])[np.arange(60) % 2]


def biopsies():
    """The files of the section, all in one folder."""
    head, *rows = example("Your own embeddings", "feat_0,feat_1,label")
    for i, (row, kind) in enumerate(zip(ROWS.tolist(), KINDS, strict=True)):
        rows.append(f"{row[0]},{row[1]},{kind},{'train' if i < 40 else 'test'},person {i // 2}")
    lines(Path("biopsies.csv"), [head, *rows])
    whole = [f"{a}\t{b}\t{kind}" for (a, b, _), kind in zip(ROWS, KINDS, strict=True)]
    for name, part in (("train", whole[:40]), ("valid", whole[40:50]), ("test", whole[50:])):
        lines(Path(f"{name}.tsv"), ["f0\tf1\tlabel", *part])
    deep = [row.replace("feat_", "deep") for row in (head, *rows)]
    deep[0] = deep[0].replace("label,split,patient_id", "dx,part,case")
    lines(Path("deep.csv"), deep)
    np.save("features.npy", ROWS)
    np.save("labels.npy", KINDS)
    for split, part in (("train", slice(40)), ("test", slice(40, 60))):
        np.save(f"X_{split}.npy", ROWS[part].astype(">f8"))
        lines(Path(f"y_{split}.txt"), KINDS[part])
    np.savez("biopsies.npz", X=ROWS, y=np.arange(60) % 2, class_names=["benign", "malignant"])
    np.savez("other.npz", codes=ROWS.astype(np.float16), kinds=KINDS)
    columns = {"embedding": ROWS.tolist(), "label": KINDS.tolist()}
    parquet.write_table(pyarrow.table(columns), "biopsies.parquet")


@pytest.mark.parametrize("command", commands("Your own embeddings"))
def test_each_command_on_embeddings_runs_as_written(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    biopsies()
    python, script, *flags = shlex.split(command)
    assert (python, script) == ("python", "create_db.py")
    done = call("create_db", *flags)
    assert done.status == 0, done.err
    found = Database(tmp_path / "assets/database", "biopsies", "resnet50").read()
    assert found.train.class_names == ["benign", "malignant"]
    assert len(found.train) + len(found.val) + len(found.test) in (60, 62)
    whose = "biopsies.csv" in flags or "deep.csv" in flags
    assert (found.train.persons is not None) == whose
    assert ("split_seed" in found.train.meta["facts"]["dataset"]) == ("valid.tsv" not in flags)
