"""The process is tuned where a script starts, not where a module is imported."""

import ctypes
import os
import subprocess
import sys

import pytest

from src.core import process
from tests.support import ROOT

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'))\n"


def printed(program, **environment):
    ours = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | environment
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_an_import_changes_nothing():
    assert printed("import src, src.cli, src.core.process\n" + SHOW) == ["None"]


@pytest.mark.parametrize(("environment", "value"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_a_script_tunes_before_torch_is_loaded(environment, value):
    program = (
        "import sys; from src import cli\n"
        "def main():\n"
        "    assert 'torch' not in sys.modules\n"
        f"    {SHOW}"
        "cli.run(main)\n"
    )
    assert printed(program, **environment) == [value]


def test_freed_memory_is_kept_as_far_as_the_library_lets(monkeypatch):
    class Library:
        """A C library whose `mallopt` refuses more than 32 MiB, as an older glibc does."""

        calls = []  # noqa: RUF012

        def mallopt(self, parameter, value):
            self.calls.append((parameter, value))
            return int(value <= 32 << 20 or parameter == process.M_TRIM_THRESHOLD)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    process.tune()
    assert Library.calls == [
        (process.M_MMAP_THRESHOLD, 1 << 30),
        (process.M_MMAP_THRESHOLD, 32 << 20),
        (process.M_TRIM_THRESHOLD, (1 << 31) - 1),
    ]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(monkeypatch, error):
    def without(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", without)
    process.tune()
