"""Heads on a bundle's rows: classes by name, the same way of embedding, results of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from src.bundle import contents, receiving
from src.core.errors import DataError
from src.database import Database, EmbeddingSet, read, write
from tests.bundle.support import recompose, with_rows
from tests.support import call, files_below

NAMES = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PLACE = [
    "--dataset", "digits", "--backbone", "pixels", "--device", "cpu", "--database_root",
    "database", "-e", 20, "--seed", 3,
]  # fmt: skip


@pytest.fixture
def named(partner, home):
    """At the partner's: a k-Same bundle with names of classes, and val and test with them."""
    away = home.with_name("away")  # where `partner` has put the originals
    shutil.copytree(away / "ksame", partner / "ksame")
    with_rows(partner / "ksame", class_names=NAMES)
    recompose(partner / "ksame")
    rename(partner, NAMES)
    return partner


def rename(partner, names, order=None, **meta):
    """Other names, in another order, for the partner's classes."""
    for split in ("val", "test"):
        path = partner / "database" / "digits" / "pixels" / f"{split}.npz"
        data = read(path)
        labels = data.labels if order is None else np.asarray(order)[data.labels]
        write(
            path,
            EmbeddingSet(data.embeddings, labels, {**data.meta, "class_names": names, **meta}),
        )


def probe(*flags, script="probing"):
    return call(script, *PLACE, "--output_root", "logs", "--bundle", "ksame", *flags)


def only(partner, pattern):
    (path,) = partner.glob(f"logs/digits/pixels/{pattern}")
    return json.loads(path.read_text())


def test_a_partner_trains_on_a_bundle_without_train(named):
    done = probe()
    assert done.status == 0, done.err
    assert "distance unknown" in done.out
    rows = read(named / "ksame" / "train.npz")
    name = f"digits_bundle-ksame-5-{rows.fingerprint[:8]}-s3.json"
    content = only(named, name)
    assert content["average_mindistance"] is None
    assert content["id"] == f"bundle-ksame-5-{rows.fingerprint[:8]}"
    assert content["inputs"]["release"] == rows.fingerprint
    assert content["anonymizer"] == "ksame"
    assert content["auc"] > 90


def test_noise_too(named):
    done = probe("--sigma", 0, 1, script="probing_noise")
    assert done.status == 0, done.err
    first, second = (only(named, f"digits_bundle-ksame-5-*-s3_sigma{s}.json") for s in (0, 1))
    assert first["auc"] > second["auc"]
    assert first["average_mindistance"] is None


def test_another_order_of_the_classes_gives_the_same_result(named):
    assert probe().status == 0
    before = only(named, "*.json")
    order = np.random.default_rng(0).permutation(10)
    names = [NAMES[np.flatnonzero(order == i)[0]] for i in range(10)]
    rename(named, names, order)
    done = probe()
    assert done.status == 0, done.err
    assert "matched by name" in done.err
    after = only(named, "*.json")
    assert after["auc"] == before["auc"]
    assert after["accuracy"] == before["accuracy"]


def test_classes_by_number_would_mislead(named, monkeypatch):
    """Without the matching, the result above is rubbish and nobody notices."""
    rename(named, NAMES[1:] + NAMES[:1], (np.arange(10) - 1) % 10)
    assert probe().status == 0
    right = only(named, "*.json")["accuracy"]
    monkeypatch.setattr(receiving, "_renumbered", lambda bundle, path, data: data)
    assert probe().status == 0
    assert only(named, "*.json")["accuracy"] < right - 50


def test_letters_that_look_the_same_are(named):
    rename(named, [" nought ", *NAMES[1:]])
    assert probe().status == 0


def refused(*flags):
    before = files_below_logs()
    done = probe(*flags)
    assert done.status == 2, done.out
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert files_below_logs() == before
    return done.err


def files_below_logs():
    return files_below(Path("logs")) if Path("logs").exists() else {}


def test_a_class_that_the_bundle_lacks_is_refused(named):
    rename(named, ["nougth", *NAMES[1:]])
    message = refused()
    assert "has rows of classes that the bundle has no rows of" in message
    assert "nougth (it has: nought, one, two" in message
    assert "did you mean 'nought'?" in message


def test_a_class_without_a_row_in_the_bundle_is_lacking_too(named):
    bundle = contents.read(named / "ksame")
    bundle.sheet["classes"][4]["rows"] = 0
    database = Database(named / "database", "digits", "pixels")
    with pytest.raises(DataError, match=r"no rows of, which no head .*: four \(it has: nought"):
        receiving.splits(bundle, named / "ksame", database)


