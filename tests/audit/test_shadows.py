"""Releases made again: the same by any number of processes, and not lost to an interruption."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from src.anonymizers import methods
from src.anonymizers.cvae import fit as fit_cvae
from src.audit import shadows
from src.audit.auditing import audit
from src.audit.shadows import Maker, memberships
from src.core import cluster
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import SPLITS, Database, EmbeddingSet
from tests.audit.support import CPU, QUICK, RESOURCES, blobs, splits
from tests.support import ROOT, call

ROWS, VAL = blobs(80, 0), blobs(20, 1)
INSIDE = memberships(ROWS, 4, np.random.default_rng(0))
AUDIT = "src.audit.__main__"
FINISHED = "shadows/*/[!.]*.npz"


@pytest.fixture(scope="module")
def two():
    """Resources with two processes."""
    pytest.importorskip("distributed")
    with cluster.client(2, None, "src.audit.shadows") as workers:
        yield Resources(CPU, workers=workers)


def maker(name="cvae", resources=RESOURCES, **settings):
    settings = {"num_epochs": 3} if name == "cvae" else settings
    return Maker(methods.parse(name, settings), VAL, 5, resources)


def releases(made_by, inside=INSIDE):
    """Embeddings and labels of every shadow, in order."""
    return made_by.shadows(ROWS, inside, lambda found: found.fingerprint)


def test_each_shadow_is_made_of_its_half_with_a_seed_of_its_own():
    found = maker("identity").shadows(ROWS, INSIDE, lambda release: release)
    for release, part in zip(found, INSIDE, strict=True):
        assert np.array_equal(release.embeddings, ROWS.embeddings[part])
    same = np.repeat(INSIDE[:1], 2, axis=0)
    first, second = releases(maker(), same)
    assert first != second
    assert releases(maker(), same) == [first, second]


def test_halves_are_of_persons_and_complements():
    people = dataclasses.replace(ROWS, persons=np.arange(80) // 4)
    inside = memberships(people, 4, np.random.default_rng(0))
    whole = inside.reshape(4, 20, 4)
    assert (whole.all(2) | ~whole.any(2)).all()
    assert np.array_equal(inside[0], ~inside[1])


@pytest.mark.parametrize("name", ["cvae", "gaussian"])
def test_processes_make_what_one_process_makes(name, two):
    assert releases(maker(name, two)) == releases(maker(name))


def test_an_error_is_the_first_shadow_s_wherever_it_is_met(two):
    inside = np.stack([np.arange(80) < 80 - 10 * n for n in range(4)])
    said = "--k 75 is larger than the 70 rows"
    for resources in (RESOURCES, two):
        with pytest.raises(InputError, match=said):
            releases(maker("ksame", resources, k=75), inside)


def test_workers_that_are_lost_are_one_line(two, monkeypatch):
    def lost(future):
        raise OSError("Timed out")

    monkeypatch.setattr("distributed.Future.result", lost)
    with pytest.raises(ConnectionError, match=r"are lost: OSError: Timed out; run the same"):
        releases(maker("gaussian", two))


def test_what_is_finished_is_kept_and_goes_on_until_the_audit_is(tmp_path, monkeypatch):
    kept = Resources(CPU, tmp_path / "ckpts")
    expected = releases(maker())
    seen = []

    def interrupted(release):
        seen.append(release)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maker(resources=kept).shadows(ROWS, INSIDE, interrupted)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:100])  # as good as none
    fitted = counted(monkeypatch)
    assert releases(maker(resources=kept)) == expected
    assert len(fitted) == 2
    assert releases(maker(resources=kept), INSIDE[:2]) == expected[:2]
    assert len(fitted) == 2
    maker(resources=kept).forget()
    assert not list(tmp_path.rglob("*.npz"))
    assert not list(tmp_path.rglob(shadows.FOLDER))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: dataclasses.replace(m, seed=6),
        lambda m: dataclasses.replace(m, val=blobs(20, 2)),
        lambda m: dataclasses.replace(m, anonymizer=methods.parse("cvae", {"num_epochs": 4})),
    ],
)
def test_shadows_of_something_else_are_not_taken(tmp_path, monkeypatch, change):
    kept = maker(resources=Resources(CPU, tmp_path))
    releases(kept)
    fitted = counted(monkeypatch)
    assert releases(change(kept)) == releases(change(maker()))
    assert len(fitted) == 8


def test_shadows_of_other_rows_are_not_taken(tmp_path, monkeypatch):
    kept = maker(resources=Resources(CPU, tmp_path))
    releases(kept)
    fitted = counted(monkeypatch)
    kept.shadows(blobs(80, 3), INSIDE[:1], lambda found: None)
    assert len(fitted) == 1


def test_of_persons_no_shadow_is_kept_whose_name_a_list_could_be_tried_against(tmp_path):
    owned = dataclasses.replace(ROWS, persons=np.arange(80) // 4)
    made = [maker(resources=Resources(CPU, folder)) for folder in (tmp_path, None)]
    whole, unkept = (m.shadows(owned, INSIDE[:2], lambda r: r.fingerprint) for m in made)
    assert whole == unkept
    assert not list(tmp_path.rglob("*"))


def test_an_audit_leaves_no_shadows(tmp_path):
    data = splits(blobs(60, 2), train=80)
    gaussian = methods.parse("gaussian", {})
    released = gaussian.anonymize(data.train, data.val, seed=0, resources=RESOURCES)
    alone, kept = (
        audit(data, released, gaussian, QUICK, seed=0, resources=resources)
        for resources in (RESOURCES, Resources(CPU, tmp_path / "ckpts"))
    )
    assert kept.content() == alone.content()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nobody_knows_how_a_foreign_release_was_made():
    data = splits(blobs(60, 2), train=80)
    report = audit(data, blobs(50, 9), None, QUICK, seed=0, resources=RESOURCES)
    assert "shadow attack left out: how this release was made is not known" in report.notes
    assert report.metrics["nearest_auc"].value.value is not None
    assert "shadow_auc" not in report.metrics


def test_ctrl_c_and_the_same_command_again(tmp_path):
    database = Database(tmp_path / "database", "small", "pixels")
    for split, data in zip(SPLITS, (blobs(150, 0), blobs(40, 1), blobs(60, 2)), strict=True):
        database.write(split, data)
    flags = [
        "--dataset", "small", "--backbone", "pixels", "--device", "cpu", "--seed", "0",
        "--database_root", str(database.root), "--anonymizer", "cvae", "--num_epochs", "400",
        "--patience", "400", "--kl_weight", "0.001",
    ]  # fmt: skip
    assert call("anonymize", *flags, "--ckpt_root", tmp_path / "ckpts").status == 0
    quick = ["--shadows", "4", "--bootstrap", "20", "--ckpt_root", str(tmp_path / "ckpts")]
    logs = tmp_path / "logs"
    command = [sys.executable, "-m", "src.audit", *flags, *quick, "--output_root", str(logs)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.rglob(FINISHED)):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]
    assert not logs.exists()
    assert 1 <= len(list(tmp_path.rglob(FINISHED))) < 4
    done = call(AUDIT, *flags, *quick, "--output_root", logs)
    assert done.status == 0, done.err
    other = tmp_path / "other"
    done = call(AUDIT, *flags, *quick[:-1], tmp_path / "empty", "--output_root", other)
    assert done.status == 0, done.err
    first, second = (
        json.loads(next(root.rglob("*_audit.json")).read_text()) for root in (logs, other)
    )
    assert first["metrics"] == second["metrics"]
    assert not list(tmp_path.rglob(FINISHED))


def counted(monkeypatch):
    """A list that grows with every fit of a CVAE."""
    fitted = []

    def fit(train: EmbeddingSet, *rest, **named):
        fitted.append(train)
        return fit_cvae(train, *rest, **named)

    monkeypatch.setattr("src.anonymizers.cvae.fit", fit)
    return fitted
