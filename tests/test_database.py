import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest

from src.database import Database, EmbeddingSet, data_folder, read, write
from src.errors import DataError, MissingFileError

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
        ("'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000, 3)", "memory"),
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


def test_a_member_that_is_no_array_is_not_there(tmp_path):
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
    for split in ("train", "val", "test"):
        write(database.path(split), changes.get(split, EmbeddingSet(X, Y)))


def test_splits_must_fit_each_other(tmp_path):
    database = Database(tmp_path, "d", "b")
    with pytest.raises(MissingFileError, match=r"create_db.py --dataset d --backbone b"):
        database.splits()
    write_splits(database, val=EmbeddingSet(X[:, :2], Y))
    with pytest.raises(DataError, match="2 dimensions but"):
        database.splits()
    write_splits(database, test=EmbeddingSet(X, Y + 1))
    with pytest.raises(DataError, match="label 2 does not occur"):
        database.splits()
    write_splits(
        database,
        train=EmbeddingSet(X, Y, {"extraction": "one"}),
        val=EmbeddingSet(X, Y, {"extraction": "two"}),
    )
    with pytest.raises(DataError, match=r"run create_db\.py again"):
        database.splits()


def test_foreign_meta_is_not_mistaken_for_ours(tmp_path):
    database = Database(tmp_path, "d", "b")
    meta = {"source": "hospital A", "class_names": 2, "backbone": "b", "note": 1}
    write_splits(database, train=EmbeddingSet(X, Y, meta))
    train = database.splits().train
    assert train.meta == {"backbone": "b", "note": 1}
    assert train.class_names == ["0", "1"]
    write(database.path("train", "theirs"), EmbeddingSet(X, Y, meta))
    assert database.release("theirs", train).meta == {"backbone": "b", "note": 1}


def test_labels_that_nothing_can_be_learnt_from(tmp_path):
    database = Database(tmp_path, "d", "b")
    write_splits(database, test=EmbeddingSet(X, 0 * Y))
    with pytest.raises(DataError, match=r"test\.npz has one class only; AUC needs two"):
        database.splits()
    dates = EmbeddingSet(X, Y + 20230101)
    write_splits(database, train=dates, val=dates, test=dates)
    with pytest.raises(DataError, match=r"train\.npz: label 20230102 is too large for 4 rows"):
        database.splits()
    gaps = EmbeddingSet(X, Y * 999)
    write_splits(database, train=gaps, val=gaps, test=gaps)
    assert database.splits().train.num_classes == 1000


def test_a_release_must_be_of_the_same_embeddings(tmp_path):
    database = Database(tmp_path, "d", "b")
    write_splits(database)
    train = database.splits().train
    with pytest.raises(MissingFileError, match=r"anonymize\.py"):
        database.release("ksame-2", train)
    write(database.path("train", "ksame-2"), EmbeddingSet(X, Y, {"source": {"train": "other"}}))
    with pytest.raises(DataError, match=r"made from other embeddings"):
        database.release("ksame-2", train)
    source = {"source": {"train": train.fingerprint}}
    write(database.path("train", "ksame-2"), EmbeddingSet(X + 1, Y, source))
    assert np.array_equal(database.release("ksame-2", train).embeddings, X + 1)
    assert database.release("identity", train) is train


def test_hub_names_are_one_folder(tmp_path):
    folder = data_folder(tmp_path, "d", "hf-hub:org/model")
    assert folder == tmp_path / "d" / "hf-hub_org_model"


def test_meta_is_json_inside_the_file(tmp_path):
    write(tmp_path / "a.npz", EmbeddingSet(X, Y, {"split": "train"}))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert json.loads(str(archive["meta"])) == {"split": "train"}
