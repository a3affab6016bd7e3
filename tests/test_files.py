import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import files
from src.errors import DataError, MissingFileError, OutputError


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(OutputError, match="it is no ordinary file"):
        files.write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_replacing_moves_the_whole_file_into_place(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    files.write_text(target, "new")
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~files._umask()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_part(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path):
    target = tmp_path / "file.txt"
    with pytest.raises(OutputError, match=r"cannot write .*file.txt: No space left on device"):
        with files.replacing(target):
            raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_the_old_file_whole(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    program = (
        "import sys, time; from pathlib import Path; from src import files\n"
        "with files.replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); print('written', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
    files.write_text(target, "new")
    assert target.read_text() == "new"


def test_a_place_that_cannot_be_written_is_named_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        files.require_writable(tmp_path / "file" / "below")
    files.require_writable(tmp_path / "not" / "yet" / "there")
    assert not (tmp_path / "not").exists()


def test_json_that_is_absent_or_damaged(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        files.read_json(tmp_path / "absent.json")
    damaged = tmp_path / "damaged.json"
    damaged.write_text('{"a": ')
    with pytest.raises(DataError, match=r"damaged\.json"):
        files.read_json(damaged)
    damaged.write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"damaged\.json"):
        files.read_json(damaged)


@pytest.mark.parametrize("value", [0, 5, 0.5, 8.0, 1e-5])
def test_plain_numbers_have_short_names(value):
    assert files.number_name(value) == f"{value:g}"


@given(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63))
def test_the_name_of_a_number_is_the_number(value):
    assert type(value)(float(name := files.number_name(value))) == value or int(name) == value


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path):
    target = tmp_path / "file.txt"
    with files.replacing(target) as first:
        first.write_text("first")
        with files.replacing(target) as second:
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
