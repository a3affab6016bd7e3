"""docs/share.md: every command and every line, run as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, call

PAGE = ROOT / "docs" / "share.md"


def block(title):
    """The first code block below a heading."""
    text = PAGE.read_text().split(f"\n## {title}\n")[1]
    return re.search(r"```\w*\n(.*?)```", text, re.DOTALL)[1].splitlines()


def run(line):
    python, *words = shlex.split(line)
    assert python == "python"
    if words[0] == "-m":
        return call(f"{words[1]}.__main__", *words[2:])
    return call(words[0].removesuffix(".py"), *words[1:])


def test_five_lines_of_the_giver_and_five_of_the_receiver(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    for package in ("datasets", "mlcroissant", "polars"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    giver, receiver = block("The giver's five lines"), block("The receiver's five lines")
    assert len(giver) == len(receiver) == 5
    for line in giver:
        done = run(line)
        assert done.status == 0, f"{line}\n{done.err}"
    loads = block("Without this program")
    assert len(loads) == 4
    validate = PAGE.read_text().split("```\nmlcroissant")[1].split("\n")[0]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    for line in loads:
        package = line.split(".")[0]
        code = f"import {package}, pyarrow.parquet\nassert len({line}) in (1, 1290)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    program = Path(sys.executable).with_name("mlcroissant")
    done = subprocess.run(
        [program, *shlex.split(validate)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^[WEF]\d{4}", done.stderr, re.MULTILINE), done.stderr
    (tmp_path / "assets").rename(tmp_path / "out of reach")  # the receiver has no original
    (tmp_path / "digits_ksame").rename(tmp_path / "out of reach too")
    for line in receiver:
        done = run(line)
        assert done.status == 0, f"{line}\n{done.err}"
    assert len(list((tmp_path / "partner_logs").rglob("digits_bundle-ksame-5-*.json"))) == 3
