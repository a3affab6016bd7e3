"""k-Same in blocks: what leaves are, that groups keep their promise, and what blocks cost."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.anonymizers import blocks, ksame, methods, trees
from src.core import cluster
from src.core.devices import Resources
from src.core.errors import InputError, OutputError
from src.database import EmbeddingSet
from tests.support import call

CPU = Resources(torch.device("cpu"), memory=1 << 30)
ON_THE_FLY = Resources(torch.device("cpu"), memory=0)


def mixture(n=3000, dim=24, centres=20, seed=0):
    rng = np.random.default_rng(seed)
    means = 2 * rng.normal(size=(centres, dim))
    noise = rng.normal(size=(n, dim)) * np.linspace(0.2, 1.5, dim)
    return (means[rng.integers(centres, size=n)] + noise).astype(np.float32)


def grouped(rows, k, block_rows, resources=CPU, **more):
    data = EmbeddingSet(rows, np.zeros(len(rows), np.int64), **more)
    return ksame.groups(data, k, per_class=False, block_rows=block_rows, resources=resources)


def within(rows, groups):
    """The share of the variance that is within groups, in percent."""
    kept = rows[groups].astype(np.float64)
    everything = kept.reshape(-1, rows.shape[1])
    inner = np.square(kept - kept.mean(1, keepdims=True)).sum()
    return 100 * inner / np.square(everything - everything.mean(0)).sum()


def test_two_clouds_are_cut_between_them():
    rows = np.array([[0.0], [9.0], [1.0], [8.0], [0.5], [10.0]], np.float32)
    cut = trees.leaves(rows, np.arange(6), 3, 3)
    assert sorted(leaf.tolist() for leaf in cut) == [[0, 2, 4], [1, 3, 5]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_leaves_hold_every_row_once_in_multiples_of_k(data):
    k = data.draw(st.integers(2, 6), "k")
    n = k * data.draw(st.integers(1, 60), "groups")
    block = data.draw(st.integers(2 * k, 8 * k), "B")
    levels = data.draw(st.integers(1, 50), "grey levels")  # ties, and all rows equal
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    rows = rng.integers(levels, size=(n + 5, 3)).astype(np.float32)
    members = np.sort(rng.permutation(n + 5)[:n])
    cut = trees.leaves(rows, members, k, block)
    np.testing.assert_array_equal(np.sort(np.concatenate(cut)), members)
    for leaf in cut:
        assert len(leaf) % k == 0
        assert 0 < len(leaf) <= block
        assert (np.diff(leaf) > 0).all()


@pytest.mark.parametrize("block", [25, 100, 333, 2000])
def test_blocks_hang_on_the_data_alone(block, monkeypatch):
    rows = mixture(1500)
    first = grouped(rows, 5, block)
    monkeypatch.setattr(trees, "CHUNK", 1000)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        np.testing.assert_array_equal(grouped(rows, 5, block, ON_THE_FLY), first)
    finally:
        torch.set_num_threads(before)
    for factor in (2.0**-60, 2.0**40):
        np.testing.assert_array_equal(grouped(rows * np.float32(factor), 5, block), first)


def test_a_block_that_holds_all_rows_gives_the_exact_groups(digits):
    rows = digits.train.embeddings
    np.testing.assert_array_equal(grouped(rows, 5, len(rows)), grouped(rows, 5, None))


@pytest.mark.parametrize(("block", "most"), [(450, 3), (225, 3), (112, 4)])
def test_blocks_cost_little_of_the_variance_within_groups(digits, block, most):
    for rows in (digits.train.embeddings, mixture()):
        exact, blocked = (within(rows, grouped(rows, 5, b)) for b in (len(rows), block))
        shuffled = np.random.default_rng(0).permutation(len(rows) // 5 * 5)
        assert exact - 0.5 < blocked < exact + most
        assert (
            blocked < within(rows, shuffled.reshape(-1, 5)) / 2
        )  # of rows that are near each other


def test_rows_of_a_person_are_in_different_groups():
    rows = mixture(600)
    groups = grouped(rows, 3, 60, persons=np.repeat(np.arange(200), 3))
    assert len(groups) > 150
    people = np.sort(groups // 3, axis=1)
    assert (np.diff(people, axis=1) > 0).all()


def test_the_last_rows_of_the_file_are_dropped_as_without_blocks():
    groups = grouped(mixture(403), 5, 50)
    np.testing.assert_array_equal(np.sort(groups, axis=None), np.arange(400))


def test_blocks_within_each_class():
    rows = mixture(400)
    data = EmbeddingSet(rows, np.arange(400) % 2)
    made = ksame.release(data, 4, per_class=True, block_rows=40, resources=CPU)
    assert made.facts["groups"] == 100
    labelled = np.column_stack((made.embeddings, made.labels))
    counts = np.unique(labelled, axis=0, return_counts=True)[1]
    assert counts.tolist() == [4] * 100


def test_many_rows_are_grouped_in_blocks_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(ksame, "MOST_ROWS", 500)
    monkeypatch.setattr(ksame, "BLOCK_ROWS", 100)
    rows = mixture(600)
    with caplog.at_level(logging.INFO):
        groups = grouped(rows, 5, None)
    assert "grouped within 6 blocks of at most 100 nearby rows" in caplog.text
    np.testing.assert_array_equal(groups, grouped(rows, 5, 100))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        grouped(rows[:500], 5, None)
        grouped(rows, 5, 200)
    assert not caplog.text


def test_a_block_holds_two_groups_at_least():
    assert methods.KSame(k=5, block_rows=10).release_id(0) == "ksame-5-block10"
    with pytest.raises(InputError, match="--block_rows 9 is below 2 k = 10"):
        methods.KSame(k=5, block_rows=9)


def test_finished_blocks_are_kept_until_all_are_made(tmp_path, monkeypatch):
    rows, resources = mixture(600), replace(CPU, ckpt_folder=tmp_path / "ckpts")
    expected, whole, calls = grouped(rows, 5, 100), ksame.group, []

    def interrupted(embeddings, persons=None, **settings):
        calls.append(len(embeddings))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(embeddings, persons, **settings)

    monkeypatch.setattr(ksame, "group", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grouped(rows, 5, 100, resources)
    np.testing.assert_array_equal(grouped(rows, 5, 100, resources), expected)
    assert len(calls) == 4 + 3  # of six blocks three were kept
    assert not list((tmp_path / "ckpts").rglob("*.npy"))
    other = mixture(600, seed=1)
    np.testing.assert_array_equal(grouped(other, 5, 100, resources), grouped(other, 5, 100))


def test_what_is_kept_of_other_rows_or_damaged_is_not_used(tmp_path, monkeypatch):
    resources = replace(CPU, ckpt_folder=tmp_path)
    monkeypatch.setattr(blocks.shutil, "rmtree", lambda *_, **__: None)
    rows = mixture(600)
    expected = grouped(rows, 5, 100, resources)
    kept = sorted(tmp_path.rglob("*.npy"))
    assert len(kept) == 6
    kept[0].write_bytes(b"")
    np.testing.assert_array_equal(grouped(rows, 5, 100, resources), expected)
    np.testing.assert_array_equal(grouped(rows, 4, 100, resources), grouped(rows, 4, 100))
    moved = np.roll(rows, 1, axis=0)
    np.testing.assert_array_equal(grouped(moved, 5, 100, resources), grouped(moved, 5, 100))


def test_a_full_disk_is_said_before_work(tmp_path, monkeypatch):
    usage = blocks.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(blocks.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(ksame, "group", lambda *_, **__: pytest.fail("grouped"))
    with pytest.raises(OutputError, match="needs 5,400 bytes .* 100 are free"):
        grouped(mixture(600), 5, 100, replace(CPU, ckpt_folder=tmp_path))


def test_processes_make_the_same_groups(roots, database, tmp_path):
    release = database.path("train", "ksame-5-block200")
    flags = [*roots, "--anonymizer", "ksame", "--k", "5", "--block_rows", "200"]
    made = []
    for jobs in (1, 2):
        done = call("anonymize", *flags, "--jobs", jobs, "--ckpt_root", tmp_path / "ckpts")
        assert done.status == 0, done.err
        made.append(release.read_bytes())
    assert made[0] == made[1]


def test_a_scheduler_that_does_not_answer_is_one_line(roots, database, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    done = call(
        "anonymize",
        *(*roots, "--anonymizer", "ksame", "--k", "5", "--ckpt_root", tmp_path / "ckpts"),
        *("--scheduler", "tcp://127.0.0.1:9"),
    )
    assert done.status == 2
    assert done.err.startswith("error: no Dask scheduler answers at tcp://127.0.0.1:9")
