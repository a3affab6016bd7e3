"""Results: their names, what is in them, and when one that exists will do."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from src.core.errors import OutputError
from src.core.records import Subject
from src.database import Database, EmbeddingSet, Splits
from src.networks.heads import LinearHead
from src.networks.training import Fit
from src.probing import results
from src.probing.head import Head
from src.probing.metrics import Distance, Scores
from src.probing.settings import HeadSettings

SCORES = Scores(auc=98.76543219, accuracy=90.0, balanced_accuracy=89.5)
DISTANCE = Distance(1.0)
NOTHING = results.Caveats(0, {"val": 0, "test": 0}, None)


def rows(seed):
    embeddings = np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)
    return EmbeddingSet(embeddings, np.array([0, 1] * 3))


SPLITS = Splits(rows(0), rows(1), rows(2))


def trial(release_id="ksame-5", anonymizer="ksame", seed=0, **changes):
    made = results.trial(
        Database("unused", "digits", "pixels"),
        SPLITS,
        Subject(id=release_id, anonymizer=anonymizer, settings={"k": 5}, rows="f00"),
        HeadSettings(),
        seed,
    )
    return replace(made, **changes)


def head():
    return Head(LinearHead(3, 2), torch.zeros(3), torch.ones(3), Fit(7, 4, 0.5, 1.23456))


@pytest.mark.parametrize(
    ("release_id", "anonymizer", "sigma", "name"),
    [
        ("identity", "identity", None, "digits_identity-s0.json"),
        ("ksame-5", "ksame", None, "digits_ksame-5-s0.json"),
        ("cvae-s0", "cvae", None, "digits_cvae-s0.json"),
        ("cvae-s10", "cvae", None, "digits_cvae-s10-s0.json"),
        (
            "cvae-online-var0.5-s0",
            "cvae-online",
            1.0,
            "digits_cvae-online-var0.5-s0_sigma1.json",
        ),
        ("identity", "identity", 0.25, "digits_identity-s0_sigma0.25.json"),
        ("mine", "mine", None, "digits_mine-s0.json"),
        ("mine-s0", "mine-s0", None, "digits_mine-s0-s0.json"),
    ],
)
def test_names_of_results(tmp_path, release_id, anonymizer, sigma, name):
    path = trial(release_id, anonymizer).at(sigma).path(tmp_path)
    assert path == tmp_path / "digits" / "pixels" / name


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["digits_cvae-s0.json", "digits_cvae-s0_sigma1.json"]),
        (
            {"head": "logistic"},
            ["digits_cvae-s0_logistic.json", "digits_cvae-s0_logistic_sigma1.json"],
        ),
        ({"clip": 10}, ["digits_cvae-s0_clip10.json", "digits_cvae-s0_clip10_sigma1.json"]),
        (
            {"head": "logistic", "clip": 2.5},
            [
                "digits_cvae-s0_logistic_clip2.5.json",
                "digits_cvae-s0_logistic_clip2.5_sigma1.json",
            ],
        ),
    ],
)
def test_results_of_other_heads_have_names_of_their_own(tmp_path, settings, names):
    ours = trial("cvae-s0", "cvae", head=HeadSettings(**settings))
    assert [ours.at(sigma).path(tmp_path).name for sigma in (None, 1.0)] == names
    results.write(tmp_path, ours, head()._replace(strength=0.1), SCORES, DISTANCE, NOTHING)
    content = results.read(tmp_path, ours)
    assert content is not None
    assert content["head"] == asdict(HeadSettings(**settings))
    assert content["strength"] == 0.1
    plain = trial("cvae-s0", "cvae")
    assert (results.read(tmp_path, plain) is None) == (plain != ours)


def test_a_result_says_what_it_depends_on_and_what_came_out(tmp_path):
    ours = trial(sigma=0.5)
    found = results.Caveats(5, {"val": 0, "test": 3}, None)
    line = results.write(tmp_path, ours, head(), SCORES, Distance(1.23456789), found)
    path = ours.path(tmp_path)
    assert line == f"{path}  sigma 0.5  AUC 98.77  accuracy 90.00  distance 1.2346"
    content = json.loads(path.read_text())
    assert content.pop("versions").keys() >= {"python", "torch", "numpy"}
    assert len(content.pop("sum")) == 16
    assert content == {
        "format": 1,
        "dataset": "digits",
        "backbone": "pixels",
        "id": "ksame-5",
        "anonymizer": "ksame",
        "settings": {"k": 5},
        "unit": "row",
        "head": asdict(HeadSettings()),
        "seed": 0,
        "sigma": 0.5,
        "inputs": {**SPLITS.fingerprints, "release": "f00"},
        "auc": 98.765432,
        "accuracy": 90.0,
        "balanced_accuracy": 89.5,
        "average_mindistance": 1.234568,
        "extreme_test_rows": 5,
        "copies": {"val": 0, "test": 3},
        "epochs": 7,
        "best_epoch": 4,
        "strength": None,
        "device": "cpu",
        "seconds": 1.235,
    }


def test_a_result_is_read_by_the_trial_that_wrote_it_and_by_no_other(tmp_path):
    ours = trial()
    assert results.read(tmp_path, ours) is None
    results.write(tmp_path, ours, head(), SCORES, DISTANCE, NOTHING)
    content = results.read(tmp_path, ours)
    assert content is not None
    assert content["auc"] == 98.765432
    path = ours.path(tmp_path)
    for change in (
        {"sigma": 1.0},
        {"seed": 1},
        {"head": HeadSettings(num_epochs=7)},
        {"settings": {"k": 2}},
        {"anonymizer": "other"},
        {"inputs": {**ours.inputs, "test": "other"}},
        {"inputs": {**ours.inputs, "release": None}},
        {"backbone": "a:b"},
        {"unit": "person"},
    ):
        other = trial(**change)
        assert asdict(other) != asdict(ours)
        other.path(tmp_path).parent.mkdir(parents=True, exist_ok=True)
        other.path(tmp_path).write_bytes(path.read_bytes())
        assert results.read(tmp_path, other) is None
    assert results.read(tmp_path, ours) == content


def test_clean_features_are_those_without_noise_but_not_the_other_way_round(tmp_path):
    clean = trial()
    results.write(tmp_path, clean, head(), SCORES, DISTANCE, NOTHING)
    content = results.read(tmp_path, clean.at(0.0))
    assert content is not None
    assert (content["auc"], content["sigma"]) == (98.765432, 0.0)
    assert results.read(tmp_path, clean.at(1.0)) is None
    clean.path(tmp_path).unlink()
    results.write(tmp_path, clean.at(0.0), head(), SCORES, DISTANCE, NOTHING)
    assert results.read(tmp_path, clean) is None


def test_numbers_of_persons_are_said_where_they_are_known(tmp_path):
    ours, people = trial(unit="person"), {"train": 9, "val": 2, "test": 4}
    results.write(tmp_path, ours, head(), SCORES, DISTANCE, NOTHING._replace(persons=people))
    content = results.read(tmp_path, ours)
    assert content is not None
    assert (content["unit"], content["persons"]) == ("person", people)
    assert results.read(tmp_path, replace(ours, unit="row")) is None
    assert results.read(tmp_path, replace(ours, unit="row"), but={"unit"}) == content


def test_a_result_that_names_no_unit_is_one_of_rows(tmp_path):
    """Those of earlier versions, which have no caveats either, are still found."""
    ours = trial()
    results.write(tmp_path, ours, head(), SCORES, DISTANCE, NOTHING)
    content = json.loads(ours.path(tmp_path).read_text())
    for key in ("unit", "copies", "sum"):
        del content[key]
    ours.path(tmp_path).write_text(json.dumps(content))
    found = results.read(tmp_path, ours)
    assert found is not None
    assert found["auc"] == 98.765432
    assert results.read(tmp_path, replace(ours, unit="person")) is None


def test_a_distance_that_is_not_known_is_read_as_it_was_written(tmp_path):
    """Without the originals, as for a bundle's decoder, there is no distance to them."""
    ours = trial("bundle-0123-s0", "cvae", sigma=1.0)
    line = results.write(tmp_path, ours, head(), SCORES, None, NOTHING)
    assert line.endswith("distance unknown")
    content = results.read(tmp_path, ours)
    assert content is not None
    assert content["average_mindistance"] is None


