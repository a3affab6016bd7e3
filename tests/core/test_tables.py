"""The one writer of Markdown tables, and its numbers."""

import pytest

from src.core.tables import markdown, mean_and_deviation


def test_columns_are_equally_wide_and_bars_are_escaped():
    assert markdown(["name", "x"], [["a|b", "1 ± 2"], ["", "3"]]) == (
        "| name | x     |\n"
        "|------|-------|\n"
        "| a\\|b | 1 ± 2 |\n"
        "|      | 3     |"
    )  # fmt: skip


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        markdown(["a", "b"], [["1"]])


def test_the_deviation_is_the_sample_s():
    # squares of -1, 0, 1 over n - 1 = 2
    assert mean_and_deviation([1.0, 2.0, 3.0], 3) == "2.000 ± 1.000"
    assert mean_and_deviation([0.5], 2) == "0.50"
    assert mean_and_deviation([2.0, 2.0], 1) == "2.0 ± 0.0"
