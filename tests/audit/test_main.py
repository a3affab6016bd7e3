"""`python -m src.audit`: one run, files from elsewhere, bundles, and other non-members."""

import dataclasses
import json

import numpy as np
import pytest

from src.anonymizers import methods
from src.audit import records
from src.audit.settings import AuditSettings, OneRunSettings
from src.database import SPLITS, Database, EmbeddingSet, write
from tests.audit.people import crowd
from tests.audit.support import RESOURCES, blobs, rows
from tests.support import call, files_below

AUDIT = "src.audit.__main__"
NAMES = ["no", "yes"]


@pytest.fixture
def small(tmp_path):
    """The folders and the flags of a small database, whose classes have names."""
    database = Database(tmp_path / "database", "small", "pixels")
    meta = {"dataset": "small", "backbone": "pixels", "class_names": NAMES}
    for split, data in zip(SPLITS, (blobs(150, 0), blobs(40, 1), blobs(60, 2)), strict=True):
        database.write(split, dataclasses.replace(data, meta={**meta, "split": split}))
    return Small(database, tmp_path)


@dataclasses.dataclass
class Small:
    database: Database
    folder: object

    def audit(self, *flags):
        quick = ["--shadows", 2, "--bootstrap", 20, "--seed", 0]
        return call(AUDIT, *self.where, *quick, *flags)

    def record(self, name):
        return json.loads((self.folder / "logs/small/pixels" / name).read_text())

    @property
    def where(self):
        return [
            "--dataset", "small", "--backbone", "pixels", "--device", "cpu",
            "--database_root", self.database.root, "--output_root", self.folder / "logs",
            "--ckpt_root", self.folder / "ckpts",
        ]  # fmt: skip


# One run.


def test_one_run_writes_a_record_of_its_own_and_needs_no_release(small):
    done = small.audit("--anonymizer", "gaussian", "--one_run")
    assert done.status == 0, done.err
    path = small.folder / "logs/small/pixels/small_gaussian-s0_onerun.json"
    assert done.out.splitlines()[-1] == str(path)
    content = small.record(path.name)
    assert 0 <= content["epsilon_lower"] <= content["epsilon_ceiling"]
    assert 0 < content["right"] <= content["guesses"] <= content["candidates"] == 150
    assert (content["delta"], content["canaries"], content["unit"]) == (1e-5, 0, "row")
    assert content["inputs"].keys() == {"train", "val"}
    assert {"settings", "seed", "versions", "device", "seconds", "sum", "one_run"} <= {*content}
    assert content["leak"] == (content["epsilon_lower"] > 0)
    assert "each put into training with probability 1/2" in done.out
    before = path.read_text()
    assert small.audit("--anonymizer", "gaussian", "--one_run").status == 0
    ours, theirs = (
        {key: part for key, part in json.loads(text).items() if key != "seconds"}
        for text in (before, path.read_text())
    )
    assert ours == theirs


def test_a_stated_guarantee_is_said_to_be_contradicted_or_not(small):
    pytest.importorskip("opacus")
    private = ["--anonymizer", "dpcvae", "--epsilon", 1, "--epochs", 2]
    done = small.audit(*private, "--one_run")
    assert done.status == 0, done.err
    assert "not contradicted" in done.out
    content = small.record("small_dpcvae-eps1-epochs2-s0_onerun.json")
    assert content["guarantee"]["delta"] == content["delta"]
    assert content["contradicted"] is False


@pytest.mark.parametrize("kind", ["mislabelled", "least_variance"])
def test_canaries(small, kind):
    done = small.audit("--anonymizer", "identity", "--one_run", "--canaries", kind, 40)
    assert done.status == 0, done.err
    content = small.record("small_identity-s0_onerun.json")
    assert content["canaries"] == content["candidates"] == 40
    assert content["one_run"]["canaries"] == kind
    assert content["epsilon_lower"] > 1


def test_a_one_run_audit_is_found_beside_an_audit_of_the_same_rows(small):
    assert small.audit("--anonymizer", "gaussian", "--one_run").status == 0
    data, gaussian = small.database.read(), methods.parse("gaussian", {})
    logs = small.folder / "logs"
    released = gaussian.anonymize(data.train, data.val, seed=0, resources=RESOURCES)
    subject = gaussian.subject(0, released)
    case = records.case(small.database, data, subject, AuditSettings(shadows=0), 0)
    found = records.read_one_run(logs, case)
    assert found["candidates"] == 150
    assert records.read_one_run(logs, case, OneRunSettings()) == found
    assert records.read_one_run(logs, case, OneRunSettings(candidates=20)) is None
    other = dataclasses.replace(data, test=blobs(60, 8))  # takes no part
    changed = dataclasses.replace(data, train=blobs(150, 9))
    for splits, expected in ((other, found), (changed, None)):
        case = records.case(small.database, splits, subject, AuditSettings(), 0)
        assert records.read_one_run(logs, case) == expected
    assert records.read_one_run(logs, dataclasses.replace(case, seed=1)) is None
    path = case.path(logs, records.ONE_RUN)
    path.write_text(path.read_text().replace('"right": ', '"right": 1'))
    case = records.case(small.database, data, subject, AuditSettings(), 0)
    assert records.read_one_run(logs, case) is None  # it was changed


