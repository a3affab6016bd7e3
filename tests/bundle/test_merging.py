"""One release of several sites: what it promises, and sites that do not belong together."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from src.bundle import contents, decoders, private_sums, sites
from src.database import EmbeddingSet, read, write
from tests.bundle.support import CVAE, bundle, flags_of, recompose, refused, with_rows
from tests.support import call

NAMES = [f"digit {n}" for n in range(10)]
EPSILONS = {"a": 2, "b": 4, "c": 4}


def site(home, name, data, rows, *, order=range(10), meta=()):
    """A site's database: some of the training rows, its classes in an order of its own."""
    folder, number = home / "database" / name / "pixels", np.argsort(list(order))
    named = {"backbone": "pixels", "class_names": [NAMES[n] for n in order], **dict(meta)}
    for split in ("train", "val", "test"):
        part = getattr(data, split)
        chosen = rows if split == "train" else slice(None)
        x, y = part.embeddings[chosen], number[part.labels[chosen]]
        write(folder / f"{split}.npz", EmbeddingSet(x, y, named))


def flags(home, name):
    place = flags_of(home)
    place[place.index("--dataset") + 1] = name
    return place


def bundled(home, name, *settings, to=None):
    method = settings or ("--anonymizer", "dpgaussian", "--epsilon", EPSILONS[name], "--seed", 0)
    assert call("anonymize", *flags(home, name), *method).status == 0
    folder = home / "bundles" / (to or name)
    folder.parent.mkdir(exist_ok=True)
    done = bundle("create", *flags(home, name), *method, "--output", folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits):
    """Three sites, of which one names its classes in another order; and what they give."""
    home = tmp_path_factory.mktemp("sites")
    orders = {"a": range(10), "b": range(9, -1, -1), "c": range(10)}
    for i, (name, order) in enumerate(orders.items()):
        site(home, name, digits, slice(i, None, 3), order=order)
        bundled(home, name)
    done = bundle("merge", *(home / "bundles" / n for n in "abc"), "--output", home / "all")
    assert done.status == 0, done.err
    return home


@pytest.fixture
def copy(home, tmp_path):
    return shutil.copytree(home / "all", tmp_path / "all")


def merge(home, *names, output):
    return bundle("merge", *(home / "bundles" / name for name in names), "--output", output)


def test_what_it_promises(home):
    done = bundle("verify", home / "all")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert "dpgaussian-merged-3-s42 of a+b+c: whole and consistent" in lines[0]
    assert lines[1].startswith(
        "(4, 0.0001)-differential privacy of the training rows of 3 sites, as long as no row is "
        "at two sites (neighbours: one row added or removed; accountant: parallel composition"
    )
    assert "at most (10, 0.0003)" in lines[1]
    for line in (sites.EPSILON, sites.NOISE):
        assert f"shown: {line}" in lines
    assert "stated, not checked: that no row is at two sites" in lines


def test_rows_are_of_all_sites_by_name(home, digits):
    merged = contents.read(home / "all")
    parts = [contents.read(home / "bundles" / name) for name in "abc"]
    assert merged.rows.class_names in (NAMES, NAMES[::-1])
    for name in NAMES:
        counts = [
            float(part.decoder.sums.counts[part.rows.class_names.index(name)]) for part in parts
        ]
        of_all = merged.decoder.sums.counts[merged.rows.class_names.index(name)]
        assert float(of_all) == pytest.approx(sum(counts), rel=1e-5)
    real = digits.train.embeddings[digits.train.labels == 3].mean(0)
    released = merged.rows.embeddings[
        merged.rows.labels == merged.rows.class_names.index(NAMES[3])
    ]
    assert np.corrcoef(real, released.mean(0))[0, 1] > 0.95


