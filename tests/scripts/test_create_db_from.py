"""create_db.py --from: embeddings that exist already, in the formats that people have them in."""

import csv
import json
import sys

import numpy as np
import pytest

from src.database import SPLITS, Database
from tests.support import call, files_below

ROWS, DIM = 60, 5
NUMBERS = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
LABELS = np.array(["naevus", "Melanom ö"])[np.arange(ROWS) % 2]
SAID = np.array(["train"] * 40 + ["valid"] * 8 + ["test"] * 12)
PEOPLE = np.array([f"Anna {i // 2:02d}" for i in range(ROWS)])


def table(path, *, names="feat_{}", delimiter=",", encoding="utf-8", **columns):
    """Write a table with a column per dimension, and others."""
    head = [*(names.format(i) for i in range(DIM)), *columns]
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(head)
        rows = NUMBERS[: len(next(iter(columns.values())))]
        for numbers, *others in zip(rows.tolist(), *columns.values(), strict=True):
            writer.writerow([*map(repr, numbers), *others])
    return path


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Run create_db.py in an empty folder; a failure is one line and leaves nothing."""
    monkeypatch.chdir(tmp_path)

    def run(*flags, dataset="mine", error=None):
        done = call(
            "create_db", "--dataset", dataset, "--backbone", "any/net:v1", "--from", *flags,
            "--database_root", "db", "--quiet",
        )  # fmt: skip
        if error is not None:
            assert done.status == 2, done.out
            assert done.err.splitlines()[-1].startswith("error: ")
            assert done.err.count("error: ") == 1
            assert "Traceback" not in done.err
            assert error in done.err
            assert not (tmp_path / "db").exists()
            return done.err
        assert done.status == 0, done.err
        run.err = done.err
        return Database(tmp_path / "db", dataset, "any/net:v1").read()

    return run


def same(splits, others):
    """Whether two databases hold the same arrays."""
    return all(
        np.array_equal(getattr(getattr(splits, s), name), getattr(getattr(others, s), name))
        for s in SPLITS
        for name in ("embeddings", "labels", "persons")
    )


def test_a_table_becomes_a_database(make, tmp_path):
    table(tmp_path / "scans.csv", label=LABELS, split=SAID, patient_id=PEOPLE)
    splits = make("scans.csv")
    assert [len(getattr(splits, s)) for s in SPLITS] == [40, 8, 12]
    assert splits.train.class_names == ["Melanom ö", "naevus"]
    np.testing.assert_array_equal(splits.train.embeddings, NUMBERS[:40])
    np.testing.assert_array_equal(splits.test.labels, 1 - np.arange(48, 60) % 2)
    assert splits.train.persons.tolist() == (np.arange(40) // 2).tolist()
    assert splits.val.persons.tolist() == [20, 20, 21, 21, 22, 22, 23, 23]
    assert splits.train.persons.dtype == np.int64
    facts = splits.train.meta["facts"]["dataset"]
    assert facts["source"] == "imported"
    assert facts["files"] == ["scans.csv"]
    assert facts["persons"] == 30
    assert splits.train.meta["backbone"] == "any/net:v1"


def test_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "a.csv", label=LABELS, split=SAID)
    flags = ("--from", "a.csv", "--backbone", "x", "--dataset", "d", "--database_root", "db")
    done = call("create_db", *flags)
    assert done.out.splitlines() == [
        "db/d/x/train.npz: 40 rows, 5 dimensions",
        "db/d/x/val.npz: 8 rows, 5 dimensions",
        "db/d/x/test.npz: 12 rows, 5 dimensions",
    ]
    before = files_below(tmp_path / "db")
    assert call("create_db", *flags).status == 0
    assert files_below(tmp_path / "db") == before


def test_tables_as_people_have_them(make, tmp_path):
    """A byte order mark, semicolons and decimal commas, tabs, quotes, UTF-16, order of columns."""
    expected = make(table(tmp_path / "a.csv", label=LABELS, split=SAID))
    plain = (tmp_path / "a.csv").read_text()
    german = plain.replace(",", ";").replace(".", ",")
    for name, text, encoding in (
        ("b.csv", plain, "utf-8-sig"),
        ("c.csv", german, "utf-8"),
        ("d.tsv", plain.replace(",", "\t"), "utf-8"),
        ("e.csv", "\n".join(f'"{x}"' for x in plain.splitlines()).replace(",", '","'), "utf-16"),
        (
            "f.csv",
            plain.replace("label", " LABEL ").replace("\n", "\r\n") + "\r\n,,,,,,\r\n",
            "utf-8",
        ),
    ):
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
        assert same(make(name), expected), name
    shuffled = [5, 3, 0, 4, 6, 1, 2]
    rows = [[line.split(",")[i] for i in shuffled] for line in plain.splitlines()]
    (tmp_path / "g.csv").write_text("\n".join(map(",".join, rows)))
    assert same(make("g.csv"), expected)


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", "<f8", "f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_type_and_order(make, tmp_path, kind, order):
    rows = NUMBERS.astype("<f2").astype(kind, order=order)
    np.save(tmp_path / "emb.npy", rows)
    np.save(tmp_path / "lab.npy", LABELS[:, None])
    np.savez(tmp_path / "b.npz", features=rows, target=LABELS)
    splits = make("emb.npy", "lab.npy")
    assert [len(getattr(splits, s)) for s in SPLITS] == [43, 5, 12]
    found = np.concatenate([getattr(splits, s).embeddings for s in SPLITS])
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    wanted = NUMBERS.astype("f2").astype("f4")
    assert sorted(found.tolist()) == sorted(wanted.tolist())
    assert same(make("b.npz"), splits)


def test_splits_made_here_are_those_of_images(make, tmp_path):
    """The row numbers of scikit-learn's stratified splits, as for folders without splits."""
    from sklearn.model_selection import train_test_split

    splits = make(table(tmp_path / "a.csv", label=LABELS))
    rest, test = train_test_split(
        np.arange(ROWS), test_size=0.2, random_state=12345, stratify=LABELS
    )
    train, val = train_test_split(rest, test_size=0.1, random_state=12345, stratify=LABELS[rest])
    for split, rows in zip(SPLITS, (train, val, test), strict=True):
        np.testing.assert_array_equal(getattr(splits, split).embeddings, NUMBERS[rows])
    facts = splits.train.meta["facts"]["dataset"]
    assert (facts["test"], facts["val"], facts["split_seed"]) == ("held out", "held out", 12345)


