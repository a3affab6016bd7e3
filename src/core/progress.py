"""Progress bars: on a terminal, and not where TQDM_DISABLE=1 asks for quiet."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """A tqdm bar on standard error if that is a terminal.

    tqdm reads TQDM_DISABLE once, when it is imported, and not where `disable` is passed; here
    the variable counts at every call, so that a sweep can silence the bars within its runs.
    """
    from tqdm import tqdm

    silent = os.environ.get("TQDM_DISABLE") == "1"
    return tqdm(iterable, disable=True if silent else None, **options)


@contextmanager
def silenced() -> Iterator[None]:
    """No bars and no notes within the block: it has a bar of its own."""
    before, level = os.environ.get("TQDM_DISABLE", ""), logging.root.manager.disable
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(max(level, logging.INFO))
    try:
        yield
    finally:
        logging.disable(level)
        os.environ["TQDM_DISABLE"] = before
