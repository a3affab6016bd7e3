"""create_db.py --persons: whose the images are, and splits by person."""

import numpy as np
import pytest
from PIL import Image

from src.database import SPLITS, Database
from tests.support import call

COUNTS = {"train": 12, "test": 4}


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def eyes(tmp_path):
    """Two images of each of 16 persons, of one class; those of the last four are test."""
    for number in range(16):
        split, label = "train" if number < 12 else "test", ("left", "right")[number % 2]
        for image in range(2):
            name = f"{number:02d}_{'ab'[image]}.png"
            picture(tmp_path / "data/eyes" / split / label / name, 2 * number + image)
    return tmp_path


def paths(root, dataset="eyes"):
    return sorted((root / "data" / dataset).rglob("*.png"))


def listed(root, entries, head="file,person"):
    (root / "who.csv").write_text("\n".join([head, *entries]) + "\n", encoding="utf-8")
    return str(root / "who.csv")


def whole(root):
    folder = root / "data/eyes"
    return [f"{p.relative_to(folder)},Ruth {p.stem[:2]}" for p in paths(root)]


@pytest.fixture
def make(eyes):
    def run(*flags, dataset="eyes", error=None):
        done = call(
            "create_db", "--dataset", dataset, "--backbone", "pixels", "--num_workers", "0",
            "--dataset_root", eyes / "data", "--database_root", eyes / "db", "--quiet", *flags,
        )  # fmt: skip
        run.err = done.err
        if error is not None:
            assert done.status == 2, done.out
            assert done.err.count("\n") == done.err.count("error: ") == 1, done.err
            assert error in done.err
            assert not (eyes / "db").exists()
            return None
        assert done.status == 0, done.err
        return Database(eyes / "db", dataset, "pixels").read()

    return run


def people(splits):
    return [getattr(splits, s).persons for s in SPLITS]


def test_without_persons_nothing_changes(make, eyes):
    splits = make()
    assert people(splits) == [None] * 3
    assert not [key for key in splits.train.meta["facts"]["dataset"] if "persons" in key]
    before = {s: (eyes / f"db/eyes/pixels/{s}.npz").read_bytes() for s in SPLITS}
    alone = [f"{p.stem},{p.stem}" for p in paths(eyes)]
    with_persons = make("--persons", listed(eyes, alone))
    for split in SPLITS:
        assert (getattr(with_persons, split).embeddings == getattr(splits, split).embeddings).all()
    assert sorted(np.concatenate(people(with_persons)).tolist()) == list(range(32))
    make()
    assert {s: (eyes / f"db/eyes/pixels/{s}.npz").read_bytes() for s in SPLITS} == before


@pytest.mark.parametrize(
    "form",
    [
        lambda p: p.relative_to(p.parents[2]),
        lambda p: str(p.relative_to(p.parents[2])).replace("/", "\\"),
        lambda p: p.name,
        lambda p: p.stem,
        lambda p: p.resolve(),
        lambda p: f" ./{p.parent.name}/{p.stem} ",
    ],
)
def test_a_table_of_persons(make, eyes, form):
    entries = [f'"{form(p)}",Ruth {p.stem[:2]}' for p in reversed(paths(eyes))]
    splits = make("--persons", listed(eyes, entries, "\ufeffFile Name,Patient-ID"))
    for part in people(splits):
        assert part.dtype == np.int64
        assert (np.bincount(part)[np.unique(part)] == 2).all()
    sizes = [len(np.unique(part)) for part in people(splits)]
    assert sum(sizes) == len(np.unique(np.concatenate(people(splits)))) == 16
    assert sizes[2] == 4
    facts = splits.train.meta["facts"]["dataset"]
    assert facts["val"] == "held out by person"
    assert facts["persons"] == 16
    assert facts["persons_in_several_splits"] == 0
    assert "persons across splits" not in make.err


def test_persons_are_those_of_the_images(make, eyes):
    splits = make("--persons", listed(eyes, whole(eyes)))
    known = {}
    for path in paths(eyes):
        pixels = np.asarray(Image.open(path)).reshape(-1) / np.float32(255)
        known[pixels.tobytes()] = path.stem[:2]
    pairs = {
        (known[row.tobytes()], int(person))
        for s in SPLITS
        for row, person in zip(
            getattr(splits, s).embeddings, getattr(splits, s).persons, strict=True
        )
    }
    assert len(pairs) == len({name for name, _ in pairs}) == len({p for _, p in pairs}) == 16


