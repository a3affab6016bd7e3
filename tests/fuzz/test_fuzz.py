"""Damaged and made-up files: 500 of them, in this process, with 1 GiB more memory than it has."""

import random
import resource

import pytest

from benchmarks import changes, fuzz
from src.bundle import contents
from src.core import arrays
from src.networks import checkpoints
from tests.support import call


def test_every_input_is_accepted_as_equal_or_refused_in_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_AS)
    seen, failures = fuzz.run(500, 0, tmp_path)
    assert not failures, failures
    assert seen.total() == 500
    for target in ("bundle", "npz", "result"):  # neither all nor none
        assert seen[f"{target} accepted"] >= 5
        assert seen[f"{target} refused"] >= 50
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    ("check", "without", "found", "count"),
    [
        ((contents, "BLOCK"), 0, "bundle", 400),  # train.npz is compared in blocks of none
        ((arrays, "_check_count"), lambda *_: None, "npz", 10),
        ((checkpoints, "_sum"), lambda *_: None, "checkpoint", 100),
    ],
)
def test_a_check_that_is_missing_is_found(tmp_path, monkeypatch, check, without, found, count):
    """Each of these was missing, or might as well have been."""
    monkeypatch.setattr(*check, without)
    original = fuzz.made

    def some(folder):
        return {key: target for key, target in original(folder).items() if key == found}

    monkeypatch.setattr(fuzz, "made", some)
    monkeypatch.setattr(fuzz, "MADE", {"ksame": {"k": 2}})
    swallowing(monkeypatch)
    _, failures = fuzz.run(count, 0, tmp_path)
    assert failures


def swallowing(monkeypatch):
    """Of .npz files one damage alone: a directory entry that swallows the next as its comment."""

    def change(path, rng):
        raw = bytearray(path.read_bytes())
        entry = raw.rindex(b"labels.npy") - 46
        raw[entry + 32 : entry + 34] = rng.choice((60, 300, 65535)).to_bytes(2, "little")
        path.write_bytes(raw)

    monkeypatch.setattr(changes, "npz", change)


def test_the_same_seed_gives_the_same_inputs():
    def inputs(seed):
        return [changes.damaged(bytes(range(256)), random.Random(f"{seed}/{n}")) for n in range(9)]

    assert inputs(1) == inputs(1) != inputs(2)
    value = {"a": [1, {"b": 2.5}], "c": None}
    edits = [changes.json_text(value, random.Random(f"1/{n}")) for n in range(9)]
    assert edits == [changes.json_text(value, random.Random(f"1/{n}")) for n in range(9)]


def test_what_needs_too_much_memory_is_no_refusal(tmp_path):
    def greedy(path, original):
        return bool(bytearray(fuzz.MEMORY * 2))

    target = fuzz.Target([tmp_path / "a"], lambda path, rng: None, greedy)
    (tmp_path / "a").touch()
    with fuzz.limited(fuzz.MEMORY):
        why = fuzz._try(target, random.Random(0), tmp_path / "input")
    assert "MemoryError" in why


def test_the_benchmark_runs_as_many_as_asked():
    done = call("benchmarks.fuzz", "--count", 8, "--seed", 3, "--quiet")
    assert done.status == 0, done.out
    assert sum(int(line.split()[0]) for line in done.out.splitlines()) == 8
