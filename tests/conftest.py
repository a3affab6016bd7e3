"""What the tests share: the digits database, and a way to call a script as the shell would."""

import importlib
import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from src import cli, datasets
from src.database import Database, EmbeddingSet, Splits, write
from src.datasets.base import to_array

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Finished:
    """A script's exit status and what it printed."""

    status: int
    out: str
    err: str


def call(script, *argv):
    """Run a script's main in this process, as `python <script>.py argv...` would."""
    main = importlib.import_module(script).main
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit:
        cli.run(lambda: main([str(word) for word in argv]))
    return Finished(int(exit.value.code or 0), out.getvalue(), err.getvalue())


def shell(script, *argv, **kwargs):
    """Run a script in a process of its own."""
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, **kwargs)
    return Finished(done.returncode, done.stdout, done.stderr)


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
    for split in ("train", "val", "test"):
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
    for split in ("train", "val", "test"):
        write(database.path(split), getattr(digits, split))
    return database


@pytest.fixture
def roots(tmp_path, database):
    """The flags that keep a script inside the test's folder."""
    return [
        "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", database.root,
    ]  # fmt: skip


def files_below(folder):
    """Every file below a folder with its bytes, to see that nothing was written."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
