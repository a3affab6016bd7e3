"""The secret key: made once, kept from others, and all of it in the noise."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from src.anonymizers.dp import accounting, dpcvae, keys, sums
from src.core import seeding
from src.core.devices import Resources
from src.core.errors import DataError, OutputError
from src.core.provenance import fingerprint
from src.database import EmbeddingSet
from tests.anonymizers.dp.support import CPU, anonymize, short, without_meta
from tests.support import call, files_below

FIT = ["--anonymizer", "dpcvae", "--epsilon", 2, "--epochs", 2, "--seed", 0]
HASHES = ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b")


def test_noise_comes_from_a_secret_key_too(digits, tmp_path):
    """The same key gives the same bytes; without it, knowing the seed is of no use."""
    kept, lost = (Resources(CPU.device, tmp_path / name) for name in ("kept", "lost"))
    first = anonymize(digits, resources=kept)
    assert first.fingerprint == anonymize(digits, resources=kept).fingerprint
    assert first.fingerprint != anonymize(digits, resources=lost).fingerprint
    assert first.fingerprint != anonymize(digits).fingerprint
    key = tmp_path / "kept" / "privacy.key"
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
        assert made == {(folder / "privacy.key").read_text()}
        assert [path.name for path in folder.iterdir()] == ["privacy.key"]


def test_a_key_is_never_replaced_nor_readable_by_others(tmp_path, monkeypatch):
    path = tmp_path / "privacy.key"
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
    with pytest.raises(OutputError, match=r"cannot make or read .*privacy.key"):
        keys.secret(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"0123abcd", b"0" * 63, b"0" * 65, b"0" * 1000, b"g" * 64, b"\0" * 64,
     b"\xff" * 64, b"0" * 32 + b"\n" + b"1" * 32, b"ab " * 21 + b"a"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["privacy.key", "dpcvae.key"])
def test_what_is_not_a_key_is_refused(roots, tmp_path, content, name):
    """An interrupted backup, a full disk: the noise would be the public seed's."""
    folder = tmp_path / "ckpts" / "digits" / "pixels"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    (folder / name).chmod(0o600)
    before = files_below(tmp_path)
    done = call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *FIT)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"{folder / name} is not a secret key of 64 hexadecimal digits" in done.err
    assert "restore it, or delete it" in done.err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o777])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "privacy.key"
    path.write_text("0" * 64)
    path.chmod(mode)
    with pytest.raises(DataError, match=rf"privacy.key \(mode {mode:04o}\): run chmod 600"):
        keys.secret(tmp_path)
    path.chmod(0o400)
    assert keys.secret(tmp_path) == "0" * 64


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["folder", "pipe"])
def test_a_key_that_is_no_file(tmp_path, make):
    make(tmp_path / "privacy.key")
    with pytest.raises(DataError, match="is not a file with a key"):
        keys.secret(tmp_path)


def test_an_old_key_is_still_read_and_not_copied(tmp_path):
    (tmp_path / "dpcvae.key").write_text("a" * 64)
    (tmp_path / "dpcvae.key").chmod(0o600)
    assert keys.secret(tmp_path) == "a" * 64
    assert [path.name for path in tmp_path.iterdir()] == ["dpcvae.key"]
    (tmp_path / "privacy.key").write_text("b" * 64)
    (tmp_path / "privacy.key").chmod(0o600)
    assert keys.secret(tmp_path) == "b" * 64


