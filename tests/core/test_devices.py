"""Which device a name stands for, and how much memory it has."""

import pytest
import torch

from src.core import devices
from src.core.errors import DeviceError

CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 8 GiB available; `limit` and `use` are files of its control group."""
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n")
    monkeypatch.setattr(devices, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(devices, "_GROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [(None, None, 8), ("max", 1, 8), (3 << 30, 1 << 30, 2), (64 << 30, 0, 8), (1, 9, 0)],
)
def test_a_group_s_limit_counts(system, limit, used, expected):
    if limit is not None:
        (system / "memory.max").write_text(f"{limit}\n")
        (system / "memory.current").write_text(f"{used}\n")
    assert devices.free_memory(CPU) == expected << 30


def test_a_system_that_does_not_tell(system):
    (system / "meminfo").unlink()
    assert devices.free_memory(CPU) == 4 << 30


def test_resources_are_a_device_and_a_share_of_its_free_memory(system, tmp_path):
    assert devices.resources("cpu") == devices.Resources(CPU, None, 4 << 30)
    ours = devices.resources("cpu", tmp_path, share=0.25)
    assert ours == devices.Resources(CPU, tmp_path, 2 << 30)


def test_devices_that_are_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="device 'cuda:1' is missing: 1 CUDA devices found"):
        devices.resolve("cuda:1")
    with pytest.raises(DeviceError, match="device 'mps' is missing: this machine has no Metal"):
        devices.resources("mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_is_the_best_there_is(monkeypatch, cuda, mps, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.resolve("auto").type == kind
