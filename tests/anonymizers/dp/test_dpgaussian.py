"""Private Gaussians: what a release consists of and states, odd inputs, the scripts."""

import json
import math

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.anonymizers.cvae import draws
from src.anonymizers.dp import analytic, dpgaussian
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet, read
from src.probing import head
from src.probing.settings import HeadSettings
from tests.anonymizers.dp.support import CPU, google_epsilon, without_meta
from tests.support import call, files_below


def release(train, val=None, *, seed=0, resources=CPU, **values):
    method = methods.parse("dpgaussian", {"epsilon": 2.0, **values})
    return method.anonymize(train, val or train, seed=seed, resources=resources)


def facts_of(train, **values):
    return release(train, **values).meta["facts"]


@pytest.mark.parametrize(("epsilon", "pixels"), [(1.0, True), (8.0, False), (0.05, False)])
def test_epsilon_by_another_accountant(digits, epsilon, pixels):
    train = digits.train if pixels else without_meta(digits.train)
    facts = facts_of(train, epsilon=epsilon)
    names = {"class_counts", "centre", "radius", "class_sums", "squares", "moments"}
    assert {*facts["budget"]} == names | (set() if pixels else {"norms", "scaling"})
    noise = [part["noise_multiplier"] for part in facts["budget"].values()]
    other = google_epsilon(*((multiplier, 1.0, 1) for multiplier in noise))
    assert facts["epsilon"] == pytest.approx(other, rel=0.01)
    assert 0.999 * epsilon < facts["epsilon"] <= epsilon
    assert sum(part["share"] for part in facts["budget"].values()) == pytest.approx(1)
    whole = analytic.noise_multiplier(epsilon, 1e-5)
    for part in facts["budget"].values():
        assert part["sensitivity"] == 1.0
        assert part["noise_multiplier"] == pytest.approx(whole / math.sqrt(part["share"]))
        assert part["epsilon_alone"] < facts["epsilon"]


def test_facts_do_not_depend_on_rows_but_for_what_is_noisy(digits):
    rng = np.random.default_rng(0)
    other = EmbeddingSet(
        rng.random((1100, 64), dtype=np.float32), rng.integers(0, 10, 1100), digits.train.meta
    )
    ours, theirs = facts_of(digits.train), facts_of(other, seed=1)
    noisy = ("kept", "norm_bounds")
    assert {n: v for n, v in ours.items() if n not in noisy} == {
        n: v for n, v in theirs.items() if n not in noisy
    }
    assert ours["neighbours"] == "one row added or removed"
    assert ours["counts_are_of"] == "rows"
    assert ours["norm_bounds"][0] == 8.0


def test_facts_say_how_much_was_kept(digits):
    much, little = (facts_of(digits.train, epsilon=e)["kept"] for e in (20.0, 0.2))
    assert much["of_directions"] == little["of_directions"] == 64
    assert much["directions"] > 20 > little["directions"]
    assert min(much["class_means"]) > 0.95 > max(little["class_means"])
    assert much["variance_share"] > little["variance_share"]


def test_the_same_seed_gives_the_same_bytes(digits, tmp_path):
    first, again = release(digits.train), release(digits.train)
    assert first.fingerprint == again.fingerprint
    assert first.meta == again.meta
    kept = Resources(CPU.device, tmp_path)
    with_key = release(digits.train, resources=kept)
    assert with_key.fingerprint == release(digits.train, resources=kept).fingerprint
    others = [release(digits.train, seed=1), with_key, release(digits.train, max_norm=8.0)]
    assert first.fingerprint not in [other.fingerprint for other in others]


def test_validation_rows_are_not_used(digits):
    assert release(digits.train, digits.test).fingerprint == release(digits.train).fingerprint


def test_neighbours_share_no_noise(digits):
    train = digits.train
    less = EmbeddingSet(train.embeddings[:-1], train.labels[:-1], train.meta)
    ours, theirs = (
        dpgaussian.fit(data, methods.DPGaussian(epsilon=1.0), seed=0, resources=CPU).sampler.sums
        for data in (train, less)
    )
    assert ((ours.counts - theirs.counts).abs() > 1.5).sum() > 5
    assert float((ours.moments - theirs.moments).std()) > 1


def test_the_release_is_drawn_from_the_decoder_and_held_once(digits):
    method = methods.DPGaussian(epsilon=2.0)
    decoder = method.decoder(digits.train, digits.val, seed=3, resources=CPU)
    again = EmbeddingSet(*draws(decoder, seed=3))
    assert again.fingerprint == release(digits.train, seed=3).fingerprint
    online = methods.parse("dpgaussian-online", method.given, methods.ALL)
    reference = online.reference(digits.train, decoder, seed=3)
    assert reference.fingerprint == again.fingerprint


@pytest.mark.parametrize(("epsilon", "bar"), [(1.0, 97.5), (4.0, 98.8), (8.0, 98.8)])
def test_it_is_useful(digits, epsilon, bar):
    aucs = []
    for seed in range(2):
        rows = release(digits.train, seed=seed, epsilon=epsilon)
        fitted = head.fit(rows, digits, HeadSettings(), seed=seed, device=torch.device("cpu"))
        aucs.append(head.evaluate(fitted, digits.test, seed=seed).auc)
    assert np.mean(aucs) > bar


# Odd inputs.


def small(rows, labels=None, **meta):
    rows = np.asarray(rows, np.float32)
    return EmbeddingSet(rows, np.arange(len(rows)) % 2 if labels is None else labels, meta)