@pytest.mark.parametrize("rows", [None, 10_000])
def test_a_distance_of_some_rows_says_of_how_many(tmp_path, rows):
    results.write(tmp_path, trial(), head(), SCORES, Distance(1.23456789, rows), NOTHING)
    content = results.read(tmp_path, trial())
    assert content["average_mindistance"] == 1.234568
    assert content.get("distance_rows") == rows
    assert ("distance_rows" in content) == (rows is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"auc": None},
        {"accuracy": "90"},
        {"balanced_accuracy": float("nan")},
        {"average_mindistance": float("inf")},
        {"average_mindistance": "far"},
        {"seconds": None},
        "auc",
        "average_mindistance",
        "seconds",
    ],
    ids=str,
)
def test_a_result_without_all_its_numbers_is_not_whole(tmp_path, change):
    results.write(tmp_path, trial(), head(), SCORES, DISTANCE, NOTHING)
    path = trial().path(tmp_path)
    content = json.loads(path.read_text())
    assert results.whole(content) is content
    if isinstance(change, str):
        del content[change]
    else:
        content.update(change)
    assert results.whole(content) is None
    path.write_text(json.dumps(content))
    assert results.read(tmp_path, trial()) is None
    assert results.whole(None) is None


def test_the_result_of_another_release_is_not_replaced(tmp_path):
    """A file from elsewhere may have any name: `cvae`, with the seed, is called like ours."""
    ours = trial("cvae-s0", "cvae")
    results.write(tmp_path, ours, head(), SCORES, DISTANCE, NOTHING)
    theirs = trial("cvae", "cvae")
    assert theirs.path(tmp_path) == ours.path(tmp_path)
    with pytest.raises(OutputError, match="is the result of release 'cvae-s0', not of 'cvae'"):
        results.write(tmp_path, theirs, head(), SCORES, DISTANCE, NOTHING)
    assert results.read(tmp_path, ours) is not None
    results.write(
        tmp_path, replace(ours, head=HeadSettings(num_epochs=7)), head(), SCORES, DISTANCE, NOTHING
    )
    ours.path(tmp_path).write_text("{damaged")
    results.write(tmp_path, theirs, head(), SCORES, DISTANCE, NOTHING)


