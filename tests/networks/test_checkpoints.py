"""Checkpoints: whole or absent, and only reused for what they were made from."""

import resource

import pytest
import torch

from src.core.errors import OutputError
from src.networks import checkpoints


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"w": torch.ones(3)}, {"seed": 1})
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes of a file
    try:
        with pytest.raises(OutputError, match=r"cannot write .*a\.safetensors: File too large"):
            checkpoints.save(path, {"w": torch.ones(1000)}, {"seed": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert checkpoints.load(path, {"seed": 1})["w"].tolist() == [1, 1, 1]
    assert checkpoints.load(path, {"seed": 2}) is None


def filled(model, value, calls):
    def fit():
        calls.append(value)
        with torch.no_grad():
            model.weight.fill_(value)

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
    assert path.with_suffix(".json").read_text() == '{\n "seed": 2\n}\n'
    path.write_bytes(path.read_bytes()[:20])
    checkpoints.restore_or_fit(model, path, {"seed": 2}, filled(model, 4.0, calls))
    assert calls == [1.0, 3.0, 4.0]
    assert "cannot be read" in caplog.text


def test_without_a_path_nothing_is_kept(tmp_path):
    model, calls = torch.nn.Linear(2, 1, bias=False), []
    for value in (1.0, 2.0):
        checkpoints.restore_or_fit(model, None, {}, filled(model, value, calls))
    assert calls == [1.0, 2.0]
    assert list(tmp_path.iterdir()) == []