def test_numbers_say_nothing_of_ids(make, eyes):
    """Other names in another order give the same bytes."""
    files = []
    for name in (lambda stem: stem[:2], lambda stem: f"{99 - int(stem[:2])} Ö"):
        make("--persons", listed(eyes, [f"{p.stem},{name(p.stem)}" for p in paths(eyes)]))
        files.append([(eyes / f"db/eyes/pixels/{s}.npz").read_bytes() for s in SPLITS])
    assert files[0] == files[1]
    for part in people(make("--persons", listed(eyes, whole(eyes)))):
        first = part[np.sort(np.unique(part, return_index=True)[1])]
        assert (np.diff(first) == 1).all()  # in the order of first appearance
    assert not any(b"Ruth" in p.read_bytes() for p in (eyes / "db").rglob("*.npz"))
    assert "Ruth" not in make.err


def test_one_number_in_several_spellings_is_one_person(make, eyes):
    spelling = {"a": "{}.0", "b": " {:03d}"}
    entries = [f"{p.stem},{spelling[p.stem[-1]].format(int(p.stem[:2]))}" for p in paths(eyes)]
    splits = make("--persons", listed(eyes, entries))
    assert splits.train.meta["facts"]["dataset"]["persons"] == 16


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda e: e[:-3], "who.csv does not say whose 3 of 32 images are, the first "),
        (lambda e: [*e, "x.png,Q", "y.png,Q"],
         "who.csv lists 2 files that are not among the images, the first 'x.png'"),
        (lambda e: [*e, e[0], e[1]], "who.csv lists 2 images again, the first 'test/left/12_a.p"),
        (lambda e: [*e[:-1], e[-1].rpartition(",")[0] + ","], "who.csv: 1 of 32 rows have no pe"),
        (lambda e: [line.rpartition(",")[0] + "," for line in e], "32 of 32 rows have no person"),
        (lambda e: [f"{line},1" for line in e], "who.csv, line 2 has 3 cells, the first line 2"),
        (lambda e: [], "does not say whose 32 of 32 images are"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit(make, eyes, change, error):
    make("--persons", listed(eyes, change(whole(eyes))), error=error)
    assert "Ruth" not in make.err


def test_names_that_several_images_have(make, eyes):
    picture(eyes / "data/eyes/train/right/00_a.png", 99)
    entries = [f"{p.name},Ruth" for p in paths(eyes)]
    make("--persons", listed(eyes, entries), error="lists 2 files that several images could be")
    folder = eyes / "data/eyes"
    entries = [f"{p.relative_to(folder)},{p.stem[:2]}" for p in paths(eyes)]
    assert make("--persons", listed(eyes, entries)).train.persons is not None


def test_heads_of_the_table(make, eyes):
    make("--persons", listed(eyes, [], "image,name"), error="no column 'person' (it has: image, n")
    make("--persons", listed(eyes, [], "file,stem,person,patient"), error="does not say whose")
    make("--persons", listed(eyes, [], "path,stem,person"), error="several columns 'file'")
    make("--persons", str(eyes / "nowhere.csv"), error="nowhere.csv does not exist")


def test_a_folder_per_person(make, eyes):
    for path in paths(eyes):
        (path.parent / path.stem[:2]).mkdir(exist_ok=True)
        path.rename(path.parent / path.stem[:2] / path.name)
    listed(eyes, whole(eyes))
    by_folder = make("--persons", "folder")
    by_table = make("--persons", str(eyes / "who.csv"))
    for split in SPLITS:
        ours, theirs = getattr(by_folder, split), getattr(by_table, split)
        assert (ours.persons == theirs.persons).all()
        assert (ours.embeddings == theirs.embeddings).all()
    assert by_folder.train.meta["facts"] == by_table.train.meta["facts"]


def test_a_folder_per_person_without_splits(make, eyes):
    for path in paths(eyes):
        target = eyes / "data/all" / path.parent.name / path.stem[:2] / "deep" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    splits = make("--persons", "folder", dataset="all")
    whose = [set(part.tolist()) for part in people(splits)]
    assert sum(map(len, whose)) == len(set().union(*whose)) == 16
    assert [len(part) for part in people(splits)] == [20, 4, 8]


def test_images_in_no_folder_of_a_person(make, eyes):
    for path in paths(eyes)[3:]:
        (path.parent / "x").mkdir(exist_ok=True)
        path.rename(path.parent / "x" / path.name)
    make("--persons", "folder", error="--persons folder: 3 of 32 images in ")


def test_persons_in_two_splits_and_splits_by_person(make, eyes):
    entries = [line.replace("Ruth 12", "Ruth 03") for line in whole(eyes)]
    splits = make("--persons", listed(eyes, entries))
    said = "1 of 15 persons are in more than one (2 of 8 rows of test and"
    assert f"persons across splits: {said}" in make.err
    assert "--split person makes the splits by person" in make.err
    splits = make("--persons", str(eyes / "who.csv"), "--split", "person")
    assert "persons across splits" not in make.err
    whose = [set(part.tolist()) for part in people(splits)]
    assert sum(map(len, whose)) == len(set().union(*whose)) == 15
    assert sum(len(getattr(splits, s)) for s in SPLITS) == 32
    facts = splits.train.meta["facts"]["dataset"]
    assert (facts["test"], facts["val"]) == ("held out by person",) * 2
    assert facts["split_seed"] == 12345
    first = (eyes / "db/eyes/pixels/train.npz").read_bytes()
    make("--persons", str(eyes / "who.csv"), "--split", "person")
    assert (eyes / "db/eyes/pixels/train.npz").read_bytes() == first


def table_of_images(eyes, person="person"):
    folder = eyes / "data/eyes"
    rows = [
        f"{p.relative_to(folder)},{p.parent.name},{p.parts[-3]},{p.stem[:2]}" for p in paths(eyes)
    ]
    (folder / "labels.csv").write_text("\n".join([f"file,label,split,{person}", *rows]))


@pytest.mark.parametrize("name", ["person", "Patient ID", "subject"])
def test_a_table_of_images_says_persons(make, eyes, name):
    expected = make("--persons", listed(eyes, whole(eyes)))
    table_of_images(eyes, name)
    splits = make()
    assert splits.train.meta["facts"]["dataset"]["persons"] == 16
    for split in SPLITS:
        assert sorted(np.bincount(getattr(splits, split).persons)) == sorted(
            np.bincount(getattr(expected, split).persons)
        )
    assert "not read" not in make.err
    assert make("--persons", "none").train.persons is None


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--persons", "who.csv"), "--persons who.csv has no effect: "),
        (("--persons", "folder"), "--persons folder has no effect: "),
    ],
)
def test_two_sources_are_one_too_many(make, eyes, flags, error):
    table_of_images(eyes)
    make(*flags, error=error)


