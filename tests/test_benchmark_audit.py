"""The table of audits over seeds, and which release it finds worst."""

from benchmarks.audit import better_than, table
from src.audit.measures import MEASURES


def figures(value):
    estimate = {"value": value, "low": value, "high": value}
    row = {"value": estimate, "ceiling": estimate, "chance": {**estimate, "value": 0.5}}
    return dict.fromkeys(MEASURES, row)


def test_a_row_a_figure_with_mean_and_deviation_over_seeds():
    lines = table({"a": [figures(0.25), figures(0.75)], "b": [figures(None)]}).splitlines()
    assert lines[0] == "| | a | b | chance |"
    assert len(lines) == 2 + len(MEASURES)
    assert lines[2] == "| nearest neighbour: AUC | 0.500 ± 0.354 | n/a | 0.500 ± 0.000 |"


def test_attacks_that_do_better_elsewhere_are_named():
    means = {"identity": [figures(1.0)], "other": [figures(0.9)]}
    assert better_than(means, "identity") == []
    means["other"][0] = {**figures(0.9), "linkability": figures(1.1)["linkability"]}
    assert better_than(means, "identity") == ["linkability: other"]
    assert "coverage: other" not in better_than({**means, "other": [figures(2.0)]}, "identity")