def test_a_head_on_it(home, tmp_path):
    done = call(
        "probing", *flags(home, "a")[:-2], "--bundle", home / "all", "--output_root", tmp_path,
        "--head", "logistic", "--clip", 10,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert float(done.out.split("AUC ")[1].split()[0]) > 97


def test_any_order_gives_the_same_bytes(home, tmp_path):
    assert merge(home, "c", "a", "b", output=tmp_path / "again").status == 0
    for path in (home / "all").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_merging_in_two_steps(home, tmp_path):
    assert merge(home, "a", "b", output=tmp_path / "two").status == 0
    done = bundle("merge", tmp_path / "two", home / "bundles" / "c", "--output", tmp_path / "3")
    assert done.status == 0, done.err
    at_once, stepwise = contents.read(home / "all"), contents.read(tmp_path / "3")
    assert stepwise.sheet["release"] == "dpgaussian-merged-3-s42"
    assert {s["decoder"] for s in stepwise.sheet["facts"]["sites"]} == {
        s["decoder"] for s in at_once.sheet["facts"]["sites"]
    }
    for found in (at_once, stepwise):  # in rows' own units both are the same
        sums = found.decoder.sums
        order = np.argsort(found.rows.class_names)
        means = sums.class_sums / sums.counts[:, None] * sums.scale * sums.radius + sums.centre
        found.rows.meta["means"] = means[order].numpy()
    np.testing.assert_allclose(
        at_once.rows.meta["means"], stepwise.rows.meta["means"], rtol=1e-3, atol=1e-3
    )


def test_what_is_not_two_different_sites(home, tmp_path):
    for names, message in (
        (("a",), "merge needs two bundles or more"),
        (("a", "a"), "the same release of a: its rows would count twice"),
        (("a", "nowhere"), "is not a folder"),
    ):
        done = merge(home, *names, output=tmp_path / "out")
        assert done.status == 2
        assert message in done.err
        assert done.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
    assert merge(home, "a", "b", output=tmp_path / "two").status == 0
    done = bundle("merge", tmp_path / "two", home / "bundles" / "b", "--output", tmp_path / "out")
    assert "have the same release of b" in done.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": [*NAMES[:9], "nine"]}, "which"),
        ({"class_names": [*NAMES, "letters"]}, "has a class 'letters', which"),
        ({"facts": {"backbone": {"input_size": [1, 9, 9]}}}, "was made in another way"),
    ],
)
def test_sites_that_disagree(home, digits, tmp_path, change, message):
    other = {"facts": {"backbone": {"input_size": [1, 8, 8]}}}
    site(tmp_path, "a", digits, slice(0, None, 2), meta=change)
    site(tmp_path, "b", digits, slice(1, None, 2), meta=other)
    folders = [bundled(tmp_path, name) for name in "ab"]
    for given in (folders, folders[::-1]):
        done = bundle("merge", *given, "--output", tmp_path / "out")
        assert done.status == 2
        assert message in done.err
        assert done.err.count("\n") == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("backbone", "dim", "message"),
    [("pixels", 32, "dimensions"), ("local-dir:weights", 64, "backbone")],
)
def test_other_rows(home, digits, tmp_path, backbone, dim, message):
    folder = tmp_path / "database" / "c" / backbone.replace(":", "_")
    for split in ("train", "val", "test"):
        part = getattr(digits, split)
        named = {"backbone": backbone, "class_names": NAMES}
        write(folder / f"{split}.npz", EmbeddingSet(part.embeddings[:, :dim], part.labels, named))
    method = ("--anonymizer", "dpgaussian", "--epsilon", 4, "--seed", 0)
    place = [backbone if flag == "pixels" else flag for flag in flags(tmp_path, "c")]
    assert call("anonymize", *place, *method).status == 0
    done = bundle("create", *place, *method, "--output", tmp_path / "other")
    assert done.status == 0, done.err
    done = bundle(
        "merge", home / "bundles" / "a", tmp_path / "other", "--output", tmp_path / "out"
    )
    assert done.status == 2
    assert f" has {message} " in done.err
    assert done.err.count("\n") == 1


