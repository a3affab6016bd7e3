"""OCTDL's preparation, on a small copy of its layout."""

import csv
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from src import cli
from src.embedding import datasets
from tests.support import ROOT

SCRIPT = ROOT / "assets/data/octdl/octdl_preprocessing.py"
CLASSES = ("AMD", "DME", "ERM", "NO", "RAO", "RVO", "VID")
SIZE = (30, 20)  # width, height
PATIENTS = 8

spec = importlib.util.spec_from_file_location("octdl_preprocessing", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.fixture
def raw(tmp_path):
    """Seven classes of eight patients with two images each, rows in mixed order."""
    rows = []
    for label, disease in enumerate(CLASSES):
        (tmp_path / "OCTDL" / disease).mkdir(parents=True)
        for image in range(2):
            for patient in range(PATIENTS):
                name = f"{disease.lower()}_{patient}_{image}"
                rows.append((name, disease, f"{label}{patient}", "unused"))
                pixels = np.full((SIZE[1], SIZE[0]), 10 * patient + 100 * image, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "OCTDL" / disease / f"{name}.jpg")
    write_labels(tmp_path, rows)
    return tmp_path


def write_labels(folder, rows, columns=("file_name", "disease", "patient_id", "condition")):
    with (folder / "OCTDL_labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def command_line(folder, *flags):
    output = folder / "octdl" / "dataset_1"
    return [str(SCRIPT), "--input", str(folder), "--output", str(output), "--quiet", *flags]


@pytest.fixture
def prepare(raw, monkeypatch, capsys):
    """Run the script in this process: (exit status, standard error)."""
    monkeypatch.setenv("TQDM_DISABLE", "1")

    def run(*flags):
        monkeypatch.setattr(sys, "argv", command_line(raw, *flags))
        with pytest.raises(SystemExit) as exit_:
            cli.run(script.main)
        return exit_.value.code, capsys.readouterr().err

    return run


def prepared(folder):
    root = folder / "octdl" / "dataset_1"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_patients_are_split_by_the_documented_stream(raw):
    command = [sys.executable, *command_line(raw)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=raw, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    stream, expected = np.random.RandomState(42), set()
    for disease in CLASSES:
        train, rest = train_test_split(range(PATIENTS), test_size=0.4, random_state=stream)
        val, test = train_test_split(rest, test_size=0.625, random_state=stream)
        for split, patients in (("train", train), ("val", val), ("test", test)):
            for patient in patients:
                for image in range(2):
                    name = f"{disease.lower()}_{patient}_{image}.jpg"
                    expected.add(f"{split}/{disease}/{name}")
    assert prepared(raw) == expected
    copy = next((raw / "octdl/dataset_1").glob("*/AMD/amd_3_1.jpg"))
    assert copy.read_bytes() == (raw / "OCTDL/AMD/amd_3_1.jpg").read_bytes()

    splits = datasets.load("octdl", root=raw)
    assert splits.class_names == list(CLASSES)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [
        7 * 4 * 2,
        7 * 1 * 2,
        7 * 3 * 2,
    ]
    assert np.bincount(splits.train.labels).tolist() == [4 * 2] * 7


def test_another_seed_gives_another_split(raw, prepare):
    prepare()
    first = prepared(raw)
    (raw / "octdl").rename(raw / "first")
    assert prepare("--seed", "1") == (0, "")
    assert prepared(raw) != first


def test_pad_crop_and_resize(raw, prepare):
    image = Image.new("L", SIZE, 200)
    padded = np.asarray(script.transform(image, True, None, None))
    assert padded.shape == (30, 30)
    assert (padded[5:25] == 200).all()
    assert padded[:5].max() == padded[25:].max() == 0
    ramp = Image.fromarray(np.tile(np.arange(30, dtype=np.uint8), (20, 1)))
    cropped = np.asarray(script.transform(ramp, False, 0.5, None))
    assert cropped.shape == (10, 15)
    assert cropped[0].tolist() == list(range(7, 22))
    resized = script.transform(ramp, False, None, 8)
    assert resized == ramp.resize((8, 8), Image.Resampling.LANCZOS)

    assert prepare("--pad_square", "--crop_ratio", "0.8", "--resize", "12") == (0, "")
    names = prepared(raw)
    assert {Path(name).suffix for name in names} == {".png"}
    with Image.open(raw / "octdl" / "dataset_1" / min(names)) as image:
        assert image.size == (12, 12)


def relabel(folder, change):
    with (folder / "OCTDL_labels.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    write_labels(folder, change(rows))


def test_a_patient_in_several_spellings_is_one(raw, prepare):
    assert prepare() == (0, "")
    before = prepared(raw)
    (raw / "octdl").rename(raw / "before")

    def spelled(rows):
        forms = ("{}", "{}.0", " {} ", "0{}.", "{}.00")
        return [[a, f" {b}", forms[i % 5].format(c), d] for i, (a, b, c, d) in enumerate(rows)]

    relabel(raw, spelled)
    assert prepare() == (0, "")
    assert prepared(raw) == before


def test_an_image_in_two_rows_is_refused(raw, prepare):
    """Under another patient its picture could be in two splits."""
    relabel(raw, lambda rows: [*rows, *([a, b, "99", d] for a, b, _, d in rows[:3])])
    status, stderr = prepare()
    assert status == 2
    assert "lists 3 images more than once, the first 'amd_0_0' in rows 2 and 114" in stderr
    assert stderr.count("\n") == 1
    assert prepared(raw) == set()


def break_image(folder):
    (folder / "OCTDL/RVO/rvo_1_1.jpg").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("harm", "flags", "message"),
    [
        (lambda f: (f / "OCTDL_labels.csv").unlink(), [], "OCTDL_labels.csv does not exist"),
        (lambda f: (f / "OCTDL/NO/no_0_0.jpg").unlink(), [], "no_0_0.jpg does not exist"),
        (break_image, ["--resize", "8"], "rvo_1_1.jpg is not an image"),
        (lambda f: write_labels(f, [], ("file_name", "disease")), [], "no column 'patient_id'"),
        (lambda f: write_labels(f, []), [], "has no rows"),
        (lambda f: write_labels(f, [("a", "XYZ", "1", "")]), [], "'XYZ' is not one of AMD, DME"),
        (lambda f: write_labels(f, [("a", "AMD", "1", "")]), [], "AMD has 1 patients"),
        (lambda f: (f / "octdl/dataset_1").mkdir(parents=True), [], "dataset_1 exists"),
        (lambda f: None, ["--crop_ratio", "1.5"], "--crop_ratio 1.5 is above 1"),
        (lambda f: None, ["--resize", "0"], "--resize: 0 is below 1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(raw, prepare, harm, flags, message):
    harm(raw)
    status, stderr = prepare(*flags)
    assert status == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr
    assert prepared(raw) == set()
    assert not list((raw / "octdl").glob(".*"))


def test_patients_are_read_from_the_labels_file(raw, prepare, caplog):
    """In several spellings, of pictures of which some have been removed since."""

    def spelled(rows):
        return [(a, b, f" {c}.0" if a.endswith("_1") else c, d) for a, b, c, d in rows]

    relabel(raw, spelled)
    assert prepare("--resize", "8") == (0, "")
    logging.getLogger().addHandler(caplog.handler)  # which the script has replaced
    assert datasets.load("octdl", root=raw).train.persons is None
    assert f"{raw / 'octdl/OCTDL_labels.csv'} does not exist, so it is not known" in caplog.text
    (raw / "OCTDL_labels.csv").rename(raw / "octdl/OCTDL_labels.csv")
    next((raw / "octdl").glob("dataset_1/train/AMD/*_1.png")).unlink()
    splits = datasets.load("octdl", root=raw)
    sizes = [len(np.unique(s.persons)) for s in (splits.train, splits.val, splits.test)]
    assert sizes == [7 * 4, 7 * 1, 7 * 3]
    assert len(np.unique(np.concatenate([splits.train.persons, splits.test.persons]))) == 7 * 7
    for split in (splits.train, splits.test):
        names = [path.stem.rsplit("_", 1)[0] for path in split.images.paths]
        pairs = set(zip(names, split.persons.tolist(), strict=True))
        assert len(pairs) == len(set(names)) == len(np.unique(split.persons))
