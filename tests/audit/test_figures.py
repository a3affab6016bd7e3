"""The picture of an audit: attacks with intervals and controls, and ROC curves."""

import dataclasses

import matplotlib
import pytest

from src.audit import figures
from src.audit.settings import AuditSettings
from tests.audit.support import audited, blobs, splits


@pytest.mark.parametrize("facts", [{}, {"epsilon": 1.0, "delta": 1e-5}])
def test_curves_guessing_and_the_bound_of_a_guarantee_are_drawn(tmp_path, facts):
    data = splits(blobs(60, 2), train=80)
    released = dataclasses.replace(data.train, meta={"facts": facts})
    report = audited(data, released=released, options=AuditSettings(shadows=0, bootstrap=5))
    path = tmp_path / "new" / "roc.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        figures.save(path, report, "digits, pixels, identity")
    drawn = path.read_text()
    assert "digits, pixels, identity" in drawn
    assert "nearest neighbour (AUC 1.000)" in drawn
    assert "guessing" in drawn
    assert report.summary.said[0] in drawn
    for text in ("density by class", "nearest, whitened", "chance", "ceiling", "release, 95 %"):
        assert text in drawn, text
    assert ("bound of ε = 1" in drawn) == bool(facts)
