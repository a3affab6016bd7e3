"""Promises to persons in a bundle, and that no number of a person is in any file or line."""

import json
import shutil
import struct

import numpy as np
import pytest
import torch

from src.anonymizers import ksame
from src.anonymizers.base import Anonymizer, ordered
from src.core.devices import Resources
from src.core.provenance import fingerprint_arrays
from src.database import Database, EmbeddingSet, Splits, dump, read
from tests.bundle.support import bundle, contents_of, recompose, refused, sum_up, with_rows
from tests.support import call

FIRST, STEP = 777_123_456, 1013  # of the numbers of persons, so that chance gives none of them
SIZES = {"train": 40, "val": 12, "test": 24}  # persons, three rows each
FLAGS = ["--dataset", "people", "--backbone", "generated", "--device", "cpu"]


def people(first=FIRST, step=STEP):
    """Three rows of each person, close together, in 6 dimensions and two classes."""
    rng, made, start = np.random.default_rng(0), [], 0
    for count in SIZES.values():
        whose = rng.permutation(np.arange(count).repeat(3))
        rows = rng.normal(size=(count, 6))[whose] + 0.1 * rng.normal(size=(3 * count, 6))
        labels = whose % 2
        rows[:, 0] += 2 * labels
        meta = {"dataset": "people", "backbone": "generated", "class_names": ["a", "b"]}
        persons = first + step * (start + whose)
        made.append(EmbeddingSet(rows.astype(np.float32), labels, meta, persons))
        start += count
    return Splits(*made)


IDS = np.unique(np.concatenate([part.persons for part in vars(people()).values()]))


def site_with(folder, splits):
    database = Database(folder / "database", "people", "generated")
    for name, part in vars(splits).items():
        database.write(name, part)
    return folder


def place(folder):
    roots = ["--database_root", folder / "database", "--ckpt_root", folder / "ckpts"]
    return [*FLAGS, *roots]


def made(folder, *flags, name="bundle"):
    """A release and its bundle."""
    assert call("anonymize", *place(folder), *flags).status == 0
    done = bundle("create", *place(folder), *flags, "--output", folder / name, "--logs")
    assert done.status == 0, done.err
    return folder / name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return site_with(tmp_path_factory.mktemp("people"), people())


# What is promised, and to whom.

PERSONS = (
    "a released row is an average of 5 rows of 5 different persons; a person with several rows is "
    "in several groups; who knows the others of a group learns about the last one"
)


@pytest.mark.parametrize(
    ("flags", "unit", "guarantee", "stated"),
    [
        ([], "person", PERSONS, "the mean of 5 real rows of 5 different persons"),
        (["--unit", "row"], "row", "5 rows, which may all be of one", "the mean of 5 real rows"),
    ],
    ids=["person", "row"],
)
def test_k_same_says_whom_its_groups_are_of(tmp_path, site, flags, unit, guarantee, stated):
    folder = shutil.copytree(site, tmp_path / "site")
    made(folder, "--anonymizer", "kSAME", "--k", 5, *flags)
    sheet = contents_of(folder / "bundle")
    assert sheet["unit"] == unit
    assert guarantee in sheet["guarantee"]
    done = bundle("verify", folder / "bundle")
    assert done.status == 0
    assert "shown: each released row occurs 5 times or a multiple of that" in done.out
    assert f"stated, not checked: that each is {stated}\n" in done.out
    assert f"- unit: {unit}\n" in (folder / "bundle" / "datasheet.md").read_text()


def test_without_persons_the_promise_is_to_rows(tmp_path):
    alone = Splits(*(part.by("row") for part in vars(people()).values()))
    folder = made(site_with(tmp_path, alone), "--anonymizer", "kSAME", "--k", 5)
    sheet = contents_of(folder)
    assert sheet["unit"] == "row"
    assert "5 rows, which may all be of one person" in sheet["guarantee"]


def test_latent_groups_say_whom_they_are_of(tmp_path, site):
    folder = shutil.copytree(site, tmp_path / "site")
    flags = ["--anonymizer", "latent-ksame", "--k", 3, "--num_epochs", 2]
    sheet = contents_of(made(folder, *flags, "--seed", 0))
    assert "averages of 3 rows of 3 different persons" in sheet["guarantee"]
    assert "that the averages are of 3 real rows of 3 different persons" in sheet["stated"]


@pytest.mark.parametrize("name", ["cvae", "gaussian"])
def test_who_has_many_rows_weighs_more(tmp_path, site, name):
    folder = shutil.copytree(site, tmp_path / "site")
    flags = ["--num_epochs", 2] if name == "cvae" else []
    bundled = made(folder, "--anonymizer", name, "--seed", 0, *flags)
    for text in (contents_of(bundled)["guarantee"], bundle("verify", bundled).out):
        assert "A person with many rows weighs more in it than one with few." in text


@pytest.fixture
def grouped(tmp_path, site):
    """A bundle of k-Same by person, to change."""
    return made(shutil.copytree(site, tmp_path / "site"), "--anonymizer", "kSAME", "--k", 5)


