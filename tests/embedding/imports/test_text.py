"""Numbers in tables: what was written is read, whatever the blocks and the form."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.errors import DataError
from src.embedding import delimited
from src.embedding.imports import text

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
ROWS = st.lists(st.tuples(FLOATS, FLOATS, LABELS.filter(str.strip)), min_size=1, max_size=9)


@settings(deadline=None)
@given(rows=ROWS, delimiter=st.sampled_from(",;\t"), comma=st.booleans(), block=st.integers(1, 20))
def test_what_is_written_is_read(tmp_path_factory, rows, delimiter, comma, block):
    path = tmp_path_factory.mktemp("t") / "a.csv"
    comma = comma and delimiter == ";"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["f1", "label", "f0"])
        for a, b, label in rows:
            cells = [repr(x).replace(".", ",") if comma else repr(x) for x in (a, b)]
            writer.writerow([cells[0], label, cells[1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        found = text.read(path, {})
    wanted = np.array([[b, a] for a, b, _ in rows], np.float32)
    assert found.embeddings.tobytes() == wanted.tobytes()
    assert found.labels.labels == [label for *_, label in rows]
    assert found.names == ("f0", "f1")


@settings(deadline=None)
@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=9))
def test_lists_in_a_column(tmp_path_factory, rows):
    """As pandas writes lists, and with other separators."""
    path = tmp_path_factory.mktemp("t") / "a.csv"
    for form in (
        str,
        lambda row: "; ".join(map(repr, row)),
        lambda row: " ".join(map(repr, row)),
        lambda row: f"({','.join(map(repr, row))})",
    ):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["embedding", "y"], *([form(row), "a"] for row in rows)])
        np.testing.assert_array_equal(text.read(path, {}).embeddings, np.array(rows, np.float32))


@pytest.mark.parametrize("bad", ["[1, 2]", "[]", "[1, x, 3]", "[1, 2, ... 3]", "[1, nan, 3]", ""])
def test_lists_that_are_none(tmp_path, bad):
    path = tmp_path / "a.csv"
    path.write_text(f'embedding,y\n"[1, 2, 3]",a\n"{bad}",b\n')
    with pytest.raises(DataError, match=r"a.csv, line 3: column 'embedding'"):
        text.read(path, {})


def test_lines_are_counted_as_editors_do(tmp_path):
    """Blank lines and quoted line breaks count."""
    path = tmp_path / "a.csv"
    path.write_text('f0,label\n\n1,"a\nb"\n2,c\n\nx,d\n')
    with pytest.raises(DataError, match="a.csv, line 7: column 'f0' is not a number"):
        text.read(path, {})


def test_long_cells(tmp_path):
    path = tmp_path / "a.csv"
    row = np.random.default_rng(0).normal(size=20_000)
    path.write_text(f'x,y\n"{row.tolist()}",a\n')
    assert text.read(path, {}).embeddings.shape == (1, 20_000)


def test_the_delimiter_is_that_of_the_first_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"a, b";"c";d\n"1,5";"x,y,z,w,v";2\n')
    found = delimited.opened(path)
    assert (found.columns, found.delimiter) == (["a, b", "c", "d"], ";")
    assert [line.cells for line in found.lines] == [["1,5", "x,y,z,w,v", "2"]]


def test_a_file_that_is_cut_off(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('f0,label\n1,"a\n')
    with pytest.raises(DataError, match="is not a readable CSV file"):
        text.read(path, {})
