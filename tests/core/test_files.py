"""Files: whole or absent, and read with errors in one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core import files
from src.core.errors import DataError, InputError, MissingFileError, OutputError
from tests.support import ROOT


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(OutputError, match="it is not an ordinary file"):
        files.write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_replacing_moves_the_whole_file_into_place(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    files.write_text(target, "new")
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    """The process's mask; while the test runs, whoever sets it fails."""
    before = os.umask(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "umask", lambda mask: pytest.fail(f"umask set to {mask:o}"))
        yield request.param
    os.umask(before)


def test_new_files_are_ordinary_and_the_process_s_umask_is_left_alone(tmp_path, umask):
    """The mask is the process's: while one thread changes it, another may create a file."""
    target = tmp_path / "file.txt"
    for text in ("new", "replaced"):
        with files.replacing(target) as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o666 & ~umask
            temporary.write_text(text)
        assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert target.read_text() == "replaced"


def test_of_a_link_the_target_is_replaced(tmp_path):
    target, link = tmp_path / "elsewhere" / "file.txt", tmp_path / "link.txt"
    files.write_text(target, "old")
    link.symlink_to(Path("elsewhere") / "file.txt")
    files.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]
    with pytest.raises(ValueError), files.replacing(link) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert link.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "elsewhere", "file.txt", "link.txt"
    ]  # fmt: skip


def test_a_link_to_nothing_gets_its_target_and_one_to_itself_is_replaced(tmp_path):
    dangling, loop = tmp_path / "dangling", tmp_path / "loop"
    dangling.symlink_to(tmp_path / "not" / "yet")
    files.write_text(dangling, "text")
    assert (tmp_path / "not" / "yet").read_text() == "text"
    loop.symlink_to(loop)
    files.write_text(loop, "text")
    assert loop.read_text() == "text"


def test_a_link_to_a_device_is_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    with pytest.raises(OutputError, match="it is not an ordinary file"):
        files.write_text(link, "text")


def test_a_long_name_leaves_room_for_the_part_s(tmp_path):
    target = tmp_path / ("a" * 250 + ".txt")
    files.write_text(target, "text")
    assert target.read_text() == "text"


def test_building_moves_the_whole_folder_into_place(tmp_path):
    folder = tmp_path / "deep" / "folder"
    with files.building(folder) as temporary:
        (temporary / "folder").mkdir()
        (temporary / "folder" / "a.txt").write_text("a")
        assert not folder.exists()
    assert (folder / "a.txt").read_text() == "a"
    with pytest.raises(OutputError, match=r"cannot write .*folder: Directory not empty"):
        with files.building(folder) as temporary:
            (temporary / "folder").mkdir()
    with pytest.raises(KeyboardInterrupt), files.building(tmp_path / "other") as temporary:
        (temporary / "other").mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (FileNotFoundError(2, "No such file"), r"^a\.npz does not exist$"),
        (NotADirectoryError(20, "Not a directory"), r"^a\.npz does not exist$"),
        (PermissionError(13, "Permission denied"), r"^cannot read a\.npz: Permission denied$"),
        (MemoryError("8 TiB"), r"^a\.npz does not fit into memory: 8 TiB$"),
        (KeyError("x\n y"), r"^a\.npz is truncated or damaged: 'x\\n y'$"),
        (OSError("no number"), r"^a\.npz is truncated or damaged: no number$"),
        (RecursionError(), r"^a\.npz is truncated or damaged: RecursionError$"),
        (EOFError("two\nlines"), r"^a\.npz is truncated or damaged: two lines$"),
    ],
)
def test_whatever_a_reader_raises_is_one_line(raised, message):
    kind = MissingFileError if "not exist" in message else DataError
    with pytest.raises(kind, match=message), files.reading(Path("a.npz")):
        raise raised


def test_what_a_reader_says_itself_and_ctrl_c_pass(tmp_path):
    for raised in (OutputError("own"), KeyboardInterrupt()):
        with pytest.raises(type(raised)) as passed, files.reading(tmp_path):
            raise raised
        assert passed.value is raised


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
        "import sys, time; from pathlib import Path; from src.core import files\n"
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
    with pytest.raises(DataError, match=r"damaged\.json is not a readable JSON file"):
        files.read_json(damaged)
    damaged.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"damaged\.json is not a readable JSON file"):
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


PNG = {".png": b"\x89PNG"}


