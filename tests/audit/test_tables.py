"""The table that an audit prints."""

import pytest

from src.audit.measures import MEASURES
from src.audit.settings import AuditSettings
from src.audit.statistics import Estimate
from src.audit.tables import CAUTION, interval
from tests.audit.support import audited, blobs, splits


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.5123, 0.48, 0.5451), "0.512 [0.480, 0.545]"),
        (Estimate(0.25), "0.250"),
        (Estimate(None), "n/a"),
    ],
)
def test_an_estimate_is_shown_with_its_interval(estimate, text):
    assert interval(estimate) == text


def test_the_summary_sizes_one_line_per_metric_notes_and_the_caution():
    report = audited(splits(blobs(120, 2)), options=AuditSettings(shadows=0, bootstrap=10))
    *said, nothing, first, header = report.table().splitlines()[:6]
    assert [*said, nothing] == [*report.summary.said, ""]
    *lines, note, last = report.table().splitlines()[6:]
    assert first == (
        "300 members, 120 non-members, 0 references, 300 released rows, 300 distinct released rows"
    )
    assert header.split("  ")[-1] == "verdict"
    labels = [MEASURES[key].label for key in report.metrics]
    assert [line.split("  ")[0] for line in lines] == labels
    values = {line.index("1.000") for line in lines if "  1.000" in line}
    assert values == {header.index("value [")}
    assert note == report.notes[0]
    assert "needs 300 test rows" in note
    assert "only 120 are available" in note
    assert last == CAUTION
