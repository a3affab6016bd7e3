"""Errors that a user can mend: the scripts print them as one line and exit with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input; the message is one line that names the value and what would be valid."""


class UnknownNameError(InputError):
    """A name that is not among the valid ones; suggests the nearest."""

    MOST_LISTED = 100  # of more names than these only the closest are listed

    def __init__(self, kind: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        valid = sorted(valid)
        spelled = {v.lower(): v for v in valid}
        close = [spelled[c] for c in difflib.get_close_matches(name.lower(), spelled, n=5)]
        suggestion = f"; did you mean '{close[0]}'?" if close else ""
        if len(valid) <= self.MOST_LISTED:
            known = f"valid: {', '.join(valid) or 'none'}"
        else:
            known = f"one of {len(valid)}; the closest: {', '.join(close) or 'none is close'}"
        super().__init__(f"unknown {kind} '{name}'{suggestion} ({known}){hint}")


class DataError(InputError):
    """A file whose content cannot be used."""


class MissingFileError(InputError):
    """A file that should be there and is not; the message says how to get it."""


class DeviceError(InputError):
    """A device that this machine does not have."""


class OutputError(InputError):
    """A place that cannot be written."""


class MissingPackageError(InputError):
    """An optional requirement that is not installed; the message names the file to install."""
