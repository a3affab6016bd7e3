"""Errors that a user can mend: the scripts print them as one line and exit with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input; the message is one line that names the value and what would be valid."""


class UnknownNameError(InputError):
    """A name that is not among the valid ones; suggests the nearest."""

    def __init__(self, kind: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        valid = sorted(valid)
        close = difflib.get_close_matches(name.lower(), [v.lower() for v in valid], n=1)
        nearest = next((v for v in valid if close and v.lower() == close[0]), None)
        suggestion = f"; did you mean '{nearest}'?" if nearest else ""
        known = ", ".join(valid)
        super().__init__(f"unknown {kind} '{name}'{suggestion} (valid: {known}){hint}")


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
