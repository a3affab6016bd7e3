"""How thorough an audit may be asked to be."""

import pytest

from src.audit.settings import AuditSettings
from src.core.errors import InputError


def test_defaults():
    assert AuditSettings() == AuditSettings(shadows=16, bootstrap=1000, unit=None)


def test_no_shadows_or_two_are_enough():
    assert AuditSettings(shadows=0).shadows == 0
    assert AuditSettings.parse({"unit": "row"}, of="audit").given == {"unit": "row"}
    assert AuditSettings(shadows=2, bootstrap=1).given == {"shadows": 2, "bootstrap": 1}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shadows": 1}, "--shadows 1: 0 or at least 2 are needed"),
        ({"shadows": -1}, "--shadows -1 is below its minimum, 0"),
        ({"shadows": 2.5}, "--shadows is 2.5; it must be a whole number"),
        ({"bootstrap": 0}, "--bootstrap 0 is below its minimum, 1"),
        ({"unit": "patient"}, "unknown unit 'patient'"),
        ({"shadow": 3}, "unknown setting of audit 'shadow'; did you mean 'shadows'"),
    ],
)
def test_other_values_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        AuditSettings.parse(values, of="audit")
