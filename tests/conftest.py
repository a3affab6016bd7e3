"""What the tests share: the digits database, quiet bars, and a root logger of their own."""

import logging
from pathlib import Path

import numpy as np
import pytest

from src.database import SPLITS, Database, EmbeddingSet, Splits
from src.embedding import datasets
from src.embedding.datasets.decoding import to_array


@pytest.fixture(autouse=True)
def _quiet_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(autouse=True)
def _own_logging():
    """Scripts set the root logger up; what they leave would write to a stream that is closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def digits() -> Splits:
    """The digits as the pixels backbone embeds them: 1,293 / 144 / 360 rows of 64."""
    images = datasets.load("digits", root=Path("unused"))
    sets = {}
    for split in SPLITS:
        part = getattr(images, split)
        rows = np.stack([to_array(part[i]).reshape(-1) for i in range(len(part))])
        meta = {
            "dataset": "digits",
            "backbone": "pixels",
            "split": split,
            "class_names": images.class_names,
        }
        sets[split] = EmbeddingSet(rows.astype(np.float32), part.labels, meta)
    return Splits(**sets)


@pytest.fixture
def database(tmp_path, digits) -> Database:
    """A digits database of the test's own."""
    database = Database(tmp_path / "database", "digits", "pixels")
    for split in SPLITS:
        database.write(split, getattr(digits, split))
    return database


@pytest.fixture
def roots(tmp_path, database):
    """The flags that keep a script inside the test's folder."""
    return [
        "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", database.root,
    ]  # fmt: skip