def test_classes_without_names_are_refused_beside_names(named):
    rename(named, None)
    assert "does not name its classes, so they cannot be matched" in refused()


def test_two_classes_of_one_name(named):
    rename(named, ["one", *NAMES[1:]])
    assert "val.npz has two classes named 'one': which is which?" in refused()
    rename(named, NAMES)
    with_rows(named / "ksame", class_names=["one", *NAMES[1:]])
    recompose(named / "ksame")
    assert "has two classes named 'one': which is which?" in refused()


def test_classes_that_nothing_is_tested_of_are_said(named):
    path = named / "database" / "digits" / "pixels" / "test.npz"
    data = read(path)
    kept = np.flatnonzero(data.labels < 7)
    write(path, EmbeddingSet(data.embeddings[kept], data.labels[kept], data.meta))
    done = probe()
    assert done.status == 0, done.err
    assert "no test row of 3 of the bundle's classes" in done.err
    assert "seven, eight, nine" in done.err


def test_one_class_alone_has_no_auc(named):
    path = named / "database" / "digits" / "pixels" / "test.npz"
    data = read(path)
    kept = np.flatnonzero(data.labels == 7)
    write(path, EmbeddingSet(data.embeddings[kept], data.labels[kept], data.meta))
    assert "has one class only; AUC needs two" in refused()


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"precision": "bf16"}, "precision bf16 instead of fp32"),
        ({"facts": {"backbone": {"input_size": [3, 8, 8]}}},
         "input_size [3, 8, 8] instead of [1, 8, 8]"),
        ({"facts": {"backbone": {"weights": "ffff"}}}, "weights ffff instead of abcd"),
        ({"facts": {"backbone": {"transform": {"mean": [0.5]}}}},
         "transform mean [0.5] instead of [0.0]"),
    ],
)  # fmt: skip
def test_another_way_of_embedding_is_refused_and_named(named, meta, message):
    way = {"precision": "fp32", "input_size": [1, 8, 8], "weights": "abcd",
           "transform": {"mean": [0.0], "std": [1.0]}}  # fmt: skip
    recompose(named / "ksame", preprocessing=way)
    rename(named, NAMES, **meta)
    said = refused()
    assert message in said
    assert "create_db.py --like ksame" in said


def test_what_only_one_side_says_is_a_warning(named):
    recompose(named / "ksame", preprocessing={"weights": "abcd"})
    done = probe()
    assert done.status == 0
    assert "do not both say how images were embedded" in done.err
    assert "weights" in done.err


def test_another_backbone_is_refused(named):
    for split in ("val", "test"):
        path = named / "database" / "digits" / "pixels" / f"{split}.npz"
        data = read(path)
        other = EmbeddingSet(data.embeddings, data.labels, {**data.meta, "backbone": "resnet18"})
        write(named / "database" / "digits" / "resnet18" / f"{split}.npz", other)
    assert "rows are by backbone 'pixels', not 'resnet18'" in refused("--backbone", "resnet18")


def test_flags_beside_a_bundle(named):
    assert "--k 3 has no effect: the bundle" in refused("--k", 3)
    assert "not allowed with argument" in refused("--release", "mine")
    assert "nowhere is not a folder" in call("probing", *PLACE, "--bundle", "nowhere").err


def test_val_or_test_that_do_not_exist(named):
    (named / "database" / "digits" / "pixels" / "val.npz").unlink()
    assert "val.npz does not exist; make it with: python create_db.py" in refused()


def test_a_decoder_is_matched_in_the_same_way(named):
    for name in ("val", "test"):
        path = named / "database" / "digits" / "pixels" / f"{name}.npz"
        data = read(path)
        write(
            path, EmbeddingSet(data.embeddings, data.labels, {**data.meta, "class_names": NAMES})
        )
    online = [*PLACE, "--output_root", "logs", "--decoder", "dp", "--sigma", 0]
    done = call("probing_noise_cvae", *online)
    assert done.status == 2
    assert "has rows of classes that the bundle has no rows of" in done.err
    rename(named, [str(i) for i in range(10)])
    assert call("probing_noise_cvae", *online).status == 0


def test_ids_of_two_bundles_differ(home):
    ids = {receiving.release_id(contents.read(home / name)) for name in ("ksame", "dp", "cvae")}
    assert len(ids) == 3
    assert not ids & {contents.subject(contents.read(home / "dp")).id}


def test_a_train_split_of_the_partner_is_not_read(named, digits):
    database = Database(named / "database", "digits", "pixels")
    database.path("train").write_bytes(b"rubbish")
    assert probe().status == 0
