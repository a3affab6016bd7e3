"""What was not tested in a place, so that nobody takes silence for safety."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.audit.measures import MEASURES
from src.probing import results
from src.report.evidence import Evidence, seeds
from src.report.grid import Sweep, is_number

RATES = {key: measure.fpr for key, measure in MEASURES.items() if measure.fpr is not None}
PERSONS = "reidentification_rank1"


def gaps(sweep: Sweep, everything: Sequence[Evidence]) -> list[str]:
    """Sentences, the most important first."""
    released = [e for e in everything if e.releases]
    return [
        *_missing(everything),
        *_seen(everything),
        *_unaudited(sweep, released),
        *_left_out(released),
        *_persons(released),
        *_rates(released),
        "Attacks that nobody has tried here: audits find leaks and cannot show their absence.",
        "Other splits into training and test rows, other backbones and other data than these.",
        "Several releases of the same rows together: each further one adds to what is known.",
    ]


def _missing(everything: Sequence[Evidence]) -> list[str]:
    lines = [f"{e.anonymizer.label} ({seeds(e.missing)})" for e in everything if e.missing]
    return [f"Results are missing: {'; '.join(lines)}."] if lines else []


def _seen(everything: Sequence[Evidence]) -> list[str]:
    """Test rows and persons that training has seen, as results count them."""
    said = []
    records = [result.record for e in everything for result in e.first.values()]
    if count := _most(records, results.COPIES, "test"):
        said.append(f"Utility on new rows alone: {count:,} test rows equal a training row.")
    if count := _most(records, results.PERSONS, "test_in_train"):
        said.append(f"Utility for new persons: {count:,} of the test rows' are in training, too.")
    return said


def _most(records: Iterable[Mapping[str, Any]], item: str, name: str) -> int:
    found = (record.get(item) for record in records)
    counts = [counted.get(name) for counted in found if isinstance(counted, dict)]
    return max((int(count) for count in counts if is_number(count)), default=0)


def _unaudited(sweep: Sweep, released: Sequence[Evidence]) -> list[str]:
    if not sweep.audit:
        return ["No release was attacked: the sweep has no 'audit'."]
    said = []
    if lines := _names(e for e in released if len(e.audits) < len(e.results)):
        said.append(f"Audits are missing, at least of some seeds: {lines}.")
    if lines := _names(e for e in released if len(e.summaries) < len(e.audits)):
        said.append(f"Audits of an older version, which do not name a strongest attack: {lines}.")
    if not sweep.audit.shadows:
        said.append("No attacker who makes such releases to compare with (shadows: 0).")
    if not sweep.one_run:
        said.append("What one run proves (one_run: true).")
    elif lines := _names(e for e in released if len(e.one_runs) < len(e.results)):
        said.append(f"What one run proves is missing, at least of some seeds: {lines}.")
    return said


def _left_out(released: Sequence[Evidence]) -> list[str]:
    """What audits themselves say that they left out."""
    notes: dict[str, list[str]] = {}
    for evidence in released:
        for audit in evidence.audits.values():
            for note in map(str, audit.get("notes") or ()):
                if "left out" in note or "not judged" in note or "not checked" in note:
                    names = notes.setdefault(note, [])
                    if evidence.anonymizer.label not in names:
                        names.append(evidence.anonymizer.label)
    return [f"{note[:1].upper()}{note[1:]} ({', '.join(names)})." for note, names in notes.items()]


def _persons(released: Sequence[Evidence]) -> list[str]:
    audits = [audit for e in released for audit in e.audits.values()]
    if not audits or any(PERSONS in audit["metrics"] for audit in audits):
        return []
    return [
        "Whether another image of a person leads to them: the embeddings do not say whose rows "
        "are, or nobody has several."
    ]


def _rates(released: Sequence[Evidence]) -> list[str]:
    """The false-positive rates that the non-members do not resolve."""
    audits = [audit for e in released for audit in e.audits.values()]
    unknown = {
        rate
        for key, rate in RATES.items()
        if (rows := [audit["metrics"][key] for audit in audits if key in audit["metrics"]])
        and all(row["value"]["value"] is None for row in rows)
    }
    rates = ", ".join(f"{100 * rate:g} %" for rate in sorted(unknown, reverse=True))
    if not rates:
        return []
    return [f"Attacks at a false-positive rate of {rates}: there are too few non-members."]


def _names(evidence: Iterable[Evidence]) -> str:
    return ", ".join(e.anonymizer.label for e in evidence)
