"""Bundles of private Gaussians: noisy sums in a file, an ε that is computed from their noise."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src.anonymizers import methods
from src.anonymizers.cvae import draws
from src.bundle import contents, datasheet, decoders, private_sums
from src.core.errors import DataError
from src.database import EmbeddingSet, read, write
from src.networks.gaussians import Gaussians
from tests.bundle.support import bundle, flags_of, recompose, refused, sum_up, with_rows
from tests.support import call

FLAGS = ["--anonymizer", "dpgaussian", "--epsilon", "2", "--seed", "0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """The bundle of a release, and the release."""
    home = tmp_path_factory.mktemp("sums")
    folder = home / "database" / "digits" / "pixels"
    for split in ("train", "val", "test"):
        write(folder / f"{split}.npz", getattr(digits, split))
    place = flags_of(home)
    assert call("anonymize", *place, *FLAGS).status == 0
    done = bundle("create", *place, *FLAGS, "--output", home / "bundle")
    assert done.status == 0, done.err
    return home


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made / "bundle", tmp_path / "bundle")


def with_decoder(folder, change):
    path = folder / "decoder.safetensors"
    decoder = decoders.read(path)
    change(decoder)
    path.write_bytes(decoders.serialized(decoder))
    recompose(folder)


def forged(folder, *, settings=(), **facts):
    """Other numbers wherever they stand, as who knows the code would write them."""
    rows = read(folder / "train.npz")
    changed = {**rows.meta["settings"], **dict(settings)}
    with_rows(folder, facts={**rows.meta["facts"], **facts}, settings=changed)
    sheet = json.loads((folder / "datasheet.json").read_text())
    anonymizer = methods.parse("dpgaussian", changed)
    recompose(folder, release=anonymizer.release_id(0), guarantee=sheet["guarantee"])


def budget_with(folder, name, **changes):
    budget = read(folder / "train.npz").meta["facts"]["budget"]
    return {**budget, name: {**budget[name], **changes}}


def test_verify_shows_epsilon(copy):
    done = bundle("verify", copy)
    assert done.status == 0, done.err
    assert "(2, 1e-05)-differential privacy of the training rows (neighbours: one row" in done.out
    assert f"shown: {private_sums.EPSILON}" in done.out
    assert "shown: each class has as many rows as the decoder counts" in done.out
    assert "stated, not checked: fact: kept" in done.out
    assert "fact: epsilon" not in done.out


def test_the_decoder_holds_the_noisy_sums(copy, made):
    decoder = decoders.read(copy / "decoder.safetensors")
    assert isinstance(decoder, Gaussians)
    facts = read(copy / "train.npz").meta["facts"]
    noise = [facts["budget"][n]["noise_multiplier"] for n in ("class_counts", "class_sums")]
    np.testing.assert_allclose(decoder.sums.noise[:2], noise, rtol=1e-6)
    assert decoder.sums.moments.shape == (64, 64)
    assert facts["norm_bounds"][1] == pytest.approx(float(decoder.sums.radius))
    again = EmbeddingSet(*draws(decoder, seed=0))
    assert again.fingerprint == read(copy / "train.npz").fingerprint


def test_fresh_rows(copy, tmp_path):
    files = []
    for seed in (1, 1, 2):
        files.append(tmp_path / f"{len(files)}.npz")
        done = bundle("sample", copy, "--rows", 500, "--seed", seed, "--output", files[-1])
        assert done.status == 0, done.err
    first, again, other = map(read, files)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.embeddings.shape == (500, 64)
    released = read(copy / "train.npz")
    means = [rows.embeddings[rows.labels == 3].mean(0) for rows in (first, released)]
    assert np.corrcoef(*means)[0, 1] > 0.9


def test_a_head_on_a_partners_decoder(copy, made, tmp_path):
    done = call(
        "probing_noise_cvae", *flags_of(made), "--decoder", copy, "--sigma", 0, "-e", 2,
        "--output_root", tmp_path / "logs", "--seed", 0,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "AUC 9" in done.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 1.0}, "states epsilon 1, but its mechanisms cost 2"),
        ({"epsilon": 2.5}, "states epsilon 2.5, more than the 2.0 allowed"),
        ({"neighbours": "one person, with all rows of theirs, added or removed"}, "states neighb"),
        ({"counts_are_of": "persons"}, "states counts_are_of 'persons', but"),
        ({"accountant": "mine"}, "states an unknown accountant"),
        ({"budget": {}}, "has no budget of class_counts, centre, radius, squares"),
        ({"budget": None}, "has no budget of class_counts"),
        ({"norm_bounds": [1.0]}, "which are not two numbers"),
        ({"norm_bounds": [7.0, 2.378414]}, "states a public norm 7, but its settings give 8"),
        ({"norm_bounds": [8.0, 9.0]}, "states the radius 9"),
        ({"delta": 1e-6}, "states epsilon of "),
    ],
)
def test_facts_that_contradict(copy, change, message):
    forged(copy, **change)
    refused(copy, message)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"sensitivity": 0.5}, "states the sensitivity of moments 0.5"),
        ({"share": 0.3}, "states the share of moments 0.3, but its settings"),
        ({"epsilon_alone": 0.1}, "states epsilon of moments 0.1"),
        ({"noise_multiplier": 1e-9}, "which no fit has"),
        ({"noise_multiplier": "x"}, "is not a number above 0"),
        ({"more": 1}, "has a budget whose part moments has unknown or missing items"),
    ],
)
def test_a_part_of_the_budget_that_contradicts(copy, part, message):
    forged(copy, budget=budget_with(copy, "moments", **part))
    refused(copy, message)


def test_a_decoder_with_half_the_noise(copy):
    with_decoder(copy, lambda decoder: decoder.noise.mul_(0.5))
    refused(copy, "states class_counts with noise")


def test_epsilon_of_half_the_noise_in_the_facts(copy):
    """Facts and decoder agree on less noise: what that costs is not what is stated."""
    budget = read(copy / "train.npz").meta["facts"]["budget"]
    for part in budget.values():
        part["noise_multiplier"] /= 2
    forged(copy, budget=budget)
    refused(copy, "states epsilon of ")


def test_the_check_of_noise_is_what_refuses(copy, monkeypatch):
    forged(copy, epsilon=1.0)
    monkeypatch.setattr(private_sums, "require_near", lambda *_: None)
    recompose(copy, guarantee=sentence(copy, "(1, 1e-05)"))
    assert bundle("verify", copy).status == 0


def sentence(folder, start):
    sheet = json.loads((folder / "datasheet.json").read_text())
    return start + sheet["guarantee"][sheet["guarantee"].index(")") + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("centre"), "unexpected or missing tensors: centre"),
        (lambda t: t.update(secret=torch.ones(3)), "unexpected or missing tensors: secret"),
        (lambda t: t.update(scale=torch.ones(3)), "does not hold a decoder"),
        (lambda t: t["scale"].fill_(0), "not above 0"),
        (lambda t: t["radius"].fill_(-1), "not above 0"),
        (lambda t: t["moments"].fill_(float("nan")), "not finite"),
        (lambda t: t["moments"][0].fill_(1), "not symmetric"),
        (lambda t: t.update(moments=t["moments"].double()), "not finite float32"),
        (lambda t: t.update(class_sums=torch.ones(0, 64), counts=torch.ones(0)), "not above 0"),
    ],
)
def test_sums_that_are_none(copy, tmp_path, change, message):
    path = copy / "decoder.safetensors"
    tensors = {name: part.clone() for name, part in decoders.read(path).state_dict().items()}
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(DataError, match=message):
        decoders.read(path)


def test_another_methods_decoder(copy, home):
    shutil.copy(home / "dp" / "decoder.safetensors", copy / "decoder.safetensors")
    sheet = json.loads((copy / "datasheet.json").read_text())
    decoder = decoders.read(copy / "decoder.safetensors")
    rows = read(copy / "train.npz")
    sheet |= datasheet.described(rows, decoder)
    (copy / "datasheet.json").write_text(datasheet.canonical(sheet))
    sum_up(copy)
    refused(copy, "datasheet.json")


def test_no_ids_of_persons_leave(made, digits, tmp_path):
    folder = tmp_path / "database" / "digits" / "pixels"
    for split, first in (("train", 0), ("val", 10**6), ("test", 2 * 10**6)):
        data = getattr(digits, split)
        persons = first + 98765 + np.arange(len(data)) // 3
        write(
            folder / f"{split}.npz", EmbeddingSet(data.embeddings, data.labels, data.meta, persons)
        )
    place = flags_of(tmp_path)
    assert call("anonymize", *place, *FLAGS).status == 0
    done = bundle("create", *place, *FLAGS, "--output", tmp_path / "bundle")
    assert done.status == 0, done.err
    verified = bundle("verify", tmp_path / "bundle")
    assert "of the training persons (neighbours: one person, with all rows" in verified.out
    found = contents.read(tmp_path / "bundle")
    assert found.rows.persons is None
    assert found.sheet["facts"]["counts_are_of"] == "persons"
    for path in (tmp_path / "bundle").iterdir():
        content = path.read_bytes()
        assert b"98765" not in content
        assert np.int64(98765).tobytes() not in content