def test_nothing_of_the_key_is_in_any_file_or_message(roots, tmp_path):
    folders = ["--ckpt_root", tmp_path / "ckpts"]
    bundle = ["--output", tmp_path / "bundle", "--license", "CC0", "--description", "digits"]
    logs = ["--output_root", tmp_path / "logs"]
    said = [
        call("anonymize", *roots, *folders, *FIT),
        call("probing", *roots, *logs, *FIT, "-e", 1),
        call("src.bundle.__main__", "create", *roots, *folders, *FIT, *bundle),
    ]
    (path,) = tmp_path.rglob("privacy.key")
    key = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    texts = [key, key[:16], *(hashlib.new(name, key.encode()).hexdigest()[:12] for name in HASHES)]
    texts += [fingerprint(key)[:12], fingerprint([key])[:12], bytes.fromhex(key)[:12]]
    files = {name: content for name, content in files_below(tmp_path).items() if name != path}
    assert any("bundle" in str(name) for name in files)
    for content in [*files.values(), *((done.out + done.err).encode() for done in said)]:
        for text in texts:
            assert (text if isinstance(text, bytes) else text.encode()) not in content


def test_all_of_the_key_is_in_the_generator():
    """No seed of torch's leads to it."""

    def made(secret):
        return keys.generator(secret, {}, seed=0, device=CPU.device)

    key = "0" * 64
    assert torch.equal(made(key).get_state(), made(key).get_state())
    for other in ("1" + key[1:], key[:-1] + "1", ""):
        assert not torch.equal(made(key).get_state(), made(other).get_state())
    state = made(key).get_state()
    word = int(state[seeding.STATE].numpy().view(np.uint64)[0])  # where a seed is put
    from_seed = torch.Generator().manual_seed(word)
    assert not torch.equal(torch.rand(9, generator=made(key)), torch.rand(9, generator=from_seed))


class Enough(Exception):  # noqa: N818 - it is none
    """Enough noise was seen."""


def raw_noise(monkeypatch, train, *, values=None, seed=0, resources=CPU, multiplier=3.0):
    """The first 4,000 numbers of noise of a fit, whatever they are added to."""
    seen = []

    def add_noise(total, multiplier, generator):
        seen.append(torch.randn(total.shape, generator=generator, dtype=total.dtype).flatten())
        if sum(map(len, seen)) > 4000:
            raise Enough
        return total

    with monkeypatch.context() as patch, pytest.raises(Enough):
        patch.setattr(sums, "add_noise", add_noise)
        patch.setattr(accounting, "noise_multiplier", lambda *a, **k: multiplier)
        dpcvae.fit(train, short(**(values or {})), seed=seed, resources=resources)
    return torch.cat([part.float() for part in seen])


def overlap(one, two):
    """The largest correlation of two streams at any shift up to 200 places."""
    one, two = ((part[:4000] - part[:4000].mean()) / part[:4000].std() for part in (one, two))
    both = (part[200:-200] for part in (one, two))
    fixed, moved = next(both), two
    return max(
        abs(float((fixed * moved[shift : shift + len(fixed)]).mean())) for shift in range(400)
    )


def changed(data, place):
    rows = data.embeddings.copy()
    rows[place] = np.nextafter(rows[place], np.float32(2))
    return EmbeddingSet(rows, data.labels, data.meta)