def test_persons_are_the_candidates(tmp_path):
    data = crowd(40, 24)
    database = Database(tmp_path / "database", "small", "pixels")
    for split in SPLITS:
        database.write(split, getattr(data, split))
    place = Small(database, tmp_path)
    name = "small_identity-s0_onerun.json"
    for flags, unit, number in (([], "person", 40), (["--unit", "row"], "row", 200)):
        assert place.audit("--anonymizer", "identity", "--one_run", *flags).status == 0
        content = place.record(name)
        assert (content["unit"], content["candidates"]) == (unit, number)
        assert content["rows"]["candidates"] == 200


def test_a_shift_between_train_and_test_excuses_nothing_after_one_run(small):
    small.database.write("test", blobs(60, 2, shift=1.0))
    flags = ["--anonymizer", "gaussian"]
    folder = small.where[:8]
    assert call("anonymize", *folder, *flags, "--seed", 0).status == 0
    before = small.audit(*flags)
    assert before.status == 0, before.err
    assert small.record("small_gaussian-s0_audit.json")["summary"]["leak"] is None
    assert "--one_run" in before.out
    assert small.audit(*flags, "--one_run").status == 0
    path = small.folder / "logs/small/pixels/small_gaussian-s0_onerun.json"
    for lower, leak in ((0.0, None), (0.7, True)):
        content = {**json.loads(path.read_text()), "epsilon_lower": lower}
        content.pop("sum", None)
        path.write_text(json.dumps(content))
        done = small.audit(*flags)
        assert small.record("small_gaussian-s0_audit.json")["summary"]["leak"] is leak
        assert ("By one run ε is at least 0.700" in done.out) == bool(leak)
        assert ("One run shows no leak" in done.out) == (not leak)


# What can be audited.


def test_a_file_of_whatever_tool_can_be_audited(small):
    train = small.database.read().train
    write(small.database.path("train", "mine"), rows(train.embeddings, train.labels))
    done = small.audit("--release", "mine")
    assert done.status == 0, done.err
    content = small.record("small_mine-s0_audit.json")
    assert content["summary"]["leak"] is True
    assert "how this release was made is not known" in " ".join(content["notes"])
    assert (content["anonymizer"], content["settings"]) == ("mine", {})
    assert "shadow_auc" not in content["metrics"]
    done = small.audit("--release", "mine", "--one_run")
    assert done.status == 2
    assert "how mine was made is not known" in done.err


def test_a_file_that_says_how_it_was_made_is_made_again(small):
    flags = [*small.where[:8], "--anonymizer", "kSAME", "--k", 3]
    assert call("anonymize", *flags).status == 0
    small.database.path("train", "ksame-3").rename(small.database.path("train", "renamed"))
    done = small.audit("--release", "renamed")
    assert done.status == 0, done.err
    content = small.record("small_renamed-s0_audit.json")
    assert content["metrics"]["shadow_auc"]["value"]["value"] > 0.5
    assert "promise kept: every released row occurs at least k = 3" in " ".join(content["notes"])
    done = small.audit("--release", "renamed", "--one_run")
    assert done.status == 0, done.err
    assert small.record("small_renamed-s0_onerun.json")["settings"]["k"] == 3


def test_a_bundle_is_audited_as_a_partner_gets_it(small):
    ksame = [*small.where[:8], "--anonymizer", "kSAME", "--k", 3]
    assert call("anonymize", *ksame).status == 0
    bundle = small.folder / "bundle"
    made = call("src.bundle.__main__", "create", *ksame, "--output", bundle, "--logs")
    assert made.status == 0, made.err
    done = small.audit("--bundle", bundle)
    assert done.status == 0, done.err
    assert small.audit("--anonymizer", "kSAME", "--k", 3).status == 0
    ours, theirs = (
        small.record(f"small_{name}-s0_audit.json") for name in ("ksame-3", "bundle-ksame-3")
    )
    assert ours["metrics"] == theirs["metrics"]
    sheet = bundle / "datasheet.json"
    sheet.write_text("[]")
    assert "is not a bundle's datasheet" in small.audit("--bundle", bundle).err
    sheet.unlink()
    assert "does not exist" in small.audit("--bundle", bundle).err


