"""The commands of docs/bundle.md on signatures, run as written."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.bundle.support import sum_up
from tests.support import ROOT

SECTION = (
    (ROOT / "docs" / "bundle.md").read_text().split("\n## Who made it\n")[1].split("\n## ")[0]
)
BLOCKS = re.findall(r"```\n(.*?)```", SECTION, re.DOTALL)


def run(block, folder):
    text = block.replace("python -m", f"{sys.executable} -m")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-e"], input=text, cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_a_signature_is_made_checked_and_broken(home, tmp_path):
    bundle = shutil.copytree(home / "ksame", tmp_path / "digits_dpcvae")
    sign, check = BLOCKS
    done = run(sign, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (bundle / "SHA256SUMS.sig").exists()
    done = run(check, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('Good "bundle" signature for alice@example.org')
    assert "whole and consistent" in done.stdout
    assert "stated, not checked: who made the bundle" in done.stdout
    first = check.partition("python -m")[0]
    sums = (bundle / "SHA256SUMS").read_bytes()
    (bundle / "SHA256SUMS").write_bytes(sums.replace(b"  train", b"  trail"))
    assert run(first, tmp_path).returncode != 0
    (bundle / "datasheet.md").write_text("(0, 0)-differential privacy")
    sum_up(bundle)  # right sums, but not hers
    assert run(first, tmp_path).returncode != 0
