"""Names: what may become a folder or a part of a file's name."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core import names
from src.core.errors import InputError
from src.core.records import Subject
from src.database import Database

NO_NAMES = [
    ("", "is empty"),
    (".", "ends with a dot"),
    ("..", "ends with a dot"),
    ("a/../..", "is a path"),
    ("/etc", "is a path"),
    ("a/b", "is a path"),
    ("a\\b", "is a path"),
    ("a\0b", "has a control character"),
    ("a\nb", "has a control character"),
    ("a\x1b[31m", "has a control character"),
    (" a", "begins or ends with a blank"),
    ("a ", "begins or ends with a blank"),
    ("a.", "ends with a dot"),
    ("\u00a0a", "begins or ends with a blank"),
    ("x" * 300, "is longer than 200 bytes"),
    ("Ö" * 101, "is longer than 200 bytes"),
    ("Z\udce4hne", "is not UTF-8"),
]


@pytest.mark.parametrize(("text", "problem"), NO_NAMES)
def test_what_is_not_a_name(text, problem):
    with pytest.raises(InputError, match=f"is not a name: it .*{problem}") as error:
        names.checked(text)
    assert len(str(error.value)) < 160
    if text:
        with pytest.raises(InputError, match="is not a name"):
            Subject(id=text, anonymizer="x", settings={}, rows=None)


@pytest.mark.parametrize("text", ["digits", "Ödem", "a.b-c", "organ label", ".x", "眼底", "a:b"])
def test_what_is_a_name(text):
    assert names.checked(text) == text


@pytest.mark.parametrize(
    "text",
    ["pixels", "vit_base_patch14_dinov2.lvd142m", "timm/vit_tiny", "hf-hub:owner/repo@v1",
     "hf-hub:a", "local-dir:folder", "local-dir:/models/vit", "local-dir:../vit"],
)  # fmt: skip
def test_backbones_may_come_from_a_hub_or_a_folder(text):
    assert names.checked_backbone(text) == text
    assert Database(Path("root"), "d", text).folder.parent == Path("root/d")


@pytest.mark.parametrize(
    "text",
    ["", "..", ".", "a/../..", "../x", "/etc/passwd", "hf-hub:", "hf-hub:a/../b", "hf-hub:/x",
     "a//b", "a b/", "a\0", "x" * 300, "a/" + "x" * 250, "local-dir:a\0b",
     "local-dir:" + "x" * 300, "Z\udce4"],
)  # fmt: skip
def test_backbones_that_are_paths_or_too_long(text):
    with pytest.raises(InputError, match="is not a name"):
        names.checked_backbone(text)


@given(st.text(max_size=250) | st.text(alphabet="./\\ a~:", max_size=6))
def test_no_name_and_no_backbone_leaves_its_folder(text):
    root = Path("/root/of/all")
    for check, folder in (
        (names.checked, lambda text: root / text),
        (names.checked_backbone, lambda text: Database(root, "d", text).folder),
    ):
        try:
            check(text)
        except InputError:
            continue
        resolved = folder(text).resolve()
        assert resolved != root
        assert resolved.is_relative_to(root)
        assert not re.search(r"(^|/)\.\.?(/|$)", str(folder(text)))
        assert len(folder(text).name.encode()) <= 200
