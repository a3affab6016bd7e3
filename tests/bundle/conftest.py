"""A site with originals and bundles, a bundle to change, and a partner without the originals."""

import shutil

import pytest

from src.database import EmbeddingSet, write
from tests.bundle.support import CVAE, DP, KSAME, bundle, flags_of
from tests.support import call


@pytest.fixture(scope="session")
def home(tmp_path_factory, digits):
    """A site with originals and three bundles: `home/{cvae,dp,ksame}`."""
    home = tmp_path_factory.mktemp("home-of-the-originals")
    folder = home / "database" / "digits" / "pixels"
    facts = {"dataset": {"source": str(home)}, "backbone": {"input_size": [1, 8, 8]}}
    for split in ("train", "val", "test"):
        data = getattr(digits, split)
        meta = {**data.meta, "facts": facts, "extraction": "0123456789abcdef"}
        write(folder / f"{split}.npz", EmbeddingSet(data.embeddings, data.labels, meta))
    for name, flags in (("cvae", CVAE), ("dp", DP), ("ksame", KSAME)):
        place = flags_of(home)
        assert call("anonymize", *place, *flags).status == 0
        logs = home / "logs"
        if name == "cvae":
            release = ["--release", "cvae-num_epochs3-s0"]
            probing = [*place[:-2], "--output_root", logs, "-e", 2, "--seed", 0, *release]
            assert call("probing", *probing).status == 0
        made = bundle(
            "create", *place, *flags, "--output", home / name, "--license", "CC-BY-4.0",
            *(["--logs", logs] if name != "dp" else []),
        )  # fmt: skip
        assert made.status == 0, made.err
    return home


@pytest.fixture
def copy(home, tmp_path):
    """A bundle of the DP-CVAE to change."""
    return shutil.copytree(home / "dp", tmp_path / "bundle")


@pytest.fixture
def partner(home, tmp_path, monkeypatch, digits):
    """Another site: a bundle and its own val and test rows; the originals are out of reach."""
    shutil.copytree(home / "dp", tmp_path / "dp")
    for split in ("val", "test"):
        write(tmp_path / "database" / "digits" / "pixels" / f"{split}.npz", getattr(digits, split))
    monkeypatch.chdir(tmp_path)
    away = home.with_name("away")
    home.rename(away)
    yield tmp_path
    away.rename(home)