def test_the_unit_is_one_that_the_settings_allow(grouped):
    settings = contents_of(grouped)["settings"]
    for unit in (None, "patient", ["person"], 5):
        with_rows(grouped, unit=unit)
        recompose(grouped)
        refused(grouped, "states unit ")
    with_rows(grouped, unit="person", settings={**settings, "unit": "row"})
    recompose(grouped, release="ksame-5-unitrow")
    refused(grouped, "states unit 'person', which its settings do not give")
    with_rows(grouped, unit="row", settings={**settings, "unit": "person"})
    recompose(grouped, release="ksame-5-unitperson")
    refused(grouped, "states unit 'row', which its settings do not give")


def test_a_promise_to_persons_does_not_become_one_by_its_words(grouped):
    with_rows(grouped, unit="row")
    recompose(grouped)
    refused(grouped, "'guarantee' does not match")


def test_k_identical_rows_are_checked_whoever_the_promise_is_to(grouped):
    rows = read(grouped / "train.npz")
    other = rows.embeddings.copy()
    other[7, -1] += 1
    with_rows(grouped, *ordered(other, rows.labels))
    recompose(grouped)
    refused(grouped, "states k = 5, but a released row occurs")


def test_a_bundle_that_says_whose_its_rows_are(grouped):
    rows = read(grouped / "train.npz")
    persons = np.arange(len(rows))
    with (grouped / "train.npz").open("wb") as file:
        dump(
            file, EmbeddingSet(rows.embeddings, rows.labels, rows.meta, persons), compressed=False
        )
    sum_up(grouped)
    refused(grouped, "train.npz says whose its rows are, which does not belong to a bundle")


# What leaves.


def found_in(content, path=None):
    """The numbers of persons in the bytes of a file, as text or as an array has them."""
    if path is not None and path.suffix == ".npz":
        with np.load(path) as arrays:
            assert "persons" not in arrays
            content += b"".join(arrays[name].tobytes() for name in arrays)
    kinds = ("<q", "<i", "<d", "<f")
    return [
        number
        for number in IDS.tolist()
        if any(str(number).encode(kind) in content for kind in ("ascii", "utf-32-le"))
        or any(struct.pack(kind, number) in content for kind in kinds)
    ]


def leaks(folder):
    """The files below a folder that have a number of a person, in their content or name."""
    real = {f"{name}.npz" for name in SIZES}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in real]
    bundled = [path for path in folder.rglob("*.npz") if "database" not in path.parts]
    return {
        path.relative_to(folder).as_posix()
        for path in {*files, *bundled}
        if found_in(path.read_bytes() + str(path.name).encode(), path)
    }


NETWORK = ["--num_epochs", 2]
DP = ["--epsilon", 4]
RELEASES = {
    "ksame": ["--k", 5],
    "ksame blocks": ["--k", 3, "--block_rows", 30],
    "gaussian": [],
    "cvae": NETWORK,
    "latent-ksame": ["--k", 3, *NETWORK],
    "latent-linear": ["--k", 3, *NETWORK],
    "plan": ["--k", 3, *NETWORK, "--path_steps", 2],
    "dpcvae": [*DP, "--epochs", 2],
    "dpgaussian": DP,
}
SWEEP = """
name: people
datasets: [people]
backbones: [generated]
seeds: [0]
sigma: [0, 1]
runs:
  - anonymizer: identity
  - {anonymizer: ksame, k: 5}
audit: {shadows: 2, bootstrap: 5}
"""


def everything(folder):
    """All that the commands write for a site, and what they print."""
    logs, printed = ["--output_root", folder / "logs"], []

    def ran(script, *flags):
        done = call(script, *flags)
        assert done.status == 0, (script, flags, done.err)
        printed.extend((done.out, done.err))

    for name, settings in RELEASES.items():
        flags = [*place(folder), "--anonymizer", name.split()[0], *settings, "--seed", 0]
        ran("anonymize", *flags)
        output = folder / "bundles" / name
        ran("src.bundle.__main__", "create", *flags, "--output", output, "--logs")
        ran("src.bundle.__main__", "verify", output)
    sampled = [folder / "bundles" / "cvae", "--rows", 20, "--output", folder / "drawn.npz"]
    ran("src.bundle.__main__", "sample", *sampled)
    audit = ["--shadows", 2, "--bootstrap", 5, "--figure", folder / "roc.svg", "--seed", 0]
    for settings in (["--k", 5], ["--k", 5, "--fit_unit", "row"]):
        if "--fit_unit" in settings:
            unit = [*place(folder), "--anonymizer", "ksame", "--k", 5, "--unit", "row"]
            ran("anonymize", *unit)
        ran(
            "src.audit.__main__", *place(folder), "--anonymizer", "ksame", *settings, *logs, *audit
        )
    ksame_5 = [*place(folder)[:-2], *logs, "--anonymizer", "ksame", "--k", 5, "-e", 2, "--seed", 0]
    ran("probing", *ksame_5)
    ran("probing_noise", *ksame_5, "--sigma", 1)
    online = [*place(folder), *logs, "-e", 2, "--sigma", 1, "--seed", 0]
    ran("probing_noise_cvae", *online, "--fit_num_epochs", 2)
    (folder / "people.yaml").write_text(SWEEP)
    ran("src.sweep.__main__", folder / "people.yaml", *logs, *place(folder)[4:])
    return "".join(printed)


