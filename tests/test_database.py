import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch

from src.core import arrays
from src.core.errors import DataError, MissingFileError
from src.database import SPLITS, Database, EmbeddingSet, read, write


@pytest.fixture(autouse=True, params=["loaded", "mapped"])
def _read_either_way(request, monkeypatch):
    """Small arrays, and what is done with those of more than a gigabyte."""
    if request.param == "mapped":
        monkeypatch.setattr(arrays, "MAPPED", 1)


X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 0, 1])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_round_trip_keeps_arrays_and_meta(tmp_path):
    path = tmp_path / "a.npz"
    write(path, EmbeddingSet(X, Y, {"class_names": ["cat", "dog"]}))
    back = read(path)
    assert np.array_equal(back.embeddings, X)
    assert np.array_equal(back.labels, Y)
    assert back.embeddings.dtype == np.float32
    assert back.labels.dtype == np.int64
    assert back.class_names == ["cat", "dog"]
    assert back.fingerprint == EmbeddingSet(X, Y).fingerprint


def test_what_is_mapped_is_read_again_where_its_pages_were_dropped(tmp_path):
    path = tmp_path / "a.npz"
    for order in ("C", "F"):
        save(path, embeddings=np.asarray(X, order=order), labels=Y)
        data = read(path)
        arrays.drop_pages(data.embeddings)
        assert np.array_equal(data.embeddings, X)
        torch.from_numpy(data.embeddings).add_(1)  # in memory alone
        assert np.array_equal(read(path).embeddings, X)


def test_same_content_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write(tmp_path / name, EmbeddingSet(X, Y, {"b": 1, "a": 2}))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_compressed_only_where_it_pays(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros(1000, dtype=np.int64)
    write(tmp_path / "noise.npz", EmbeddingSet(rng.random((1000, 50), np.float32), labels))
    write(tmp_path / "grey.npz", EmbeddingSet(rng.integers(0, 4, (1000, 50)), labels))
    assert (tmp_path / "noise.npz").stat().st_size > 200_000
    assert (tmp_path / "grey.npz").stat().st_size < 100_000


def test_plain_files_without_meta_and_with_column_labels(tmp_path):
    path = save(tmp_path / "own.npz", embeddings=X.astype(np.float64), labels=Y[:, None] * 1.0)
    data = read(path)
    assert data.meta == {}
    assert data.embeddings.dtype == np.float32
    assert np.array_equal(data.labels, Y)
    assert data.class_names == ["0", "1"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": X}, "no array 'labels'"),
        ({"labels": Y}, "no array 'embeddings'"),
        ({"embeddings": X, "labels": Y[:3]}, "4 embeddings but 3 labels"),
        ({"embeddings": X[:0], "labels": Y[:0]}, "empty"),
        ({"embeddings": X[:, :0], "labels": Y}, "no dimensions"),
        ({"embeddings": X[0], "labels": Y}, r"shaped \(n, D\)"),
        ({"embeddings": X.astype("U3"), "labels": Y}, "real numbers"),
        ({"embeddings": np.where(X == 5, np.nan, X), "labels": Y}, r"\[1, 2\] is nan"),
        ({"embeddings": np.where(X == 5, np.inf, X), "labels": Y}, r"\[1, 2\] is inf"),
        (
            {"embeddings": np.where(X == 5, 1e300, X.astype(float)), "labels": Y},
            "finite in float32",
        ),
        ({"embeddings": X, "labels": Y - 1}, "label -1 is negative"),
        ({"embeddings": X, "labels": Y + 0.5}, "0.5 is not a whole number"),
        ({"embeddings": X, "labels": np.where(Y, np.nan, Y)}, "NaN"),
        ({"embeddings": X, "labels": np.where(Y, 1e300, Y)}, r"1e\+300 is not a whole number"),
        ({"embeddings": X, "labels": np.eye(4)}, "multi-label"),
        ({"embeddings": X, "labels": np.array(list("abab"))}, "whole numbers"),
        ({"embeddings": X, "labels": Y, "meta": np.array("{")}, "meta is not JSON"),
        ({"embeddings": X, "labels": Y, "meta": np.array("[1]")}, "JSON object"),
    ],
)
def test_content_that_breaks_the_format(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        with warnings.catch_warnings(action="error"):
            read(save(tmp_path / "bad.npz", **arrays))


def test_truncated_anywhere_is_an_error(tmp_path):
    path = tmp_path / "a.npz"
    write(path, EmbeddingSet(X, Y))
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read(path)


def test_a_flipped_byte_in_the_arrays_is_an_error(tmp_path):
    path = tmp_path / "a.npz"
    write(path, EmbeddingSet(X, Y))
    content = bytearray(path.read_bytes())
    where = content.index(X.tobytes()[:16])
    content[where + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read(path)


@pytest.mark.parametrize("value", [9, 255])  # another compression, encrypted
def test_any_damaged_byte_is_an_error_or_does_not_matter(tmp_path, value):
    path = tmp_path / "a.npz"
    write(path, EmbeddingSet(X, Y))
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
        try:
            read(path)
        except DataError:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("'descr': '<f4', 'fortran_order': False, 'shape': (10**14,)", "damaged"),
        ("'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000, 3)", "damaged"),
        ("'descr': '<f4', 'fortran_order': False, 'shape': (4, 99999999999999999999)", "damaged"),
        ("'descr': (((", "damaged"),
    ],
)
def test_headers_that_cannot_be(tmp_path, header, message):
    path = save(tmp_path / "a.npz", labels=Y)
    text = f"{{{header}}}\n".encode()
    with zipfile.ZipFile(path, "a") as archive:
        prefix = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        archive.writestr("embeddings.npy", prefix + text)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_member_that_is_not_an_array_is_missing(tmp_path):
    path = save(tmp_path / "a.npz", labels=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("embeddings", "text")
    with pytest.raises(DataError, match="no array 'embeddings'"):
        read(path)


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path):
    objects = save(tmp_path / "o.npz", embeddings=X, labels=np.array([Boom()] * 4, dtype=object))
    with pytest.raises(DataError, match="pickled"):
        read(objects)
    plain = tmp_path / "p.npz"
    plain.write_bytes(pickle.dumps(Boom()))
    with pytest.raises(DataError, match=r"not an \.npz"):
        read(plain)