def held(small, data, name="held.npz", **meta):
    path = small.folder / name
    write(path, dataclasses.replace(data, meta=meta))
    return path


def test_other_non_members_take_the_test_split_s_place(small):
    path = held(small, blobs(400, 11))
    done = small.audit("--anonymizer", "identity", "--held_out", path)
    assert done.status == 0, done.err
    content = small.record("small_identity-s0_audit.json")
    assert content["sizes"]["non_members"] + content["sizes"]["references"] == 400
    assert content["inputs"]["test"] == blobs(400, 11).fingerprint
    assert content["notes"][0] == "non-members are rows of held.npz, instead of the test split"


def test_classes_are_matched_by_name(small):
    data = blobs(100, 11)
    turned = dataclasses.replace(data, labels=1 - data.labels)
    figures = []
    for path in (
        held(small, data, class_names=NAMES),
        held(small, turned, "turned.npz", class_names=NAMES[::-1]),
    ):
        assert small.audit("--anonymizer", "identity", "--held_out", path).status == 0
        figures.append(small.record("small_identity-s0_audit.json")["metrics"])
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda train: (blobs(50, 3, dim=9), {}), "has 9 dimensions but"),
        (lambda train: (blobs(50, 3, classes=3), {}), "label 2 has no training row"),
        (
            lambda train: (blobs(50, 3), {"class_names": ["no", "maybe"]}),
            "has rows of class 'maybe', which the training rows do not name (they name: no, yes)",
        ),
        (lambda train: (blobs(50, 3), {"backbone": "other"}), "by backbone 'other', not 'pixels'"),
        (
            lambda train: (EmbeddingSet(train.embeddings[:50], train.labels[:50]), {}),
            "50 of its 50 rows are training rows",
        ),
        (lambda train: (blobs(40, 1), {}), "40 of its 40 rows are validation rows"),
    ],
)
def test_non_members_that_do_not_fit_are_refused(small, change, said):
    data, meta = change(small.database.read().train)
    path = held(small, data, **meta)
    before = files_below(small.folder)
    done = small.audit("--anonymizer", "identity", "--held_out", path)
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert files_below(small.folder) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--canaries", "mislabelled", 5], "--canaries has no effect without --one_run"),
        (["--candidates", 5], "--candidates has no effect without --one_run"),
        (["--one_run_delta", 0.1], "--one_run_delta has no effect without --one_run"),
        (["--one_run", "--held_out", "a.npz"], "--held_out has no effect beside --one_run"),
        (["--one_run", "--figure", "a.png"], "--figure has no effect beside --one_run"),
        (["--one_run", "--jobs", 2], "--jobs 2 has no effect beside --one_run"),
        (["--one_run", "--scheduler", "tcp://a:1"], "--scheduler has no effect beside"),
        (["--one_run", "--canaries", "yellow", 5], "unknown kind of canaries 'yellow'"),
        (["--one_run", "--canaries", "mislabelled", "few"], "'few' is not a number of canaries"),
        (["--one_run", "--canaries", "mislabelled", 0], "'0' is not a number of canaries"),
        (["--one_run", "--candidates", 5], "5 candidates are too few; at least 10"),
        (["--one_run", "--one_run_delta", 2], "above its maximum"),
        (["--held_out", "missing.npz"], "missing.npz does not exist"),
        (["--release", "mine"], "train_mine.npz does not exist"),
        (["--release", "mine", "--k", 5], "--k 5 has no effect: --release"),
        (["--bundle", "nowhere"], "datasheet.json does not exist"),
        (["--bundle", "nowhere", "--k", 5], "--k 5 has no effect: --bundle"),
        (["--bundle", "nowhere", "--release", "mine"], "not allowed with"),
        (["--jobs", 2, "--scheduler", "tcp://a:1"], "not allowed with"),
        (["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers at tcp://127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(small, monkeypatch, flags, said):
    pytest.importorskip("distributed")
    monkeypatch.setattr("src.core.cluster._PATIENCE", 1)
    before = files_below(small.folder)
    done = small.audit(*flags)
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert files_below(small.folder) == before


def test_what_the_labels_are_of_a_release_with_classes_in_another_order(small):
    data = small.database.read().train
    bundle = small.folder / "bundle"
    bundle.mkdir()
    (bundle / "datasheet.json").write_text('{"release": "theirs-s0"}')
    meta = {"class_names": NAMES[::-1]}
    write(bundle / "train.npz", EmbeddingSet(data.embeddings, 1 - data.labels, meta))
    done = small.audit("--bundle", bundle)
    assert done.status == 0, done.err
    content = small.record("small_bundle-theirs-s0_audit.json")
    assert content["metrics"]["nearest_auc"]["value"]["value"] == 1
    assert np.isclose(content["metrics"]["exact_copies"]["value"]["value"], 1)