def test_numbers_of_persons_are_found_wherever_they_are_planted(tmp_path):
    number = int(IDS[3])
    (tmp_path / "result.json").write_text(json.dumps({"persons": [number]}))
    (tmp_path / "model.safetensors").write_bytes(b"..." + struct.pack("<q", number))
    (tmp_path / f"train_{number}.txt").write_text("")
    np.savez_compressed(tmp_path / "release.npz", labels=IDS, embeddings=np.zeros(3))
    np.savez(tmp_path / "floats.npz", embeddings=IDS.astype(np.float32))
    np.savez(tmp_path / "meta.npz", meta=np.array(json.dumps({"first": number})))
    (tmp_path / "fine.json").write_text(json.dumps({"persons": {"train": 40}, "n": 777_123}))
    assert leaks(tmp_path) == {
        "result.json", "model.safetensors", f"train_{number}.txt", "release.npz", "floats.npz",
        "meta.npz",
    }  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = site_with(tmp_path_factory.mktemp("everything"), people())
    return folder, everything(folder)


def test_no_number_of_a_person_is_in_any_file_or_line(written):
    folder, printed = written
    kinds = {path.suffix for path in folder.rglob("*.*")}
    assert kinds >= {".npz", ".json", ".safetensors", ".md", ".csv", ".svg", ".html"}
    assert not leaks(folder)
    assert not found_in(printed.encode())


def test_a_release_that_keeps_persons_is_found(tmp_path, site, monkeypatch):
    """The broken version: whoever makes the release gives the numbers along."""
    folder, whole = shutil.copytree(site, tmp_path / "site"), Anonymizer.anonymize

    def telling(self, train, val, **more):
        released = whole(self, train, val, **more)
        return EmbeddingSet(
            released.embeddings, released.labels, {**released.meta, "rows": train.persons.tolist()}
        )

    monkeypatch.setattr(Anonymizer, "anonymize", telling)
    assert call("anonymize", *place(folder), "--anonymizer", "gaussian").status == 0
    assert leaks(folder) == {"database/people/generated/train_gaussian-s42.npz"}


TIMES = ("seconds", "sum", "versions")


def without_times(pairs):
    return {key: part for key, part in pairs if key not in TIMES}


def comparable(folder):
    """Every file by its name and bytes, without what time and secret keys make different."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name in {f"{name}.npz" for name in SIZES} or "dp" in path.as_posix():
            continue
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        if path.suffix == ".json" and "bundles" not in path.parts:
            content = json.loads(content, object_pairs_hook=without_times)
        found[name] = content
    return found


def telling_fingerprint(data):
    return fingerprint_arrays(
        data.embeddings, data.labels, *([] if data.persons is None else [data.persons])
    )


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_other_numbers_of_the_same_persons_give_the_same_files(tmp_path, monkeypatch, broken):
    """No file's name or fingerprint depends on them, so no list of persons can be tried.

    The broken version: the fingerprint of rows is one of their persons too.
    """
    if broken:
        monkeypatch.setattr(EmbeddingSet, "fingerprint", property(telling_fingerprint))
    results = []
    for name, splits in (("one", people()), ("two", people(5, 1))):
        folder = site_with(tmp_path / name / "site", splits)
        for method in ("ksame", "ksame blocks", "plan"):
            flags = ["--anonymizer", method.split()[0], *RELEASES[method], "--seed", 0]
            made(folder, *flags, name=f"bundle {method}")
        probing = [*place(folder)[:-2], "--output_root", folder / "logs", "-e", 2, "--seed", 0]
        audit = ["--shadows", 2, "--bootstrap", 5, "--output_root", folder / "logs", "--seed", 0]
        chosen = ["--anonymizer", "ksame", "--k", 5]
        assert call("probing", *probing, *chosen).status == 0
        assert call("src.audit.__main__", *place(folder), *chosen, *audit).status == 0
        results.append(comparable(folder))
    assert (results[0] == results[1]) == (not broken)


def test_blocks_of_persons_are_not_kept(tmp_path, monkeypatch):
    """What an interrupted run leaves has a name that says what it depends on."""
    splits, folder = people(), tmp_path / "ckpts"
    monkeypatch.setattr("src.anonymizers.blocks.shutil.rmtree", lambda *_, **__: None)
    resources = Resources(torch.device("cpu"), folder)
    for data, kept in ((splits.train, 0), (splits.train.by("row"), 4)):
        ksame.groups(data, 3, per_class=False, block_rows=30, resources=resources)
        assert len(list(folder.rglob("*.npy"))) == kept
