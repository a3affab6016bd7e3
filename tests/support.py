"""Ways to call a script as the shell would, and to see what it left."""

import importlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from src import cli

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


def files_below(folder):
    """Every file below a folder with its bytes, to see that nothing was written."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