@pytest.mark.parametrize("name", ["mine.txt", "mine", "mine.npz", "png", ".png"])
def test_an_output_of_another_kind_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(OutputError, match="its name must end in one of .png"):
        files.require_replaceable(tmp_path / name, PNG)


@pytest.mark.parametrize("content", [b"notes", b"\x89PN", b"%PDF-1.4", b"\0" * 100])
def test_what_is_there_and_is_of_another_kind_stays(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"x\.png exists and holds something else"):
        files.require_replaceable(path, PNG)
    assert path.read_bytes() == content


def test_outputs_that_may_be_written(tmp_path):
    for name, content in (("new.png", None), ("old.PNG", b"\x89PNG..."), ("empty.png", b"")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        files.require_replaceable(tmp_path / name, PNG)
    files.require_replaceable(tmp_path / "not" / "yet" / "x.png", PNG)
    assert not (tmp_path / "not").exists()


def test_places_where_no_output_can_be(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("/dev/null")
    (tmp_path / "file").write_text("")
    for name, message in (
        ("folder.png", "it is not an ordinary file"),
        ("link.png", "it is not an ordinary file"),
        ("file/x.png", "is not a folder"),
        ("x" * 300 + ".png", "File name too long"),
    ):
        with pytest.raises(OutputError, match=message):
            files.require_replaceable(tmp_path / name, PNG)


def test_a_write_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda where, mode: where != path)  # root may do anything
    with pytest.raises(OutputError, match="it is write-protected"):
        files.require_replaceable(path, PNG)


def test_a_new_folder_is_new(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    files.require_new(tmp_path / "empty")
    files.require_new(tmp_path / "not" / "yet")
    for name, message in (
        ("file", "it exists and is not a folder"),
        ("link", "it exists and is not a folder"),
        ("file/below", "is not a folder|Not a directory"),
        ("", "it exists and is not empty"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(OutputError, match=message):
            files.require_new(tmp_path / name)


def test_paths_are_read_as_a_shell_reads_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/mine")
    monkeypatch.setenv("WHERE", "/data/$x")
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.chdir(tmp_path)
    for text, path in (
        ("~", "/home/of/mine"),
        ("~/a b", "/home/of/mine/a b"),
        ("$WHERE/a", "/data/$x/a"),
        ("${WHERE}a", "/data/$xa"),
        ("./~/a", "~/a"),
        ("a~b/$", "a~b/$"),
    ):
        assert files.shell_path(text) == Path(path)
    for text, message in (
        ("", "a path cannot be empty"),
        ("$ABSENT/a", r"\$ABSENT is not set in the path '\$ABSENT/a'"),
        ("a/${ABSENT}", r"\$\{ABSENT\} is not set"),
        ("~nobody-of-that-name/a", "~nobody-of-that-name is no user's home"),
    ):
        with pytest.raises(InputError, match=message):
            files.shell_path(text)
    for name in ("$ABSENT", "~nobody-of-that-name"):  # that is what somebody called a file
        (tmp_path / name).write_text("")
        assert files.shell_path(name) == Path(name)


def test_a_name_of_many_bytes_leaves_room_for_the_part_s(tmp_path):
    target = tmp_path / ("\N{PILE OF POO}" * 60 + ".txt")
    files.write_text(target, "text")
    assert target.read_text() == "text"


def test_too_many_open_files_say_what_helps(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*: Too many open files \(.*ulimit -n"):
        with files.reading(tmp_path):
            raise OSError(24, os.strerror(24))


WRITER = """
import sys
from pathlib import Path
from src.core import files
for _ in range(150):
    {write}
"""
WHOLE = "files.write_text(Path(sys.argv[1]), sys.argv[2] * 50_000)"
BROKEN = "Path(sys.argv[1]).write_text(sys.argv[2] * 50_000)"


@pytest.mark.parametrize(("write", "whole"), [(WHOLE, True), (BROKEN, False)])
def test_two_processes_that_write_one_file_leave_one_of_the_two(tmp_path, write, whole):
    """And whoever reads meanwhile finds one of them; the broken writer shows that it is seen."""
    target = tmp_path / "file.txt"
    files.write_text(target, "a" * 50_000)
    program = WRITER.format(write=write)
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(target), letter], cwd=ROOT)
        for letter in "ab"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(target.read_bytes())
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(target.read_bytes())
    if whole:
        assert seen <= {b"a" * 50_000, b"b" * 50_000}
        assert list(tmp_path.iterdir()) == [target]
    else:
        assert not seen <= {b"a" * 50_000, b"b" * 50_000}