def write_splits(database, **changes):
    for split in SPLITS:
        database.write(split, changes.get(split, EmbeddingSet(X, Y)))


def test_splits_must_fit_each_other(tmp_path):
    database = Database(tmp_path, "d", "b")
    with pytest.raises(MissingFileError, match=r"create_db.py --dataset d --backbone b"):
        database.read()
    write_splits(database, val=EmbeddingSet(X[:, :2], Y))
    with pytest.raises(DataError, match="2 dimensions but"):
        database.read()
    write_splits(database, test=EmbeddingSet(X, Y + 1))
    with pytest.raises(DataError, match="label 2 does not occur"):
        database.read()
    write_splits(
        database,
        train=EmbeddingSet(X, Y, {"extraction": "one"}),
        val=EmbeddingSet(X, Y, {"extraction": "two"}),
    )
    with pytest.raises(DataError, match=r"run create_db\.py again"):
        database.read()


def test_foreign_meta_is_not_mistaken_for_ours(tmp_path):
    database = Database(tmp_path, "d", "b")
    meta = {"source": "hospital A", "class_names": 2, "backbone": "b", "note": 1}
    write_splits(database, train=EmbeddingSet(X, Y, meta))
    train = database.read().train
    assert train.meta == {"backbone": "b", "note": 1}
    assert train.class_names == ["0", "1"]
    database.write("train", EmbeddingSet(X, Y, meta), "theirs")
    assert database.read_release("theirs", train).meta == {"backbone": "b", "note": 1}


def test_labels_that_nothing_can_be_learnt_from(tmp_path):
    database = Database(tmp_path, "d", "b")
    write_splits(database, test=EmbeddingSet(X, 0 * Y))
    with pytest.raises(DataError, match=r"test\.npz has one class only; AUC needs two"):
        database.read()
    dates = EmbeddingSet(X, Y + 230101)
    write_splits(database, train=dates, val=dates, test=dates)
    with pytest.raises(DataError, match=r"train\.npz: label 230102 is too large for 4 rows"):
        database.read()
    gaps = EmbeddingSet(X, Y * 999)
    write_splits(database, train=gaps, val=gaps, test=gaps)
    assert database.read().train.num_classes == 1000


def test_a_release_must_be_of_the_same_embeddings(tmp_path):
    database = Database(tmp_path, "d", "b")
    write_splits(database)
    train = database.read().train
    with pytest.raises(MissingFileError, match=r"anonymize\.py"):
        database.read_release("ksame-2", train)
    database.write("train", EmbeddingSet(X, Y, {"source": {"train": "other"}}), "ksame-2")
    with pytest.raises(DataError, match=r"made from other embeddings"):
        database.read_release("ksame-2", train)
    source = {"source": {"train": train.fingerprint}}
    database.write("train", EmbeddingSet(X + 1, Y, source), "ksame-2")
    assert np.array_equal(database.read_release("ksame-2", train).embeddings, X + 1)
    assert database.read_release("identity", train) is train


def test_hub_names_are_one_folder(tmp_path):
    database = Database(tmp_path, "d", "hf-hub:org/model")
    assert database.folder == tmp_path / "d" / "hf-hub_org_model"
    assert database.folder_in(tmp_path / "x") == tmp_path / "x" / "d" / "hf-hub_org_model"


