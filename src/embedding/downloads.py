"""Fetching what is missing: a whole, checked file or one line that says what to put where.

torchvision's own downloader writes straight to the target, waits without limit, and falls back
from https to http; so only its addresses and checksums are used. The usual package for this,
pooch, would bring three others along for what is forty lines here.
"""

from __future__ import annotations

import hashlib
import logging
import tarfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from src.core import progress
from src.core.errors import DataError, MissingFileError, OutputError
from src.core.files import building, reading, replacing

TIMEOUT = 10  # seconds without an answer
CHUNK = 1 << 20  # bytes

log = logging.getLogger(__name__)


def fetch(url: str, path: Path, md5: str | None = None) -> None:
    """Download `url` to `path`, whole or not at all.

    Raises:
        MissingFileError: it cannot be downloaded.
        DataError: the content is not what was published.
        OutputError: `path` cannot be written.
    """
    by_hand = f"fetch it by other means and put it at {path}"
    chunks = _received(url, path.name, by_hand)
    first = next(chunks, b"")  # nothing is created before the first bytes arrive
    digest = hashlib.md5(first, usedforsecurity=False)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
        if md5 not in (None, digest.hexdigest()):
            found = digest.hexdigest()
            raise DataError(
                f"{url} arrived damaged (MD5 {found}, not {md5}); try again, or {by_hand}"
            )


def _received(url: str, name: str, by_hand: str) -> Iterator[bytes]:
    log.info("downloading %s", url)
    request = Request(url, headers={"User-Agent": "Mozilla/5.0"})  # some hosts refuse urllib's
    try:
        with urlopen(request, timeout=TIMEOUT) as response:
            size, received = response.length, 0
            with progress.bar(total=size, unit="B", unit_scale=True, desc=name) as bar:
                while chunk := response.read(CHUNK):
                    received += len(chunk)
                    bar.update(len(chunk))
                    yield chunk
            if size is not None and received < size:
                raise ConnectionError(f"only {received} of {size} bytes arrived")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise MissingFileError(f"cannot download {url} ({reason}); {by_hand}") from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the entry `folder.name` of a tar archive to `folder`, whole or not at all.

    Raises:
        DataError: the archive is damaged.
        OutputError: `folder` cannot be written.
    """
    log.info("unpacking %s", archive)
    with (
        building(folder) as temporary,
        reading(archive, "is damaged (delete it to have it downloaded again)"),
        tarfile.open(archive) as tar,
    ):
        members = progress.bar(tar, desc=archive.name, unit=" files")
        try:
            tar.extractall(temporary, members=members, filter="data")
        except OSError as error:
            if error.errno:  # of the disk, not of the archive
                raise OutputError(f"cannot write {folder}: {error.strerror}") from error
            raise
        if not (temporary / folder.name).is_dir():
            raise DataError(f"{archive} does not contain the folder '{folder.name}'")
