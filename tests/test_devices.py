"""How much memory can be had."""

import pytest
import torch

from src import devices

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