def test_persons_and_rows_are_not_mixed(home, digits, tmp_path):
    for name, first in (("b", 1), ("c", 2)):
        site(tmp_path, name, digits, slice(first, None, 3))
        for number, split in enumerate(("train", "val", "test")):
            path = tmp_path / "database" / name / "pixels" / f"{split}.npz"
            data = read(path)
            write(path, replace(data, persons=10_000 * number + np.arange(len(data)) // 2))
    persons = [bundled(tmp_path, name) for name in "bc"]
    done = bundle("merge", home / "bundles" / "a", persons[0], "--output", tmp_path / "out")
    assert done.status == 2
    assert "has unit" in done.err
    done = bundle("merge", *persons, "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert "of the training persons of 2 sites, as long as no person is at two" in done.out


def test_other_methods_have_no_sums(home, tmp_path):
    cvae = bundled(home, "a", *CVAE, to="cvae")
    done = bundle("merge", home / "bundles" / "b", cvae, "--output", tmp_path / "out")
    assert done.status == 2
    assert "is a release of cvae: only those of dpgaussian consist of sums" in done.err


def forged(folder, change):
    """Other facts wherever they stand, as who knows the code would write them."""
    facts = read(folder / "train.npz").meta["facts"]
    change(facts)
    with_rows(folder, facts=facts)
    recompose(folder)


def halved(facts):
    for part in facts["sites"][0]["facts"]["budget"].values():
        part["noise_multiplier"] /= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(epsilon=1.0), "states epsilon 1.0, but its sites give"),
        (lambda f: f.update(delta=1e-6), "states delta 1e-06, but its sites give"),
        (lambda f: f.update(at_all_sites={}), "states at_all_sites"),
        (lambda f: f.update(assumed="nothing"), "states assumed 'nothing'"),
        (lambda f: f["sites"].pop(), "states sites 3, but its facts have 2"),
        (lambda f: f.update(sites=None), "has no sites with exactly the items"),
        (lambda f: f["sites"].__setitem__(1, f["sites"][0]), "has the sums of one site twice"),
        (halved, "states epsilon of "),
        (lambda f: f["sites"][0]["settings"].update(epsilon=-1), "a site with invalid settings"),
        (lambda f: f["sites"][0].update(settings=[]), "has a site without settings"),
        (lambda f: f["sites"][0].update(facts=[]), "has a site without facts"),
        (lambda f: f["sites"][0].update(noise_factors=[1.0]), "noise_factors are not 4"),
        (lambda f: f["sites"][0]["noise_factors"].__setitem__(0, 2.0), "a factor of class_counts"),
        (lambda f: f["sites"][0]["noise_factors"].__setitem__(1, 0.1), "states class_sums with"),
        (lambda f: f["sites"][0]["noise_factors"].__setitem__(1, "x"), "is not a number above 0"),
        (lambda f: f["sites"][0]["facts"].pop("noise"), "states no guarantee: 'noise' is missing"),
    ],
)
def test_facts_that_contradict(copy, change, message):
    forged(copy, change)
    refused(copy, message)


def test_a_decoder_with_half_the_noise(copy):
    path = copy / "decoder.safetensors"
    decoder = decoders.read(path)
    decoder.noise.mul_(0.5)
    path.write_bytes(decoders.serialized(decoder))
    recompose(copy)
    refused(copy, "states class_counts with noise")


def test_the_check_of_noise_is_what_refuses(copy, monkeypatch):
    forged(copy, halved)
    monkeypatch.setattr(private_sums, "require_near", lambda *_: None)
    assert bundle("verify", copy).status == 0


def test_nothing_of_a_site_beyond_its_bundle(home):
    """Neither fingerprints of the originals nor paths are in the merged files."""
    sheet = json.loads((home / "all" / "datasheet.json").read_text())
    real = [read(home / "database" / n / "pixels" / "train.npz").fingerprint for n in "abc"]
    text = json.dumps(sheet)
    assert not any(fingerprint in text for fingerprint in real)
    assert str(home) not in text
