"""The secret key: made once, kept from others, and all of it in the noise."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from src.anonymizers.dp import dpcvae, keys
from src.core import seeding
from src.core.devices import Resources
from src.core.errors import OutputError
from src.database import EmbeddingSet
from tests.anonymizers.dp.support import CPU, anonymize, short


def test_noise_comes_from_a_secret_key_too(digits, tmp_path):
    """The same key gives the same bytes; without it, knowing the seed is of no use."""
    kept, lost = (Resources(CPU.device, tmp_path / name) for name in ("kept", "lost"))
    first = anonymize(digits, resources=kept)
    assert first.fingerprint == anonymize(digits, resources=kept).fingerprint
    assert first.fingerprint != anonymize(digits, resources=lost).fingerprint
    assert first.fingerprint != anonymize(digits).fingerprint
    key = tmp_path / "kept" / "dpcvae.key"
    assert len(key.read_text()) == 64
    assert key.stat().st_mode & 0o077 == 0
    assert "secret key" in first.meta["facts"]["noise"]
    assert "keep it secret" in anonymize(digits).meta["facts"]["noise"]


def test_first_fits_at_the_same_time_use_one_key(tmp_path):
    for folder in (tmp_path / str(number) for number in range(20)):
        barrier = threading.Barrier(4)

        def first(folder, barrier):
            barrier.wait()
            return keys.secret(folder)

        with ThreadPoolExecutor(4) as pool:
            made = {*pool.map(first, [folder] * 4, [barrier] * 4)}
        assert made == {(folder / "dpcvae.key").read_text()}
        assert [path.name for path in folder.iterdir()] == ["dpcvae.key"]


def test_a_key_is_never_replaced_nor_readable_by_others(tmp_path, monkeypatch):
    path = tmp_path / "dpcvae.key"
    keys._make(path)
    key = path.read_text()
    modes = []
    link = os.link
    monkeypatch.setattr(
        os, "link", lambda a, b: modes.append(Path(a).stat().st_mode) or link(a, b)
    )
    keys._make(path)  # the loser of a race
    assert path.read_text() == key
    assert [mode & 0o777 for mode in modes] == [0o600]


def test_a_key_that_cannot_be_kept(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot make or read .*dpcvae.key"):
        keys.secret(tmp_path / "file" / "below")


def test_all_of_the_key_is_in_the_generator(digits):
    """With a key, no seed of torch's leads to it; without one, the generator is the seed's."""
    settings = short()

    def made(secret):
        return keys.generator(secret, digits.train, settings, 0, CPU.device)

    key = "0" * 64
    assert torch.equal(made(key).get_state(), made(key).get_state())
    assert not torch.equal(made(key).get_state(), made("1" * 64).get_state())
    for secret, seeded in ((key, False), ("", True)):
        state = made(secret).get_state()
        word = int(state[seeding.STATE].numpy().view(np.uint64)[0])  # where a seed is put
        from_seed = torch.Generator().manual_seed(word)
        drawn = torch.rand(9, generator=made(secret))
        assert torch.equal(drawn, torch.rand(9, generator=from_seed)) == seeded


def test_neighbours_share_no_noise(digits):
    """What two releases say differs by more than the row: no noise cancels out."""
    train, settings = digits.train, short()
    less = EmbeddingSet(train.embeddings[:-1], train.labels[:-1], train.meta)
    ours, theirs = (
        dpcvae.fit(data, settings, seed=0, resources=CPU).decoder.class_weights
        for data in (train, less)
    )
    assert ((ours - theirs).abs() > 1).sum() > 5