def test_splits_in_files_named_after_them(make, tmp_path):
    bounds = {"train": slice(0, 40), "dev": slice(40, 48), "X_test": slice(48, 60)}
    for name, part in bounds.items():
        np.save(tmp_path / f"{name}.npy", NUMBERS[part])
        (tmp_path / f"{name}.txt").write_text("\n".join(LABELS[part]) + "\n")
    expected = make(table(tmp_path / "a.csv", label=LABELS, split=SAID))
    splits = make(*(f"{name}.{kind}" for name in bounds for kind in ("npy", "txt")))
    assert same(splits, expected)
    arrays = {}
    for name, part in {"train": "train", "val": "dev", "test": "X_test"}.items():
        arrays |= {f"X_{name}": NUMBERS[bounds[part]], f"y_{name}": LABELS[bounds[part]]}
    np.savez(tmp_path / "all.npz", **arrays)
    assert same(make("all.npz"), expected)
    assert "not read" not in make.err
    renamed = {name.removeprefix("X_").replace("y_", "labels-"): a for name, a in arrays.items()}
    np.savez(tmp_path / "more.npz", ids=np.arange(7), **renamed)  # train, labels-train, ...
    assert same(make("more.npz"), expected)
    assert "more.npz: columns that are not read: ids" in make.err
    without_val = make("train.npy", "train.txt", "X_test.npy", "X_test.txt")
    assert [len(getattr(without_val, s)) for s in SPLITS] == [36, 4, 12]
    assert without_val.train.meta["facts"]["dataset"]["val"] == "held out"