@pytest.mark.parametrize("other", ["a_b", "a:b"])
def test_a_folder_that_two_names_share_belongs_to_the_backbone_in_meta(tmp_path, other):
    ours, theirs = Database(tmp_path, "d", "a/b"), Database(tmp_path, "d", other)
    assert ours.folder == theirs.folder
    data = EmbeddingSet(X, Y, {"backbone": "a/b"})
    write_splits(ours, train=data, val=data, test=data)
    ours.write("train", data, "x")
    ours.require_own()
    train = ours.read().train
    assert ours.read_release("x", train).meta["backbone"] == "a/b"
    message = rf"train\.npz holds embeddings by backbone 'a/b', not '{other}'"
    for refused in (theirs.read, theirs.require_own):
        with pytest.raises(DataError, match=message):
            refused()
    with pytest.raises(DataError, match=r"train_x\.npz holds .* 'a/b', not"):
        theirs.read_release("x", train)


def test_a_backbone_is_compared_only_where_meta_names_one(tmp_path):
    database = Database(tmp_path, "d", "a_b")
    write_splits(database, val=EmbeddingSet(X, Y, {"backbone": 7}))
    assert database.read().val.meta == {}
    database.write("train", EmbeddingSet(X, Y), "x")
    assert database.read_release("x", database.read().train).meta == {}
    database.require_own()
    database.path("train").write_bytes(b"PK damaged")  # to be replaced: by whom does not matter
    database.require_own()
    database.write("train", EmbeddingSet(X, Y))
    database.write("test", EmbeddingSet(X, Y, {"backbone": "a:b"}))
    with pytest.raises(DataError, match=r"test\.npz holds embeddings by backbone 'a:b'"):
        database.read()
    with pytest.raises(DataError, match=r"test\.npz holds embeddings by backbone 'a:b'"):
        database.require_own()


def test_nothing_needs_to_exist_where_splits_are_written_first(tmp_path):
    Database(tmp_path, "d", "a_b").require_own()


@pytest.mark.parametrize(
    "facts",
    [
        {"epsilon": 1.0},
        {"delta": 1e-5},
        {"epsilon": "1", "delta": 1e-5},
        {"epsilon": True, "delta": 1e-5},
        {"epsilon": 1.0, "delta": None},
    ],
)
def test_half_a_guarantee_is_none(tmp_path, facts):
    database = Database(tmp_path, "d", "b")
    write_splits(database)
    train = database.read().train
    database.write("train", EmbeddingSet(X, Y, {"facts": {**facts, "rows": 4}}), "x")
    assert "facts" not in database.read_release("x", train).meta


@pytest.mark.parametrize("facts", [{"epsilon": 1, "delta": 1e-5, "steps": 3}, {"groups": 2}])
def test_a_whole_guarantee_and_other_facts_are_kept(tmp_path, facts):
    database = Database(tmp_path, "d", "b")
    write_splits(database)
    database.write("train", EmbeddingSet(X, Y, {"facts": facts}), "x")
    assert database.read_release("x", database.read().train).meta["facts"] == facts


def test_meta_is_json_inside_the_file(tmp_path):
    write(tmp_path / "a.npz", EmbeddingSet(X, Y, {"split": "train"}))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert json.loads(str(archive["meta"])) == {"split": "train", "format": 1}
    assert read(tmp_path / "a.npz").meta == {"split": "train"}


def test_another_format_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", embeddings=X, labels=Y, meta=np.array('{"format": 2}'))
    with pytest.raises(DataError, match=r"a\.npz has format 2, which .* cannot read"):
        read(path)


def test_writing_over_a_link_replaces_its_target(tmp_path):
    database = Database(tmp_path / "database", "d", "b")
    target = tmp_path / "elsewhere" / "rows.npz"
    write(target, EmbeddingSet(X, Y))
    path = database.path("train", "x")
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    assert database.write("train", EmbeddingSet(X + 1, Y), "x") == path
    assert path.is_symlink()
    assert np.array_equal(read(target).embeddings, X + 1)


def test_persons_are_kept_and_are_those_of_all_splits_or_none(database, digits):
    for split in ("train", "val", "test"):
        part = getattr(digits, split)
        known = EmbeddingSet(part.embeddings, part.labels, part.meta, np.arange(len(part)) // 2)
        database.write(split, known)
    np.testing.assert_array_equal(database.read().test.persons, np.arange(360) // 2)
    assert database.read().train.fingerprint == digits.train.fingerprint
    database.write("val", digits.val)
    with pytest.raises(DataError, match="some splits say whose their rows are, others do not"):
        database.read()
