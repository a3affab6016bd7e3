import resource

import pytest
import torch

from src import checkpoints
from src.errors import OutputError


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