def test_parquet_with_lists_or_a_column_per_dimension(make, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    expected = make(table(tmp_path / "a.csv", label=LABELS, split=SAID, person=PEOPLE))
    others = {
        "dx": arrow.array(LABELS.tolist()).dictionary_encode(), "fold": SAID.tolist(),
        "who": PEOPLE.tolist(),
    }  # fmt: skip
    flat = arrow.array(NUMBERS.ravel())
    lists = {
        "fixed": arrow.FixedSizeListArray.from_arrays(flat, DIM),
        "list": arrow.array(NUMBERS.tolist()),
        "half": arrow.array(list(NUMBERS.astype(np.float16))),
    }
    for name, column in lists.items():
        parquet.write_table(arrow.table({"feat": column, **others}), tmp_path / f"{name}.parquet")
        splits = make(f"{name}.parquet", "--columns", "label=dx", "person=who")
        if name != "half":
            assert same(splits, expected), name
        assert splits.train.embeddings.dtype == np.float32
    each = {f"f{i}": NUMBERS[:, i] for i in range(DIM)}
    parquet.write_table(arrow.table({**others, **each}), tmp_path / "b.pq", row_group_size=7)
    assert same(make("b.pq", "--columns", "label=dx", "person=who"), expected)


def test_parquet_without_pyarrow(make, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    make("a.parquet", error="needs pyarrow: pip install -r requirements-parquet.txt")


def test_columns_are_named(make, tmp_path):
    expected = make(table(tmp_path / "a.csv", label=LABELS, split=SAID, person=PEOPLE))
    names = {"dx": LABELS, "part": SAID, "id": PEOPLE, "age": ["70"] * ROWS}
    table(tmp_path / "b.csv", names="deep{}", **names)
    said = ["--columns", "label=dx", "split=part", "person=id"]
    assert same(make("b.csv", *said), expected)
    assert "b.csv: columns that are not read: age" in make.err
    assert same(make("b.csv", *said, "embedding=deep"), expected)
    assert same(make("b.csv", *said, "embedding=deep0,deep1,deep2,deep3,deep4"), expected)
    assert make("b.csv", *said, "embedding=*").train.dim == DIM + 1
    assert make("b.csv", *said[:-1]).train.persons is None
    arrays = {"deep": NUMBERS, "dx": LABELS, "part": SAID, "id": PEOPLE}
    np.savez(tmp_path / "b.npz", **arrays)
    assert same(make("b.npz", *said, "embedding=deep"), expected)
    assert make("a.csv", "--columns", "person=").train.persons is None
    (tmp_path / "c.yaml").write_text("columns: [label=dx, split=part, person=id]\n")
    assert same(make("b.csv", "--config", "c.yaml"), expected)


def test_dimensions_are_in_the_order_of_their_numbers(make, tmp_path):
    """f10 comes after f9, wherever its column stands."""
    names = [f"f{i}" for i in (10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9)]
    lines = [",".join([*names, "y"])]
    lines += [",".join([*(name[1:] for name in names), str(i % 2)]) for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert make("a.csv").train.embeddings[0].tolist() == list(range(11))


def test_labels_that_are_numbers(make, tmp_path):
    numbers = np.array([10, 2, 1])[np.arange(ROWS) % 3]
    np.save(tmp_path / "x.npy", NUMBERS)
    np.save(tmp_path / "y.npy", numbers.astype(np.float64))
    splits = make("x.npy", "y.npy")
    assert splits.train.class_names == ["1", "2", "10"]
    table(tmp_path / "a.csv", label=[f"{n}.0" if i % 2 else n for i, n in enumerate(numbers)])
    assert same(make("a.csv"), splits)


def test_classes_are_matched_by_name_between_files(make, tmp_path):
    order = {"train": ["a", "b"], "val": ["b", "a"], "test": ["b", "a"]}
    labels = {"train": [0, 1] * 6, "val": [1, 0], "test": [1, 0, 1]}
    for split, names in order.items():
        rows = NUMBERS[: len(labels[split])] + ord(split[1])
        np.savez(tmp_path / f"{split}.npz", x=rows, y=labels[split], class_names=names)
    splits = make("train.npz", "val.npz", "test.npz")
    assert splits.train.class_names == ["a", "b"]
    assert splits.val.labels.tolist() == [0, 1]
    assert splits.test.labels.tolist() == [0, 1, 0]


def test_files_that_create_db_wrote_are_read_again(make, tmp_path):
    first = make(table(tmp_path / "a.csv", label=LABELS, split=SAID, person=PEOPLE))
    folder = tmp_path / "db/mine/any_net_v1"
    again = make(*(str(folder / f"{split}.npz") for split in SPLITS), dataset="again")
    assert same(again, first)
    assert again.train.class_names == first.train.class_names


def test_classes_that_a_split_lacks_are_said(make, tmp_path):
    labels = LABELS.copy()
    labels[:8] = "rare"
    make(table(tmp_path / "a.csv", label=labels, split=SAID))
    assert "val has no rows of the class 'rare', which train has" in make.err
    assert "test has no rows of the class 'rare', which train has" in make.err


def test_copies_across_splits(make, tmp_path):
    table(tmp_path / "a.csv", label=LABELS, split=SAID)
    text = (tmp_path / "a.csv").read_text().splitlines()
    text[50] = text[1].replace("train", "test")
    (tmp_path / "a.csv").write_text("\n".join(text))
    splits = make("a.csv")
    assert "copies across splits: 1 of 12 rows of test and 0 of 8 of val" in make.err
    assert splits.train.meta["facts"]["dataset"]["copies_in_train"] == 1
    assert len(make("a.csv", "--drop_copies").train) == 39


def test_persons_of_two_splits_and_splits_by_person(make, tmp_path):
    people = PEOPLE.copy()
    people[[50, 51, 41]] = people[3]
    table(tmp_path / "a.csv", label=LABELS, split=SAID, person=people)
    splits = make("a.csv")
    assert (
        "persons across splits: 1 of 29 persons are in more than one (2 of 12 rows of test and 1 "
        "of 8 rows of val are of persons who are in train)"
    ) in make.err
    assert "--split person" in make.err
    assert splits.train.meta["facts"]["dataset"]["persons_in_several_splits"] == 1
    splits = make("a.csv", "--split", "person")
    assert "persons across" not in make.err
    whose = [set(getattr(splits, s).persons.tolist()) for s in SPLITS]
    assert sum(map(len, whose)) == len(set().union(*whose)) == 29
    assert sum(len(getattr(splits, s)) for s in SPLITS) == ROWS
    assert splits.train.meta["facts"]["dataset"]["test"] == "held out by person"


def test_ids_leave_no_trace(make, tmp_path):
    """Other ids for the same people give the same bytes; and the broken version does not."""
    table(tmp_path / "a.csv", label=LABELS, split=SAID, person=PEOPLE)
    make("a.csv")
    first = {p.name: p.read_bytes() for p in (tmp_path / "db").rglob("*.npz")}
    assert not any(b"Anna" in content for content in first.values())
    renamed = {name: f"{99 - i} Zoe" for i, name in enumerate(dict.fromkeys(PEOPLE))}
    table(tmp_path / "a.csv", label=LABELS, split=SAID, person=[renamed[p] for p in PEOPLE])
    make("a.csv")
    assert {p.name: p.read_bytes() for p in (tmp_path / "db").rglob("*.npz")} == first
    by_rank = [
        np.unique(p, return_inverse=True)[1] for p in (PEOPLE, [renamed[p] for p in PEOPLE])
    ]
    assert (by_rank[0] != by_rank[1]).any()


def test_nothing_of_the_place_is_recorded(make, tmp_path):
    (tmp_path / "secret").mkdir()
    splits = make(str(table(tmp_path / "secret/a.csv", label=LABELS).resolve()))
    text = json.dumps(splits.train.meta)
    assert "secret" not in text
    assert "a.csv" in text


def harmed(tmp_path, line, change, name="a.csv"):
    """A table in which one line is changed; the header is line 1."""
    table(tmp_path / name, label=LABELS, split=SAID)
    text = (tmp_path / name).read_text().splitlines()
    text[line - 1] = change(text[line - 1])
    (tmp_path / name).write_text("\n".join(text))


def cell(text):
    return lambda line: text + line[line.index(",") :]


@pytest.mark.parametrize(
    ("line", "change", "error"),
    [
        (9, cell("nan"), "a.csv, line 9: column 'feat_0' is nan; all must be finite"),
        (9, cell("-inf"), "a.csv, line 9: column 'feat_0' is -inf; all must be finite"),
        (9, cell("4e38"), "a.csv, line 9: column 'feat_0' is 4e38; all must be finite in float32"),
        (9, cell(""), "a.csv, line 9: column 'feat_0' is empty"),
        (9, cell("Anna"), "a.csv, line 9: column 'feat_0' is not a number"),
        (9, cell("1_000"), "a.csv, line 9: column 'feat_0' is not a number"),
        (9, lambda x: f"{x},1", "a.csv, line 9 has 8 cells, the first line 7"),
        (9, lambda x: x.partition(",")[2], "a.csv, line 9 has 6 cells, the first line 7"),
        (3, lambda x: x.replace("Melanom ö", ""), "a.csv, line 3: there is no label"),
        (3, lambda x: x.replace("Melanom ö", "nan"), "a.csv, line 3: there is no label"),
        (3, lambda x: x.replace("Melanom ö", "0.5"), "a.csv, line 3: label 0.5 is a fraction"),
        (9, lambda x: x.replace("train", "7"), "a.csv, line 9: '7' is not a split"),
        (55, lambda x: x.replace("naevus", "wart").replace("Melanom ö", "wart"),
         "a.csv, line 55: class 'wart' has no rows in train (it has: Melanom ö, naevus)"),
        (1, lambda x: x.replace("feat_3", "feat_9"), "not complete: number 3 is missing"),
        (1, lambda x: x.replace("feat_3", "feat_02"), "number of column 'feat_02' occurs twice"),
        (1, lambda x: x.replace("label", "what"), "a.csv has no labels; say where: --columns"),
        (1, lambda x: x.replace("feat_4", "class"), "'class' and 'label', each of which could be"),
        (1, cell("0.5"), "a.csv: the first line has numbers; it must name the columns"),
        (1, lambda x: x.replace("feat", "a").replace("a_3", "b_0").replace("a_4", "b_1"),
         "a.csv: the embedding could be 'a_0' or 'b_0'; say which"),
        (9, lambda x: '"' + x, "a.csv is not a readable CSV file"),
    ],
)  # fmt: skip
def test_a_table_is_understood_or_refused(make, tmp_path, line, change, error):
    harmed(tmp_path, line, change)
    make("a.csv", error=error)


def test_points_and_commas_are_not_mixed(make, tmp_path):
    table(tmp_path / "a.csv", label=LABELS)
    lines = (tmp_path / "a.csv").read_text().replace(",", ";").splitlines()
    lines[20] = lines[20].replace(".", ",")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    make("a.csv", error="a.csv, line 21: numbers have decimal points and commas")


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"x": np.array([NUMBERS, None], object), "y": LABELS}, "holds pickled objects"),
        ({"x": NUMBERS, "y": np.array(list(LABELS), object)}, "holds pickled objects"),
        ({"x": NUMBERS, "y": LABELS[:-1]}, "has 60 embeddings but 59 values in 'y'"),
        (
            {"x": NUMBERS, "y": np.eye(2)[np.arange(ROWS) % 2]},
            "'y' must be numbers or text shaped",
        ),
        ({"x": NUMBERS + 1j, "y": LABELS}, "embeddings must be real numbers"),
        ({"x": NUMBERS * np.float64(1e39), "y": LABELS}, "all must be finite in float32"),
        ({"x": NUMBERS, "y": np.arange(ROWS) % 3, "class_names": ["a", "b"]}, "names 2 classes"),
        ({"x": NUMBERS, "y": np.where(np.arange(ROWS) == 7, np.nan, 1.0)}, "row 7: there is no l"),
        ({"a": NUMBERS, "b": LABELS}, "does not say what is embedding"),
        ({"x": NUMBERS, "embedding": NUMBERS, "y": LABELS}, "the embedding could be 'x' or 'emb"),
    ],
)
def test_an_archive_is_understood_or_refused(make, tmp_path, arrays, error):
    np.savez(tmp_path / "a.npz", **arrays)
    make("a.npz", error=error)


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ([*NUMBERS[:-1].tolist(), [1.0]], "a.parquet, row 59: column 'x' holds 1 numbers"),
        ([*NUMBERS[:-1].tolist(), None], "a.parquet, row 59: column 'x' is empty"),
        ([*NUMBERS[:-1].tolist(), [None] * DIM], "a.parquet, row 59: column 'x' has a gap"),
        ([*NUMBERS[:-1].tolist(), [np.nan] * DIM], "a.parquet, row 59: column 'x' is nan, infin"),
        ([["a"]] * ROWS, "a.parquet: column 'x' holds list<element: string>, not numbers"),
    ],
)
def test_a_parquet_file_is_understood_or_refused(make, tmp_path, column, error):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    content = arrow.table({"x": column, "y": LABELS.tolist()})
    parquet.write_table(content, tmp_path / "a.parquet")
    make("a.parquet", error=error)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("x.npy",), "--from x.npy must be followed by the file of its labels"),
        (("y.npy", "x.npy"), "y.npy is shaped (60,); embeddings, shaped (n, D), come first"),
        (("x.npy", "short.txt"), "x.npy has 60 rows, short.txt has 59 labels"),
        (
            ("x.npy", "y.npy", "--columns", "label=y"),
            "--columns has no effect: no file has column",
        ),
        (("object.npy", "y.npy"), "object.npy holds pickled objects, which are never loaded"),
        (("text.npy", "y.npy"), "text.npy is not an .npy file"),
        (("text.npz",), "text.npz is not an .npz file"),
        (("nowhere.csv",), "nowhere.csv does not exist"),
        (("a.xlsx",), "--from a.xlsx: a file must end in one of .csv, .tsv, .npy, .npz, .parquet"),
        (("a.csv", "./a.csv"), "--from names a file twice"),
        (("a.csv", "test.csv"), "a.csv says nothing of splits, but other files do"),
        (("train.csv",), "train.csv has no rows of the split test"),
        (("train.csv", "b_test.csv"), "b_test.csv has 3 dimensions, train.csv has 5"),
        (("train.csv", "p_test.csv"), "p_test.csv says whose its rows are, train.csv does not"),
        (
            ("train.csv", "n_test.csv"),
            "n_test.csv has the column 'v0' where train.csv has 'feat_0",
        ),
        (("a.csv", "--weights", "w.pth"), "--weights has no effect with --from"),
        (("a.csv", "--image_size", "32"), "--image_size has no effect with --from"),
        (("a.csv", "--window", "0", "9"), "--window has no effect with --from"),
        (("a.csv", "--precision", "bf16"), "--precision has no effect with --from"),
        (
            ("a.csv", "--persons", "p.csv"),
            "--persons has no effect with --from: there --columns p",
        ),
        (("a.csv", "--split", "person"), "--split person: nothing says whose the rows of a.csv"),
        (
            ("a.csv", "--columns", "labelz=y"),
            "unknown role in --columns 'labelz'; did you mean 'la",
        ),
        (("a.csv", "--columns", "label=lbel"), "has no column 'lbel'; did you mean 'label'?"),
        (("a.csv", "--columns", "label"), "--columns label: it must be ROLE=NAME"),
        (("a.csv", "--columns", "label=label", "label=x"), "--columns: label is given twice"),
        (("a.csv", "--columns", "label="), "--columns label=: it needs the name of a column"),
        (("a.csv", "--columns", "person=label"), "one column of a.csv cannot be two things"),
        (("one.csv",), "train has one class only, 'x'; two are needed"),
        (("whose.csv",), "whose.csv: 3 of 60 rows have no person; all must have one, or none"),
        (("few.csv",), "few.csv has no splits, and 4 rows of 2 classes are too few"),
    ],
)
def test_what_does_not_fit_is_one_line(make, tmp_path, flags, error):
    np.save(tmp_path / "x.npy", NUMBERS)
    np.save(tmp_path / "y.npy", np.arange(ROWS) % 2)
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    for name in ("text.npy", "text.npz"):
        (tmp_path / name).write_text("<html>not found</html>")
    (tmp_path / "short.txt").write_text("\n".join(LABELS[1:]))
    for name in ("a", "train", "test"):
        table(tmp_path / f"{name}.csv", label=LABELS)
    (tmp_path / "b_test.csv").write_text("f0,f1,f2,label\n1,2,3,naevus\n")
    table(tmp_path / "p_test.csv", label=LABELS, person=PEOPLE)
    table(tmp_path / "n_test.csv", label=LABELS, names="v{}")
    table(tmp_path / "one.csv", label=["x"] * ROWS)
    table(tmp_path / "whose.csv", label=LABELS, person=["", "NaN", "NA", *PEOPLE[3:]])
    table(tmp_path / "few.csv", label=["a", "b", "a", "b"])
    make(*flags, error=error)


def test_columns_without_from(tmp_path):
    done = call("create_db", "--columns", "label=x", "--database_root", tmp_path / "db")
    assert (done.status, done.err) == (2, "error: --columns has no effect without --from\n")


def test_the_database_serves_the_next_steps(make, tmp_path):
    make(table(tmp_path / "a.csv", label=LABELS, split=SAID))
    where = ("--dataset", "mine", "--backbone", "any/net:v1", "--database_root", "db")
    done = call("anonymize", *where, "--anonymizer", "ksame", "--k", "5")
    assert done.status == 0, done.err
    done = call("probing", *where, "--anonymizer", "ksame", "--k", "5", "-e", "1")
    assert done.status == 0, done.err