def test_a_table_of_images_without_some_persons(make, eyes):
    table_of_images(eyes)
    path = eyes / "data/eyes/labels.csv"
    path.write_text(path.read_text().replace(",00\n", ",\n").replace(",07\n", ",n/a\n"))
    make(error="labels.csv: 4 of 32 rows have no person; all must have one, or none")


@pytest.mark.parametrize(
    ("dataset", "flags", "error"),
    [
        (
            "digits",
            ("--persons", "folder"),
            "--persons folder has no effect: 'digits' does not kn",
        ),
        ("digits", ("--split", "person"), "--split person has no effect: 'digits' does not know"),
        ("eyes", ("--split", "person"), "--split person: nothing says whose the rows of "),
        ("eyes", ("--persons", "dicom"), "--persons dicom: 32 of 32 rows have no person"),
        ("eyes", ("--split", "row"), "invalid choice: 'row'"),
    ],
)
def test_flags_without_effect(make, dataset, flags, error):
    make(*flags, dataset=dataset, error=error)


def test_patients_of_dicom_files(make, eyes):
    pytest.importorskip("pydicom")
    from tests.embedding.datasets.test_dicom import write

    for path in paths(eyes):
        target = eyes / "data/ct" / path.relative_to(eyes / "data/eyes").with_suffix(".dcm")
        write(target, np.asarray(Image.open(path)).astype(np.uint16), PatientID=path.stem[:2])
    splits = make("--persons", "dicom", dataset="ct")
    assert splits.train.meta["facts"]["dataset"]["persons"] == 16
    assert make(dataset="ct").train.persons is None