ODD = {
    "one row": small([[1.0, 2, 3]], np.array([0])),
    "one feature": small(np.random.default_rng(0).normal(size=(50, 1))),
    "constant features": small(np.ones((60, 4)) * [0, 7, -1e-6, 1e20]),
    "zeros": small(np.zeros((40, 3))),
    "huge": small(np.full((40, 3), 3e38)),
    "subnormal": small(np.full((40, 3), 1e-44)),
    "a class without a row": small(
        np.random.default_rng(0).normal(size=(60, 5)), class_names=["a", "b", "c"]
    ),
    "more features than rows": small(np.random.default_rng(0).normal(size=(9, 40))),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("epsilon", [0.01, 100.0])
def test_odd_rows_give_a_finite_release(name, epsilon):
    data = ODD[name]
    released = release(data, epsilon=epsilon)
    assert np.isfinite(released.embeddings).all()
    assert np.bincount(released.labels, minlength=len(data.class_names)).min() >= 1
    assert released.dim == data.dim
    assert json.loads(json.dumps(released.meta["facts"], allow_nan=False))


def test_constant_features_come_near_their_constant():
    rows = np.random.default_rng(0).normal(size=(4000, 3))
    rows[:, 1] = 5
    released = release(small(rows), epsilon=20.0).embeddings
    assert released[:, 1].mean() == pytest.approx(5, abs=0.1)
    assert released[:, 1].std() < 0.5 * released[:, 0].std()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "dpgaussian needs --epsilon"),
        ({"epsilon": 0.0}, "--epsilon 0.0 must be greater than 0"),
        ({"epsilon": -1.0}, "--epsilon -1.0 must be greater than 0"),
        ({"epsilon": 101.0}, "--epsilon 101.0 is above its maximum, 100"),
        ({"epsilon": 1.0, "max_norm": 0.0}, "--max_norm 0.0 must be greater than 0"),
        ({"epsilon": 1.0, "max_norm": -2.0}, "--max_norm -2.0 must be greater than 0"),
        ({"epsilon": 1.0, "count_share": 0.0}, "--count_share 0.0 is below its minimum"),
        ({"epsilon": 1.0, "moment_share": 0.9}, "must add up to less than 1"),
        ({"epsilon": 1.0, "moment_share": 0.83}, "leave nothing for the class sums"),
        ({"epsilon": 1.0, "unit": "patient"}, "unknown unit 'patient'"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        methods.parse("dpgaussian", values)


def test_a_delta_that_would_allow_to_release_a_row(digits):
    with pytest.raises(InputError, match=r"--delta 0.001 must be below 1/n: at most 0.0001"):
        release(digits.train, delta=1e-3)


def test_ids():
    method = methods.DPGaussian(epsilon=0.5, delta=1e-6, unit="row")
    assert method.release_id(3) == "dpgaussian-eps0.5-delta1e-06-unitrow-s3"
    assert methods.parse("dpgaussian", {"epsilon": 8}).release_id(0) == "dpgaussian-eps8-s0"


# At the command line.


def script(roots, tmp_path, *more):
    flags = ["--anonymizer", "DPGaussian", "--seed", 0, *more]
    return call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *flags)


def test_the_last_line_states_the_guarantee(roots, database, tmp_path):
    done = script(roots, tmp_path, "--epsilon", 2)
    assert done.status == 0, done.err
    released = read(database.path("train", "dpgaussian-eps2-s0"))
    assert json.loads(done.out.splitlines()[-1]) == released.meta["facts"]
    assert released.meta["facts"]["epsilon"] <= 2
    assert released.meta["unit"] == "row"
    assert (tmp_path / "ckpts" / "digits" / "pixels" / "privacy.key").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epsilon", 0], "--epsilon 0.0 must be greater than 0"),
        (["--epsilon", 1, "--delta", 0.01], "--delta 0.01 must be below 1/n"),
        (["--epsilon", 1, "--max_norm", 0], "--max_norm 0.0 must be greater than 0"),
        (["--epsilon", 1, "--centre_share", 0.9], "must add up to less than 1"),
        (["--epsilon", 1, "--unit", "person"], "--unit person: the embeddings do not say whose"),
        (["--epsilon", 1, "--delta", 1e-15], "--delta 1e-15 is too small"),
    ],
)
def test_one_line_and_nothing_written(roots, tmp_path, flags, message):
    before = files_below(tmp_path)
    done = script(roots, tmp_path, *flags)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert files_below(tmp_path) == before


def test_the_online_head_finds_the_sums_of_the_release(roots, database, tmp_path, monkeypatch):
    """Other sums would be another release, whose ε adds up with the first."""
    assert script(roots, tmp_path, "--epsilon", 4).status == 0
    seen = []
    fit = head.fit_online

    def fit_online(decoder, reference, *args, **kwargs):
        seen.append(reference.fingerprint)
        return fit(decoder, reference, *args, **kwargs)

    monkeypatch.setattr(head, "fit_online", fit_online)
    folders = ["--ckpt_root", tmp_path / "ckpts", "--output_root", tmp_path / "logs"]
    flags = ["--anonymizer", "dpgaussian-online", "--epsilon", 4, "--seed", 0, "-e", 2]
    done = call("probing_noise_cvae", *roots, *folders, *flags, "--sigma", 0, 1)
    assert done.status == 0, done.err
    assert seen == [read(database.path("train", "dpgaussian-eps4-s0")).fingerprint]
    results = sorted((tmp_path / "logs").rglob("*.json"))
    assert [path.stem for path in results] == [
        f"digits_dpgaussian-online-eps4-s0_sigma{sigma}" for sigma in (0, 1)
    ]
    assert json.loads(results[0].read_text())["auc"] > 97
