"""`create_db.py`, interrupted and called again."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import create_db
from src.core import files
from src.embedding import keeping
from tests.support import ROOT, call, files_below

COUNTS = {"train": 9, "val": 2, "test": 2}  # images per class

# The script, with a part per batch; it says how many batches it embeds, each in SLOW seconds.
SCRIPT = """
import os, sys, time
sys.path.insert(0, os.getcwd())
import create_db
from src import cli
from src.embedding import copies, keeping
keeping.PERIOD = 0
marks = copies.marks
def slow(batch):
    time.sleep(float(os.environ["SLOW"]))
    print("one batch", file=sys.stderr, flush=True)
    return marks(batch)
copies.marks = slow
if __name__ == "__main__":
    cli.run(create_db.main)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "slow_create_db.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def argv(tmp_path):
    """13 batches of two images: 9 of train, 2 of val, 2 of test."""
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for i in range(2 * count):
            path = tmp_path / "data/pets" / split / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    given = ["--dataset", "pets", "--dataset_root", str(tmp_path / "data"), "--device", "cpu"]
    return [*given, "--backbone", "pixels", "--batch_size", "2", "--num_workers", "0"]


def started(script, argv, processes=1, slow=0.0):
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.Popen(
        [sys.executable, *torchrun * (processes > 1), str(script), *argv],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SLOW": str(slow)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def below(folder):
    return {str(path.relative_to(folder)): data for path, data in files_below(folder).items()}


def whole_parts(target):
    return list(target.glob("pets/pixels/parts/*/[!.]*.npz"))


def expected(argv, target):
    create_db.main([*argv, "--database_root", str(target)])
    found = below(target)
    assert sorted(found) == [f"pets/pixels/{split}.npz" for split in ("test", "train", "val")]
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_after_a_signal_it_goes_on_where_it_stopped(script, argv, tmp_path, number):
    target = tmp_path / "db"
    given = [*argv, "--database_root", str(target)]
    process = started(script, given, slow=0.3)
    deadline = time.monotonic() + 60
    while len(whole_parts(target)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    status, out, err = finished(process)
    interrupted = {signal.SIGINT: 130, signal.SIGKILL: -9}
    assert (status, out) == (interrupted[number], ""), err
    assert "Traceback" not in err
    kept = len(whole_parts(target))
    assert 3 <= kept < 9
    assert [path.name for path in (target / "pets/pixels").iterdir()] == ["parts"]
    status, _, err = finished(started(script, given))
    assert status == 0, err
    assert f"train: {2 * kept} of 18 images are embedded already" in err
    assert err.count("one batch") == 13 - kept
    assert "embedded again" not in err
    assert below(target) == expected(argv, tmp_path / "whole")  # and no part is left


@pytest.mark.parametrize("then", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_processes_keep_a_share_each(script, argv, tmp_path, then):
    """Rank 1 ends at a damaged image of test; what both have embedded is not embedded again."""
    target, image = tmp_path / "db", tmp_path / "data/pets/test/dog/3.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:-30])
    given = [*argv, "--database_root", str(target)]
    status, _, err = finished(started(script, given, processes=2))
    assert status != 0
    assert "3.png is not an image" in err
    assert len(whole_parts(target)) >= 11
    image.write_bytes(whole)
    status, _, err = finished(started(script, given, processes=then))
    assert status == 0, err
    share, whose = (18, "") if then == 1 else (8, " of this process")
    assert re.search(rf"train: {share} of {share} images{whose} are embedded already", err)
    assert err.count("one batch") <= 2  # of test
    assert below(target) == expected(argv, tmp_path / "whole")


def test_a_quick_run_leaves_files_alone_and_nothing_else(argv, tmp_path):
    expected(argv, tmp_path / "db")


def test_parts_of_other_settings_go_too(argv, tmp_path):
    parts = tmp_path / "db/pets/pixels/parts"
    other = parts / "0123456789abcdef"
    other.mkdir(parents=True)
    (other / "a.npz").write_bytes(b"")
    expected(argv, tmp_path / "db")
    assert not parts.exists()


def test_what_somebody_has_put_there_stays(argv, tmp_path):
    theirs = tmp_path / "db/pets/pixels/parts/mine"
    theirs.mkdir(parents=True)
    (theirs / "a.npz").write_bytes(b"")
    assert call("create_db", *argv, "--database_root", tmp_path / "db").status == 0
    assert [path.name for path in theirs.iterdir()] == ["a.npz"]


def test_what_is_written_last_removes_the_parts(argv, tmp_path, monkeypatch):
    """An error while the files are written costs no embedding."""
    monkeypatch.setattr(keeping, "PERIOD", 0)
    given = [*argv, "--database_root", str(tmp_path / "db")]
    with monkeypatch.context() as patch:

        def fails(*_):
            raise KeyboardInterrupt

        patch.setattr(create_db.Database, "write", fails)
        assert call("create_db", *given).status == 130
    assert len(below(tmp_path / "db")) == 13
    assert call("create_db", *given).status == 0
    assert below(tmp_path / "db") == expected(argv, tmp_path / "whole")


def test_a_full_disk_is_one_line_before_work(argv, tmp_path, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    done = call("create_db", *argv, "--database_root", tmp_path / "db")
    needed = 26 * 192 * 4 * 2  # rows, values per row, bytes, parts and files
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1] == (
        f"error: {tmp_path / 'db/pets/pixels'} needs {needed:,} bytes for embeddings and their "
        "parts; 5,000 are free"
    )
    assert not (tmp_path / "db").exists()
