"""Kinds of values. argparse shows an ArgumentTypeError's message after the flag's name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from src.core import files, names
from src.core.errors import InputError

LARGEST = 2**63 - 1  # of whole numbers: what an int64 holds
PICTURES = {".pdf": b"%PDF-", ".png": b"\x89PNG", ".svg": b"<?xml"}  # and how they begin


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
    with _of_flag():
        return names.checked(text)


def backbone_name(text: str) -> str:
    """A backbone's name, with `/` and `:` as on a hub."""
    with _of_flag():
        return names.checked_backbone(text)


def path(text: str) -> Path:
    """A path, with `~` and variables. Every flag of type `Path` is read with it."""
    with _of_flag():
        return files.shell_path(text)


def output_file(beginnings: Mapping[str, bytes]) -> Callable[[str], Path]:
    """A file to write, refused where it would replace something of another kind.

    Args:
        beginnings: suffix → how the files that are written under it begin, as PICTURES.
    """

    def parse(text: str) -> Path:
        file = path(text)
        with _of_flag():
            files.require_replaceable(file, beginnings)
        return file

    return parse


def new_folder(text: str) -> Path:
    """A new folder, refused where something exists already."""
    folder = path(text)
    with _of_flag():
        files.require_new(folder)
    return folder


@contextmanager
def _of_flag() -> Iterator[None]:
    """Let argparse put the flag's name in front of what is wrong with its value."""
    try:
        yield
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
