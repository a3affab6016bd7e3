"""Kinds of values. argparse shows an ArgumentTypeError's message after the flag's name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

LARGEST = 2**63 - 1  # of whole numbers: what an int64 holds


def number(
    kind: type[int] | type[float], *, minimum: float | None = None, above: float | None = None
) -> Callable[[str], float]:
    """A finite number of that kind, at least `minimum`, greater than `above`."""
    name = "a whole number" if kind is int else "a number"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not {name}") from error
        if not abs(value) < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not finite")
        if kind is int and value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is above {LARGEST}")
        if minimum is not None and value < minimum:
            raise argparse.ArgumentTypeError(f"{text} is below {minimum}")
        if above is not None and value <= above:
            raise argparse.ArgumentTypeError(f"{text} is not greater than {above}")
        return value

    return parse


def device_name(text: str) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`; whether it exists is found out later."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of auto, cpu, cuda, cuda:N, mps")
    return text


def plain_name(text: str) -> str:
    """A name that can be one folder: not empty, no path in it."""
    if not text or text in (".", "..") or "/" in text or "\\" in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"'{text}' is not a name (a path cannot be one)")
    return text
