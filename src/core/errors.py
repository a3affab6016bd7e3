"""Errors that a user can fix: the scripts print them as one line and exit with status 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

ALLOCATOR = "can't allocate memory"  # what torch's says on a CPU


class InputError(Exception):
    """Bad input; the message is one line that names the value and what would be valid."""


class UnknownNameError(InputError):
    """A name that is not among the valid ones; suggests the nearest."""

    MOST_LISTED = 100  # of more valid names than these only the closest are listed

    def __init__(
        self,
        kind: str,
        name: str,
        valid: Iterable[str],
        hint: str = "",
        close: Sequence[str] | None = None,  # the nearest, where more than spelling decides
    ) -> None:
        valid = sorted(valid)
        spelled = {v.lower(): v for v in valid}
        if close is None:
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
    """A file that is needed and does not exist; the message says how to get it."""


class DeviceError(InputError):
    """A device that this machine does not have."""


class OutputError(InputError):
    """A place that cannot be written."""


class MissingPackageError(InputError):
    """An optional requirement that is not installed; the message names the file to install."""


def printable(text: str) -> str:
    """A text in which control characters, which a terminal would obey, are escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def reason(error: OSError) -> str:
    """Why the system refused, and what helps where that can be said."""
    text = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        text += " (a higher limit helps: ulimit -n 4096)"
    return text


def out_of_memory(error: BaseException) -> str | None:
    """One line for an error that says that memory ran out, None for any other.

    Python and numpy raise MemoryError, torch a RuntimeError: of its allocator on a CPU, or one
    that says `out of memory` on another device. Most say how much was asked for.
    """
    text = " ".join(str(error).split())
    of_torch = isinstance(error, RuntimeError)
    on_device = of_torch and "out of memory" in text
    if not (isinstance(error, MemoryError) or on_device or (of_torch and ALLOCATOR in text)):
        return None
    size = re.search(r"allocate (\d.*?)(\. |$)", text)
    what = f": {size[1]} could not be allocated" if size else ""
    remedy = "a smaller batch or --device cpu" if on_device else "fewer rows or more memory"
    return f"out of memory{what}; what helps: {remedy}"