def test_a_link_s_target_is_replaced(tmp_path):
    path = trial().path(tmp_path)
    path.parent.mkdir(parents=True)
    target = tmp_path / "elsewhere.json"
    target.write_text("{}")
    path.symlink_to(target)
    results.write(tmp_path, trial(), head(), SCORES, DISTANCE, NOTHING)
    assert path.is_symlink()
    assert json.loads(target.read_text())["id"] == "ksame-5"


def test_a_file_of_rows_says_what_made_it():
    mine = results.subject("mine", rows(0))
    assert mine == Subject(id="mine", anonymizer="mine", settings={}, rows=rows(0).fingerprint)
    meta = {"anonymizer": "ksame", "settings": {"k": 5}}
    ours = EmbeddingSet(rows(0).embeddings, rows(0).labels, meta)
    subject = results.subject("ksame-5", ours)
    assert (subject.anonymizer, subject.settings) == ("ksame", {"k": 5})
    for unit, meant in (("person", "person"), ("row", "row"), (None, "row"), (7, "row")):
        said = EmbeddingSet(rows(0).embeddings, rows(0).labels, {"unit": unit})
        assert results.subject("mine", said).unit == meant


def test_an_id_that_only_looks_like_an_anonymizer_s():
    elsewhere = results.subject("cvae-s0", rows(0))
    assert elsewhere.stem("d", 0) == "d_cvae-s0-s0"
