"""The anonymizers on latents: centroids, straight lines and walks."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plan as benchmark
from src import anonymizers, classifiers, path_figure
from src.anonymizers import Resources, cvae, latent_ksame, latent_linear
from src.anonymizers.settings import CVAESettings
from src.database import Database, EmbeddingSet, read, write
from src.errors import InputError, OutputError
from src.metrics import nearest
from tests.conftest import call, files_below

CPU = Resources(torch.device("cpu"))
SHORT = {"k": 3, "num_epochs": 30, "latent_dim": 4}
WALK = {**SHORT, "path_points": 7, "path_steps": 60}
COUNTS = (20, 17, 11)


def clusters(counts=COUNTS, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(size=(len(labels), 9)) + 3 * np.eye(9)[labels]
    x[:, 5] = 2  # a constant feature
    meta = {"class_names": ["a", "b", "c"], "backbone": "pixels"}  # 3 × 3
    return EmbeddingSet(x.astype(np.float32), labels, meta)


TRAIN, VAL = clusters(), clusters(seed=1)


def settings(name, **values):
    return anonymizers.get(name).parse({**(WALK if name == "plan" else SHORT), **values})


def release(name, *, seed=0, resources=CPU, **values):
    entry = anonymizers.get(name)
    return anonymizers.anonymize(
        entry, settings(name, **values), TRAIN, VAL, seed=seed, resources=resources
    )


def test_ids_and_needed_settings():
    for name in ("latent-ksame", "latent-linear", "plan"):
        entry = anonymizers.get(name.upper())
        assert entry.release_id(entry.parse({"k": 5}), 0) == f"{name}-5-s0"
        with pytest.raises(InputError, match="needs --k"):
            entry.parse({})
    plan = anonymizers.get("plan")
    other = plan.parse({"k": 5, "privacy_weight": 1, "path_points": 7})
    assert plan.release_id(other, 3) == "plan-5-T7-priv1-s3"
    with pytest.raises(InputError, match="path_points 2"):
        plan.parse({"k": 5, "path_points": 2})


def test_centroids_are_means_of_k_latents_of_one_class():
    found = latent_ksame.centroids(TRAIN, VAL, settings("latent-ksame"), seed=0, resources=CPU)
    assert torch.bincount(found.labels).tolist() == [6, 5, 3]
    whole = settings("latent-ksame", k=11)  # the 11 rows of class c are one group
    whole = latent_ksame.centroids(TRAIN, VAL, whole, seed=0, resources=CPU)
    fitted = settings("latent-ksame").part(CVAESettings)
    model = cvae.fit(TRAIN, VAL, fitted, seed=0, resources=CPU)
    rows, labels = TRAIN.tensors(CPU.device)
    latents, _ = model.posterior(model.scale(rows), torch.eye(3)[labels])
    torch.testing.assert_close(whole.latents[2], latents[labels == 2].mean(0))
    released = release("latent-ksame", k=11)
    decoded = whole.decoder.embed(whole.latents, whole.labels)
    np.testing.assert_array_equal(released.embeddings, decoded)
    assert released.labels.tolist() == [0, 1, 2]


@given(items=st.integers(2, 9), data=st.data())
def test_pairs_meet_once_and_every_item_about_equally_often(items, data):
    count = data.draw(st.integers(1, items * (items - 1) // 2))
    pairs = latent_linear._pairs(10 + torch.arange(items), count)
    assert pairs.shape == (count, 2)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == count
    used = torch.bincount(pairs.flatten() - 10, minlength=items)
    assert used.max() - used.min() <= 1 + items % 2


def test_lines_are_between_two_centroids_of_a_class():
    chosen = settings("latent-linear")
    lines = latent_linear.lines(TRAIN, VAL, chosen, seed=0, resources=CPU)
    centroids = latent_ksame.centroids(TRAIN, VAL, chosen, seed=0, resources=CPU)
    first, second = (
        nearest(ends, centroids.latents).indices[:, 0] for ends in (lines.starts, lines.ends)
    )
    assert torch.equal(centroids.latents[first], lines.starts)
    assert torch.equal(centroids.labels[first], lines.labels)
    assert torch.equal(centroids.labels[second], lines.labels)
    assert (first != second).all()
    # 12 points a path, 10 of them between the ends: 20, 17 and 11 rows need 2 paths each
    assert torch.bincount(lines.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["latent-linear", "plan"])
def test_class_counts_are_those_of_training_and_no_point_is_drawn_twice(name):
    released = release(name)
    assert np.bincount(released.labels).tolist() == list(COUNTS)
    assert (np.diff(released.labels) >= 0).all()
    assert len(np.unique(released.embeddings, axis=0)) == sum(COUNTS)
    assert (released.embeddings[:, 5] == 2).all()


def test_a_walk_that_does_not_move_is_the_straight_line():
    straight = release("latent-linear", path_points=7)
    still = release("plan", path_lr=1e-9)
    np.testing.assert_array_equal(still.labels, straight.labels)
    np.testing.assert_allclose(still.embeddings, straight.embeddings, atol=1e-5)


def test_walks_are_more_private_than_lines_and_the_run_says_how_much(caplog):
    caplog.set_level(logging.INFO)
    facts = release("plan", privacy_weight=5).meta["facts"]
    assert facts["walked_losses"]["privacy"] < 0.9 * facts["straight_losses"]["privacy"]
    assert facts["identity_accuracy"] > 0.9
    assert "of rows identified under held-out jitter" in caplog.text
    assert "weak" not in caplog.text


def test_a_weak_identity_classifier_is_warned_of(caplog):
    facts = release("plan", identity_jitter=5.0, path_steps=1).meta["facts"]
    assert facts["identity_accuracy"] < 0.5
    assert "identity classifier is weak" in caplog.text


def test_identity_accuracy_counts_rows_that_are_told_apart():
    twins = EmbeddingSet(np.repeat(TRAIN.embeddings[:20], 2, axis=0), np.zeros(40, np.int64))
    model = classifiers.fit_identity(twins, jitter=0.05, seed=0, resources=CPU)
    accuracy = classifiers.identity_accuracy(model, twins, jitter=0.05, seed=0)
    assert 0.3 < accuracy < 0.75  # which of two equal rows it is cannot be known


def test_same_seed_same_bytes_with_and_without_checkpoints(tmp_path):
    kept = Resources(torch.device("cpu"), tmp_path)
    plain, fitted, reused = (release("plan", resources=r) for r in (CPU, kept, kept))
    assert plain.fingerprint == fitted.fingerprint == reused.fingerprint
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {
        "cvae-latent_dim4-num_epochs30-s0", "identity-jitter0.25-s0", "task-s0",
    }  # fmt: skip
    assert release("plan", seed=1).fingerprint != plain.fingerprint


def test_too_few_groups_are_named_with_what_would_do():
    with pytest.raises(InputError, match="11 rows of class c make 1 groups.*k up to 5"):
        release("latent-linear", k=8, path_points=40)
    with pytest.raises(InputError, match="11 rows of class c make 2 groups.*take 13 points"):
        release("latent-linear", k=5)
    assert len(release("latent-linear", k=5, path_points=13)) == sum(COUNTS)
    with pytest.raises(InputError, match="--k 12 is larger than the 11 rows of class c"):
        release("latent-ksame", k=12)


def test_figure_of_a_path(tmp_path):
    database = Database(tmp_path / "database", "small", "pixels")
    for split, data in {"train": TRAIN, "val": VAL, "test": VAL}.items():
        write(database.path(split), data)
    flags = [
        "--dataset", "small", "--backbone", "pixels", "--database_root", database.root,
        "--ckpt_root", tmp_path / "ckpts", "--device", "cpu", "--seed", "0", "--k", "3",
    ]  # fmt: skip
    figure = tmp_path / "figures" / "path.png"
    quick = ["--num_epochs", "3", "--path_steps", "5", "--quiet"]
    done = call("anonymize", *flags, *quick, "--anonymizer", "plan", "--figure", figure)
    assert done.status == 0, done.err
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert len(read(database.path("train", "plan-3-num_epochs3-steps5-s0"))) == sum(COUNTS)
    before = files_below(tmp_path)
    for wrong in (["plan", "--figure", tmp_path / "path.gif"], ["ksame", "--figure", figure]):
        done = call("anonymize", *flags, "--anonymizer", *wrong)
        assert done.status == 2
        assert "path.gif" in done.err or "ksame has none" in done.err
    assert files_below(tmp_path) == before


def test_the_same_figure_has_the_same_bytes(tmp_path):
    rows = np.random.default_rng(0).uniform(size=(4, 9)).astype(np.float32)
    example = path_figure.Example(rows, rows + 1, "a")
    for kind in (".png", ".pdf"):
        files = [tmp_path / f"{name}{kind}" for name in "xy"]
        for file in files:
            path_figure.check(file)
            path_figure.draw(file, example, TRAIN)
        assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(OutputError, match=r"\.png, \.pdf"):
        path_figure.check(tmp_path / "path.gif")


def test_the_benchmark_compares_each_run():
    def run(distance, confidence, auc):
        return benchmark.Measures(10, distance, distance / 2, confidence, confidence, 0.1, auc)

    runs = [
        {"plan": run(2, 0.1, 97), "latent-linear": run(1, 0.4, 97), "latent-ksame": run(1, 1, 96)},
        {"plan": run(1, 0.6, 95), "latent-linear": run(2, 0.5, 97), "latent-ksame": run(1, 1, 96)},
    ]
    margins = benchmark.margins(runs, "plan").values()
    np.testing.assert_allclose(
        list(margins), [[1, -1], [0.5, -0.5], [0.3, -0.1], [0.3, -0.1], [0, -2], [1, -1]]
    )
    assert "| plan | 10 | 1.500 ± 0.500 | 0.750 ± 0.250 |" in benchmark.table(runs)