CHANGES = {
    "one number, in its last bit": lambda d: {"train": changed(d, (700, 3))},
    "one label": lambda d: {
        "train": EmbeddingSet(d.embeddings, np.append(d.labels[:-1], 9 - d.labels[-1]), d.meta)
    },
    "the order of rows": lambda d: {
        "train": EmbeddingSet(d.embeddings[::-1].copy(), d.labels[::-1].copy(), d.meta)
    },
    "one class more": lambda d: {
        "train": EmbeddingSet(
            d.embeddings, d.labels, {**d.meta, "class_names": [*d.meta["class_names"], "ten"]}
        )
    },
    "bounds that are not public": lambda d: {"train": without_meta(d)},
    "other bounds": lambda d: {"values": {"feature_min": 0.0, "feature_max": 2.0}},
    "the noise multiplier, as of another accountant": lambda d: {"multiplier": 3.0 + 1e-9},
    "sensitivity": lambda d: {"values": {"max_grad_norm": 2.0001}},
    "steps": lambda d: {"values": {"epochs": 3}},
    "sampling rate": lambda d: {"values": {"sampling_rate": 0.26}},
    "epsilon": lambda d: {"values": {"epsilon": 2.0001}},
    "delta": lambda d: {"values": {"delta": 1.1e-5}},
    "count share": lambda d: {"values": {"count_share": 0.051}},
    "scaling share": lambda d: {"values": {"scaling_share": 0.151}},
    "learning rate": lambda d: {"values": {"learning_rate": 6.1e-3}},
    "KL weight": lambda d: {"values": {"kl_weight": 0.11}},
    "prior variance": lambda d: {"values": {"prior_variance": 0.51}},
    "latents": lambda d: {"values": {"latent_dim": 9}},
    "width": lambda d: {"values": {"hidden_dim": 65}},
    "seed": lambda d: {"seed": 1},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kept", [True, False], ids=["a key", "no key"])
def test_noise_is_never_used_twice(digits, tmp_path, monkeypatch, change, kept):
    resources = Resources(CPU.device, tmp_path if kept else None)
    given = {"train": digits.train, "resources": resources}
    one = raw_noise(monkeypatch, **given)
    assert overlap(one, raw_noise(monkeypatch, **given)) > 0.9  # the test sees what is shared
    two = raw_noise(monkeypatch, **{**given, **CHANGES[change](digits.train)})
    assert overlap(one, two) < 0.1


@pytest.mark.parametrize("version", ["ALGORITHM", "torch"])
def test_other_code_has_other_noise(digits, monkeypatch, version):
    one = raw_noise(monkeypatch, digits.train)
    if version == "ALGORITHM":
        monkeypatch.setattr(dpcvae, "ALGORITHM", 1000)
    else:
        monkeypatch.setattr(dpcvae, "versions", lambda: {"torch": "1000"})
    assert overlap(one, raw_noise(monkeypatch, digits.train)) < 0.1


@pytest.mark.parametrize("forgotten", ["rows", "bounds", "mechanisms", "settings", "classes"])
def test_the_check_sees_noise_that_does_not_depend_on_all(digits, monkeypatch, forgotten):
    original = keys.generator

    def forgetful(key, origin, **kwargs):
        return original(key, {n: v for n, v in origin.items() if n != forgotten}, **kwargs)

    monkeypatch.setattr(keys, "generator", forgetful)
    one = raw_noise(monkeypatch, digits.train)
    change = {"rows": {"train": changed(digits.train, (700, 3))},
              "bounds": {"values": {"feature_min": 0.0, "feature_max": 2.0}},
              "mechanisms": {"multiplier": 3.1},
              "settings": {"values": {"learning_rate": 1e-3}},
              "classes": CHANGES["one class more"](digits.train)}[forgotten]  # fmt: skip
    two = raw_noise(monkeypatch, **{"train": digits.train, **change})
    still = forgotten == "bounds"  # these bounds are settings, too
    assert (overlap(one, two) < 0.1) == still


def test_neighbours_share_no_noise(digits):
    """What two releases say differs by more than the row: no noise cancels out."""
    train, settings = digits.train, short()
    less = EmbeddingSet(train.embeddings[:-1], train.labels[:-1], train.meta)
    ours, theirs = (
        dpcvae.fit(data, settings, seed=0, resources=CPU).decoder.class_weights
        for data in (train, less)
    )
    assert ((ours - theirs).abs() > 1).sum() > 5


def test_public_bounds_and_private_ones_share_no_noise(digits, tmp_path):
    """The same rows, settings, seed and noise of class counts: their difference must be noise."""
    resources = Resources(CPU.device, tmp_path)
    ours, theirs = (
        dpcvae.fit(data, short(), seed=0, resources=resources).decoder.class_weights
        for data in (digits.train, without_meta(digits.train))
    )
    assert ((ours - theirs).abs() > 1).sum() > 5
