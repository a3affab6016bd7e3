"""Checkpoints: whole or absent, and only reused for what they were made from."""

import json
import logging
import resource
import subprocess
import sys
import time

import pytest
import torch

from src.core.errors import OutputError
from src.networks import checkpoints
from src.networks.training import Fit
from tests.support import ROOT

WENT = Fit(epochs=7, best_epoch=5, best_loss=0.25, seconds=1.5, losses=(0.5, 0.25))


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"w": torch.ones(3)}, {"seed": 1}, WENT)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes of a file
    try:
        with pytest.raises(OutputError, match=r"cannot write .*a\.safetensors: File too large"):
            checkpoints.save(path, {"w": torch.ones(1000)}, {"seed": 2}, WENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert checkpoints.load(path, {"seed": 1}).tensors["w"].tolist() == [1, 1, 1]
    assert checkpoints.load(path, {"seed": 2}) is None


def filled(model, value, calls):
    def fit():
        calls.append(value)
        with torch.no_grad():
            model.weight.fill_(value)
        return WENT

    return fit


def test_weights_are_restored_only_where_all_they_depend_on_is_the_same(tmp_path, caplog):
    path, calls = tmp_path / "m.safetensors", []
    model = torch.nn.Linear(2, 1, bias=False)
    for value, depends_on, expected in (
        (1.0, {"seed": 1}, 1.0),  # nothing there yet: fitted and kept
        (2.0, {"seed": 1}, 1.0),  # found
        (3.0, {"seed": 2}, 3.0),  # another seed: fitted again
    ):
        torch.nn.init.zeros_(model.weight)
        fit = filled(model, value, calls)
        checkpoints.restore_or_fit(model, path, depends_on, fit)
        assert model.weight.tolist() == [[expected] * 2]
    assert calls == [1.0, 3.0]
    text = json.loads(path.with_suffix(".json").read_text())
    assert text == {"seed": 2, "fit": {**WENT._asdict(), "losses": [0.5, 0.25]}}
    path.write_bytes(path.read_bytes()[:20])
    checkpoints.restore_or_fit(model, path, {"seed": 2}, filled(model, 4.0, calls))
    assert calls == [1.0, 3.0, 4.0]
    assert "m.safetensors is truncated or damaged" in caplog.text


def test_without_a_path_nothing_is_kept(tmp_path):
    model, calls = torch.nn.Linear(2, 1, bias=False), []
    for value in (1.0, 2.0):
        checkpoints.restore_or_fit(model, None, {}, filled(model, value, calls))
    assert calls == [1.0, 2.0]
    assert list(tmp_path.iterdir()) == []


def test_how_the_fit_went_is_kept_and_said_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path, model = tmp_path / "m.safetensors", torch.nn.Linear(2, 1, bias=False)
    for _ in range(2):
        checkpoints.restore_or_fit(model, path, {"seed": 1}, filled(model, 1.0, []))
    line = f"{path}: 7 epochs, the best is 5, validation loss 0.25"
    assert [record.getMessage() for record in caplog.records] == [
        f"fitted {line}", f"reusing {line}"
    ]  # fmt: skip
    assert checkpoints.load(path, {"seed": 1}).fit == WENT._replace(seconds=0.0, losses=())


def test_the_same_fit_gives_the_same_bytes_however_long_it_took(tmp_path):
    path, written = tmp_path / "m.safetensors", []
    for seconds in (1.0, 2.0):
        went = WENT._replace(seconds=seconds)
        checkpoints.save(path, {"w": torch.ones(3)}, {"seed": 1}, went)
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_any_changed_byte_leads_to_another_fit_or_to_the_same_weights(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoints.save(path, {"w": torch.ones(3)}, {"seed": 1}, WENT)
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in (1, 32, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            found = checkpoints.load(path, {"seed": 1})
            assert found is None or found.tensors["w"].tolist() == [1, 1, 1]


SAVER = """
import sys, torch
from pathlib import Path
from src.networks import checkpoints
from src.networks.training import Fit
value = int(sys.argv[2])
for _ in range(25):
    weights = {"w": torch.full((50_000,), float(value))}
    checkpoints.save(Path(sys.argv[1]), weights, {"seed": value}, Fit(1, 1, 0.5, 0.0))
"""


def test_two_processes_that_save_one_checkpoint_leave_one_of_the_two(tmp_path):
    path = tmp_path / "m.safetensors"
    savers = [
        subprocess.Popen([sys.executable, "-c", SAVER, str(path), value], cwd=ROOT)
        for value in "12"
    ]
    found = 0
    while any(saver.poll() is None for saver in savers):
        time.sleep(0.01)
        for value in (1, 2):
            kept = checkpoints.load(path, {"seed": value})
            found += kept is not None
            assert kept is None or kept.tensors["w"].eq(value).all()
    assert [saver.returncode for saver in savers] == [0, 0]
    assert found
    whole = [checkpoints.load(path, {"seed": value}) for value in (1, 2)]
    assert sum(kept is not None for kept in whole) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.json", "m.safetensors"]
