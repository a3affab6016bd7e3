"""What goes into a bundle, and what is drawn from one."""

import json

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.bundle import contents, making
from src.core import provenance
from src.core.errors import DataError, InputError
from src.database import Database, EmbeddingSet
from tests.bundle.support import CVAE, DP, KSAME, bundle, flags_of
from tests.support import files_below


def test_the_originals_are_no_release(home, tmp_path):
    before = files_below(tmp_path)
    done = bundle(
        "create", *flags_of(home), "--anonymizer", "identity", "--output", tmp_path / "b"
    )
    assert done.status == 2
    assert "would give the originals away" in done.err
    assert files_below(tmp_path) == before


def test_a_decoder_that_did_not_draw_the_rows(home, tmp_path):
    other = ["--ckpt_root", tmp_path / "ckpts"]  # another secret key
    done = bundle("create", *flags_of(home)[:-2], *other, *DP, "--output", tmp_path / "b")
    assert done.status == 2
    assert "did not draw the released rows" in done.err
    assert not (tmp_path / "b").exists()


def test_a_sampled_row_is_a_draw_of_the_decoder(home):
    """With z and noise scaled to 0 what is drawn is the decoded class itself."""
    loaded = contents.read(home / "dp")
    loaded.decoder.observation_noise = 0.0
    loaded.decoder.variance = 0.0
    drawn = making.sample(loaded, counts=[1] * 10, seed=0)
    expected = loaded.decoder.embed(torch.zeros(10, 8), torch.arange(10))
    np.testing.assert_allclose(drawn.embeddings, expected.numpy(), rtol=1e-6)
    assert provenance.fingerprint_arrays(drawn.labels) == provenance.fingerprint_arrays(
        np.arange(10)
    )


def test_draws_that_overflow_are_refused(home):
    loaded = contents.read(home / "dp")
    loaded.decoder.minimum.fill_(3e38)
    loaded.decoder.extent.fill_(3e38)
    loaded.decoder.layers[2].bias.data.fill_(1e3)  # all features at their largest, 6e38
    with pytest.raises(DataError, match="not finite"):
        making.sample(loaded, counts=[1] * 10, seed=0)


# What is quoted.


def record(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def quoting(home, digits, tmp_path):
    """A function: changes to a result of `home/dp`, and whether it is quoted."""
    rows = contents.read(home / "dp").rows
    anonymizer = methods.parse("dpcvae", {"epsilon": 2.0, "epochs": 2})
    subjects = making.subjects(anonymizer, rows, seed=0)
    inputs = {**digits.fingerprints, "release": rows.fingerprint}
    figures = {"auc": 99.0, "accuracy": 90.0, "balanced_accuracy": 90.0}
    result = {
        "format": 1, "id": "dpcvae-eps2-epochs2-s0", "sigma": None, "seed": 0, "head": {},
        "inputs": inputs, **figures, "average_mindistance": 1.0,
    }  # fmt: skip

    def quoted(inputs=(), **changes):
        content = {**result, "inputs": {**result["inputs"], **dict(inputs)}, **changes}
        record(tmp_path / "logs" / "result.json", content)
        found = making.quoted([tmp_path / "none", tmp_path / "logs"], subjects, digits.train)
        assert found in (([content], []), ([], [content]), ([], []))
        return found != ([], [])

    return quoted


def test_figures_of_this_release_are_quoted(quoting):
    assert quoting()
    assert quoting(average_mindistance=None)
    assert quoting(format=1)
    assert quoting(id="dpcvae-online-eps2-epochs2-s0", inputs={"release": None})


@pytest.mark.parametrize(
    "change",
    [
        {"id": "dpcvae-eps2-epochs2-s1"},
        {"id": ["dpcvae-eps2-epochs2-s0"]},
        {"inputs": {"train": "0123456789abcdef"}},
        {"inputs": {"release": "0123456789abcdef"}},
        {"inputs": {"release": None}},  # fresh draws have another id
        {"id": "dpcvae-online-eps2-epochs2-s0"},  # which are of no rows
        {"auc": "99"},
        {"auc": float("nan")},
        {"accuracy": None},
        {"format": 2},
    ],
)
def test_figures_of_others_are_not(quoting, change):
    assert not quoting(**change)


def test_junk_among_records(home, digits, tmp_path):
    subjects = making.subjects(methods.KSame(k=5), contents.read(home / "ksame").rows, seed=0)
    record(tmp_path / "a.json", [])
    record(tmp_path / "b.json", {"id": "ksame-5"})
    record(tmp_path / "c.json", {"id": "ksame-5", "inputs": "all"})
    (tmp_path / "d.json").write_text("{")
    assert making.quoted([tmp_path], subjects, digits.train) == ([], [])


def test_audits_are_quoted_too(home, tmp_path):
    result = json.loads(next((home / "logs").rglob("*.json")).read_text())
    folder = tmp_path / "logs" / "digits" / "pixels"
    estimate = {"value": 0.5, "low": None, "high": 1}
    row = {"value": estimate, "ceiling": estimate, "chance": estimate, "verdict": "no leak found"}
    audit = {
        **{key: result[key] for key in ("id", "anonymizer", "settings", "seed", "inputs")},
        "audit": {"shadows": 2, "bootstrap": 10}, "sizes": {"members": 5}, "notes": ["few rows"],
        "figures": {"nearest_auc": row},
    }  # fmt: skip
    record(folder / "digits_cvae-num_epochs3-s0_audit.json", audit)
    flags = [*flags_of(home), *CVAE, "--output", tmp_path / "b", "--logs", tmp_path / "logs"]
    done = bundle("create", *flags)
    assert done.status == 0, done.err
    sheet = json.loads((tmp_path / "b" / "datasheet.json").read_text())
    assert sheet["utility"] == []
    quoted = ("seed", "audit", "sizes", "figures", "notes")
    assert sheet["audits"] == [{key: audit[key] for key in quoted}]
    assert "verdict: no leak found" in (tmp_path / "b" / "datasheet.md").read_text()


def test_a_release_that_its_file_does_not_describe(home, tmp_path, digits):
    """Rows under the name of a release that were made elsewhere, so that nothing is known."""
    database = Database(tmp_path / "database", "digits", "pixels")
    for split in ("train", "val", "test"):
        database.write(split, getattr(digits, split))
    data = digits.train
    database.write("train", EmbeddingSet(data.embeddings + 1, data.labels), "ksame-5")
    place = [*flags_of(home)[:-4], "--database_root", database.root]
    done = bundle("create", *place, *KSAME, "--output", tmp_path / "b")
    assert done.status == 2
    assert "the release cannot be bundled: it has no facts" in done.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "numbers",
    [
        {"counts": [2**63 - 1] * 10},
        {"counts": [0] * 9 + [2**50]},
        {"rows": 2**62},
        {"rows": 5, "weights": [1e300] * 10},
        {"rows": 5, "weights": [1e-300] * 10},
    ],
)
def test_numbers_that_nothing_can_be_drawn_by(home, numbers):
    with pytest.raises(InputError, match="rows are too many|10 classes need as many numbers"):
        making.sample(contents.read(home / "dp"), **numbers, seed=0)
