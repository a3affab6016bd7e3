"""Names that become folders and parts of file names: checked here, for flags, sweeps and files.

Whoever writes a name decides where files are read and written, so none of them is a path.
"""

from __future__ import annotations

import re

from src.core.errors import InputError, printable

LONGEST = 200  # bytes; a file's name may have 255, with split, seed, noise level and suffix
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LOCAL = "local-dir:"  # what timm calls a folder of weights: the rest is a path


def checked(text: str) -> str:
    """A name that can be one folder, or part of a file's name.

    Raises:
        InputError: it is empty, `.`, `..`, a path, too long, or has characters that are lost or
            changed on the way to a file system or a JSON file.
    """
    _require(text, _problem(text))
    return text


def checked_backbone(text: str) -> str:
    """A backbone's name: with `/` and `:` too, as in `hf-hub:owner/name` and `local-dir:folder`.

    Raises:
        InputError: a part of it is not a name, or the whole is too long.
    """
    if text.startswith(LOCAL):
        problem = _problem(re.sub(r"[/:]", "_", text))
    else:
        found = map(_problem, (text.replace("/", "_"), *re.split("[/:]", text)))
        problem = next(filter(None, found), "")
    _require(text, problem)
    return text


def _problem(text: str) -> str:
    """What keeps a text from being a name, "" if nothing does."""
    if not text:
        return "is empty, or a part of it is"
    if "/" in text or "\\" in text:
        return "is a path"
    if CONTROL.search(text):
        return "has a control character"
    if text != text.strip() or text.endswith("."):  # `.` and `..` too
        return "begins or ends with a blank, or ends with a dot"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "is not UTF-8"
    return f"is longer than {LONGEST} bytes" if len(text.encode()) > LONGEST else ""


def _require(text: str, problem: str) -> None:
    if problem:
        short = printable(text if len(text) <= 60 else f"{text[:60]}…")
        raise InputError(f"'{short}' is not a name: it {problem}")
