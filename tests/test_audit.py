"""The audit as a whole: at the command line, on shifted and small test splits, and in words."""

import dataclasses
import json
import logging
import os

import numpy as np
import pytest
import torch
from conftest import call, files_below

from src import anonymizers, progress
from src.anonymizers import ANONYMIZERS, Resources
from src.audit import results, statistics
from src.audit.measures import MEASURES
from src.audit.results import AuditSettings
from src.audit.run import audit
from src.audit.statistics import Estimate
from src.audit.verdicts import verdict
from src.database import EmbeddingSet, Splits
from src.errors import InputError

CPU = Resources(torch.device("cpu"))
QUICK = AuditSettings(shadows=4, bootstrap=200)
AUDIT = "src.audit.__main__"
ATTACKS = [key for key, row in MEASURES.items() if row.useless is not None]


def blobs(n, seed, shift=0.0, classes=2, dim=8, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    x = spread * rng.normal(size=(n, dim)) + 2 * labels[:, None] + shift
    return EmbeddingSet(x.astype(np.float32), labels)


def splits(test, train=300):
    return Splits(blobs(train, 0), blobs(60, 1), test)


def audited(data, name="identity", released=None, options=QUICK, seed=0, **settings):
    entry = anonymizers.get(name)
    settings = entry.parse(settings)
    if released is None:
        released = anonymizers.anonymize(
            entry, settings, data.train, data.val, seed=seed, resources=CPU
        )
    return audit(data, released, entry, settings, seed=seed, options=options, resources=CPU)


# At the command line


def test_identity_on_digits_is_the_ceiling_of_every_attack(roots, tmp_path):
    figure = tmp_path / "figures" / "roc.pdf"
    done = call(
        AUDIT, *roots, "--anonymizer", "Identity", "--seed", 3, "--output_root", tmp_path / "logs",
        "--shadows", 4, "--bootstrap", 100, "--figure", figure,
    )  # fmt: skip
    assert done.status == 0, done.err
    path = tmp_path / "logs/digits/pixels/digits_identity-s3_audit.json"
    content = json.loads(path.read_text())
    assert content["sizes"]["members"] == 1293
    assert content["sizes"]["non_members"] + content["sizes"]["references"] == 360
    assert content["audit"] == {"shadows": 4, "bootstrap": 100}
    for key in ATTACKS:
        row = content["figures"][key]
        if key.endswith("tpr_at_0.001"):  # 240 non-members cannot resolve it: not 0
            assert row["value"]["value"] is row["ceiling"]["value"] is None
            assert row["verdict"].startswith("n/a: takes 1,000 non-members")
        else:
            assert row["value"]["value"] > 0.99
            assert row["value"]["value"] == row["ceiling"]["value"] > row["chance"]["high"]
            said = "as much as from the training rows" if MEASURES[key].proof else "near: 100.0%"
            assert said in row["verdict"]
    assert content["figures"]["coverage"]["value"]["value"] == 1
    assert figure.read_bytes().startswith(b"%PDF")
    assert done.out.splitlines()[-2:] == [str(path), str(figure)]
    assert done.out.count("n/a: takes") == 3


def test_audits_of_the_same_seed_are_the_same_and_are_found_again(roots, tmp_path, digits):
    folder = tmp_path / "logs"
    flags = [*roots, "--anonymizer", "gaussian", "--seed", 1, "--output_root", folder]
    assert call("anonymize", *roots, "--anonymizer", "gaussian", "--seed", 1).status == 0
    path = results.audit_path(folder, "digits", "pixels", "gaussian-s1", 1)
    contents = []
    for _ in range(2):
        assert call(AUDIT, *flags, "--shadows", 2, "--bootstrap", 50).status == 0
        contents.append(json.loads(path.read_text()))
        contents[-1].pop("seconds")
    assert contents[0] == contents[1]
    entry = anonymizers.get("gaussian")
    released = anonymizers.anonymize(
        entry, entry.parse({}), digits.train, digits.val, seed=1, resources=CPU
    )
    made_from = results.identity(
        digits, released, entry, entry.parse({}), seed=1,
        audit=AuditSettings(shadows=2, bootstrap=50),
    )  # fmt: skip
    assert results.read(path, made_from)["figures"] == contents[0]["figures"]
    assert results.read(path, {"seed": 2}) is None
    path.write_text(path.read_text().replace('"shadows": 2', '"shadows": 3'))
    assert results.read(path, {"seed": 1}) is None  # no longer what its fingerprint says


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--anonymizer", "kSAME", "--k", 5], "train_ksame-5.npz does not exist"),
        (["--anonymizer", "cvae-online"], "cvae-online"),
        (["--anonymizer", "identity", "--shadows", 1], "--shadows 1"),
        (["--anonymizer", "identity", "--bootstrap", 0], "--bootstrap 0"),
        (["--anonymizer", "identity", "--figure", "roc.doc"], "roc.doc"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(roots, tmp_path, flags, said):
    before = files_below(tmp_path)
    done = call(AUDIT, *roots, "--output_root", tmp_path / "logs", *flags)
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == before


# The rows


def test_every_offline_anonymizer_can_be_audited():
    pytest.importorskip("opacus")
    quick = {"k": 2, "epsilon": 8.0, "num_epochs": 2, "epochs": 2, "path_steps": 2}
    data = splits(blobs(60, 2), train=80)
    for name, entry in ANONYMIZERS.items():
        if entry.online:
            continue
        fields = {field.name for field in dataclasses.fields(entry.settings)}
        settings = {key: value for key, value in quick.items() if key in fields}
        report = audited(data, name, options=AuditSettings(shadows=2, bootstrap=10), **settings)
        assert report.rows["shadow_auc"].value.value is not None, name


def test_validation_rows_take_no_part():
    data = splits(blobs(120, 2))
    other = dataclasses.replace(data, val=blobs(60, 9, shift=5.0))
    assert audited(data).content() == audited(other).content()


def test_copies_of_training_rows_are_no_non_members():
    data = splits(blobs(120, 2))
    copied = EmbeddingSet(
        np.concatenate((data.test.embeddings, data.train.embeddings[:30])),
        np.concatenate((data.test.labels, data.train.labels[:30])),
    )
    report = audited(dataclasses.replace(data, test=copied))
    assert report.sizes["non_members"] == 120
    assert "30 test rows left out" in report.notes[0]
    assert report.rows["nearest_auc"].value.value == 1
    with pytest.raises(InputError, match="has 0 rows that are no copies"):
        audited(dataclasses.replace(data, test=data.train))


@pytest.mark.parametrize(("rows", "references"), [(297, 0), (300, 100)])
def test_a_test_split_too_small_for_references_leaves_the_calibrated_attack_out(rows, references):
    report = audited(splits(blobs(rows, 2)), options=AuditSettings(shadows=0, bootstrap=10))
    assert report.sizes["references"] == references
    assert report.sizes["non_members"] == rows - references
    assert ("calibrated_auc" in report.rows) == bool(references)
    assert any("calibrated attack left out" in note for note in report.notes) != bool(references)
    assert "shadow_auc" not in report.rows


def test_a_refit_that_fails_leaves_the_shadow_attack_out_and_says_so():
    report = audited(splits(blobs(20, 2)), "ksame", k=200)  # half of the 320 rows are 160
    assert "shadow attack left out" in " ".join(report.notes)
    assert "--k 200 is larger than the 160 rows" in " ".join(report.notes)
    assert "shadow_auc" not in report.rows


def test_what_ksame_promises_is_checked():
    data = splits(blobs(120, 2))
    assert "promise kept" in audited(data, "ksame", k=3).notes[-1]
    broken = audited(data, "ksame", released=data.train, k=3)
    assert "promise BROKEN" in broken.notes[-1]
    assert "rarest one 1 times" in broken.notes[-1]


def test_a_privacy_guarantee_is_held_against_the_attacks():
    data = splits(blobs(120, 2))
    promised = dataclasses.replace(data.train, meta={"facts": {"epsilon": 1.0, "delta": 1e-5}})
    report = audited(data, released=promised)
    assert report.guarantee == (1.0, 1e-5)
    assert "promise BROKEN" in report.notes[-2]
    assert "2.7% of members at 1% FPR" in report.notes[-2]
    assert "promise not measured" in report.notes[-1]  # 0.1 % FPR cannot be resolved
    harmless = dataclasses.replace(blobs(300, 5), meta=promised.meta)
    assert "promise not contradicted" in audited(data, released=harmless).notes[-2]
    shifted_data = splits(blobs(120, 2, shift=1.0))
    for released in (promised, harmless):
        for note in audited(shifted_data, released=released).notes[-2:]:
            assert "promise cannot be judged, as train and test differ" in note


def test_silence_is_undone_after_an_error(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    with pytest.raises(InputError), progress.silenced():
        assert os.environ["TQDM_DISABLE"] == "1"
        assert not logging.getLogger("src").isEnabledFor(logging.INFO)
        raise InputError("a fit failed")
    assert os.environ["TQDM_DISABLE"] == "0"
    assert logging.getLogger("src").isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == logging.NOTSET


# What is said


def test_a_shifted_test_split_is_not_reported_as_a_leak():
    data = splits(blobs(600, 2, shift=1.0))
    released = blobs(300, 5)  # of the training distribution, but of none of its rows
    report = audited(data, "gaussian", released=released)
    assert report.rows["nearest_auc"].value.low > 0.5
    verdicts = {key: row.verdict for key, row in report.rows.items()}
    assert verdicts["nearest_auc"].startswith("train and test differ"), verdicts
    assert not any(said.startswith("leak") for said in verdicts.values()), verdicts
    exposed = audited(data).rows["nearest_auc"].verdict
    assert exposed.startswith("train and test differ")
    assert exposed.endswith("the rest may be a leak")
    unshifted = audited(splits(blobs(600, 2)), "gaussian", released=released)
    assert unshifted.rows["nearest_auc"].verdict.startswith("no leak found")


def test_a_shift_that_one_control_shows_holds_for_every_row():
    data = splits(blobs(600, 2, spread=0.8), train=600)
    released = blobs(600, 5, spread=2.0)  # has seen no row
    rows = audited(data, "gaussian", released=released).rows
    assert rows["nearest_auc"].chance.high < 0.5  # disjoint rows lie nearer to the test rows
    above = [
        key for key in ATTACKS if (rows[key].value.low or 0) > MEASURES[key].useless
    ]  # would be called leaks by their own figures
    assert above
    for key in above:
        assert rows[key].verdict.startswith("train and test differ"), key


@pytest.mark.parametrize(("name", "settings"), [("identity", {}), ("ksame", {"k": 2})])
def test_leaks_are_called_leaks_where_train_and_test_do_not_differ(name, settings):
    for seed in range(3):
        data = Splits(blobs(300, seed), blobs(60, seed + 10), blobs(300, seed + 20))
        rows = audited(data, name, seed=seed, **settings).rows
        for key in ("nearest_auc", "calibrated_auc", "shadow_auc", "linkability"):
            assert rows[key].verdict.startswith("leak: "), (key, rows[key])


def test_smoother_rows_than_real_ones_are_near_but_no_leak():
    released = blobs(300, 7, spread=0.3)  # has seen no row
    rows = audited(splits(blobs(600, 2), train=600), "gaussian", released=released).rows
    assert rows["near_copies"].value.low > 0.01
    assert rows["near_copies"].verdict.startswith("near: ")
    assert rows["near_copies"].verdict.endswith("test rows do; averages do that too")
    said = verdict("near_copies", Estimate(0.004, 0.0, 0.02), TOP, {}, non_members=500)
    assert said == "not shown near: 0.4% lie closer to a training row than 99% of test rows do"


LEAK, NONE = Estimate(0.8, 0.7, 0.9), Estimate(0.52, 0.45, 0.58)
TOP, HALF = Estimate(1.0, 1.0, 1.0), Estimate(0.5, 0.45, 0.55)


@pytest.mark.parametrize(
    ("value", "chance", "said"),
    [
        (LEAK, HALF, "leak: members score higher in 80.0% of pairs"),
        (TOP, HALF, "leak: members score higher in 100.0% of pairs, as much as from the training "
                    "rows"),
        (NONE, HALF, "no leak found; 0.580 is not excluded"),
        (Estimate(0.4, 0.3, 0.45), HALF, "no leak found; below chance"),
        (Estimate(0.6, 0.53, 0.67), Estimate(0.55, 0.51, 0.59),
         "no leak shown: disjoint real rows give 0.550"),
        (LEAK, Estimate(0.55, 0.51, 0.59), "leak: members score higher in 80.0% of pairs"),
        (LEAK, Estimate(0.75, 0.7, 0.8),
         "train and test differ (0.750 without a leak): no leak shown"),
        (LEAK, Estimate(0.6, 0.56, 0.64),
         "train and test differ (0.600 without a leak): the rest may be a leak"),
        (NONE, Estimate(0.4, 0.36, 0.44),
         "train and test differ (0.400 without a leak): no leak found, but one may be hidden"),
        (Estimate(None), HALF, "n/a: not defined for this release"),
    ],
)  # fmt: skip
def test_verdicts(value, chance, said):
    assert verdict("nearest_auc", value, TOP, {"nearest_auc": chance}, non_members=500) == said


def test_the_auc_of_an_attack_tells_whether_its_other_figures_are_shifted():
    value, chances = Estimate(0.2, 0.1, 0.3), {"shadow_tpr_at_0.01": Estimate(0.02, 0, 0.05)}
    said = {
        control: verdict(
            "shadow_tpr_at_0.01", value, TOP, {**chances, "shadow_auc": auc}, non_members=500
        )
        for control, auc in (("even", HALF), ("shifted", LEAK))
    }
    assert said["even"] == "leak: finds 20.0% of members"
    assert said["shifted"].startswith("train and test differ (0.020 without a leak)")


@pytest.mark.parametrize(("n", "useless"), [(100, 2 / 101), (240, 3 / 241)])
def test_scores_that_know_nothing_are_rarely_called_a_leak_by_their_tpr(n, useless):
    values, leaks = [], 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        value, chance = (
            statistics.membership(
                draw.normal(size=300),
                draw.normal(size=n),
                fprs=(0.01,),
                bootstrap=statistics.Bootstrap(200, draw),
            ).tpr[0.01]
            for _ in range(2)
        )
        key = "nearest_tpr_at_0.01"
        leaks += verdict(key, value, TOP, {key: chance}, non_members=n).startswith("leak")
        values.append(value.value)
    assert statistics.expected_fpr(0.01, n) == pytest.approx(useless)
    assert np.mean(values) == pytest.approx(useless, abs=3 * np.std(values) / np.sqrt(300))
    assert leaks < 0.05 * 300  # against 1 % FPR 16 of them would be, with 100 non-members


def test_no_verdict_on_utility_speaks_of_privacy():
    for key, row in MEASURES.items():
        if row.useless is None:
            said = verdict(key, LEAK, TOP, {key: HALF}, non_members=500)
            assert said.startswith("utility: ")
            assert "leak" not in said
