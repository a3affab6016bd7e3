"""YAML files: values are what they look like, and no key is lost."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from src.core.configs import read_yaml
from src.core.errors import InputError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"a: !!timestamp 2024-13-45", "is not YAML: month must be in 1..12"),
        (b"a: !!python/object:os.system {}", "is not YAML: could not determine a constructor"),
        (b"[" * 5_000, "is not YAML"),
        (b"- a", r"must hold 'name: value' lines, not a list"),
        (b"\xff\xfe\xff", "cannot read config file .*: not text"),
        (b"a: 1\nb: 2\na: 3", r"c\.yaml: the key 'a' occurs twice \(lines 1 and 3\)"),
        (b'a: 1\n"a": 3', "the key 'a' occurs twice"),
        (b"1: 1\n'1': 3", "the key '1' occurs twice"),
        (b"a:\n- b: 1\n  b: 1", "the key 'b' occurs twice"),
        (b"a: {b: {c: 1, c: 2}}", "the key 'c' occurs twice"),
        (b"[a]: 1\n[a]: 2", "is not YAML: .*unhashable key"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_yaml_that_cannot_be_used(tmp_path, content, message, as_text):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_yaml(path, as_text=as_text)
    assert "\n" not in str(error.value)


def test_yaml_that_is_empty_is_no_lines(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}
    path.write_text("a: 1\nb: [2]\n")
    assert read_yaml(path) == {"a": 1, "b": [2]}
    with pytest.raises(InputError, match="No such file"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-12", -12), ("+3", 3), ("1e-1", 0.1), ("1e3", 1000.0), ("1.5", 1.5),
        ("-.5", -0.5), ("1.", 1.0), ("1.0E+2", 100.0), ("true", True), ("False", False),
        ("null", None), ("", None),
        ("010", "010"), ("1:30", "1:30"), ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("y", "y"),
        ("0x1f", "0x1f"), ("0b1", "0b1"), ("0o7", "0o7"), ("1_000", "1_000"), ("~", "~"),
        ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("'5'", "5"), (".inf", math.inf),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(tmp_path, text, value):
    path = tmp_path / "c.yaml"
    path.write_text(f"a: {text}\nb: [{text}]\n")
    found = read_yaml(path)
    listed = [] if text == "" else [value]
    assert found == {"a": value, "b": listed}
    assert type(found["a"]) is type(value)
    written = value if value is None or isinstance(value, bool) else text.strip("'")
    assert read_yaml(path, as_text=True)["a"] == written


def test_a_mapping_that_is_taken_from_another_may_be_changed(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &base {x: 1, y: 2}\nb: &more {<<: *base, x: 3}\nc: {<<: *more, y: 4}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 3, "y": 4}}


@given(st.dictionaries(
    st.text("abc", min_size=1),
    st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans() | st.none() | st.lists(st.integers(0, 9)),
))  # fmt: skip
def test_what_is_written_plainly_is_read_again(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("yaml") / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    assert read_yaml(path) == content
