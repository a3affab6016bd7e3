"""Embed images as a bundle's were embedded: what that takes, and whether it came out so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.bundle import contents, datasheet, preprocessing
from src.bundle.rendering import shown
from src.core.errors import DataError, InputError
from src.core.names import LOCAL
from src.core.provenance import versions

KINDS: dict[str, tuple[type, ...]] = {
    "backbone": (str,),
    "image_size": (int,),
    "precision": (str,),
    "window": (list,),
}

log = logging.getLogger(__name__)


class Likeness:
    """How the rows of a bundle were made, to be followed."""

    def __init__(self, folder: Path) -> None:
        """Read a bundle.

        Raises:
            MissingFileError, DataError: it cannot be read.
        """
        self.folder = folder
        self.sheet = contents.read(folder).sheet
        self.way: Mapping[str, Any] = self.sheet["preprocessing"]

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The flags of create_db.py that lead to rows like the bundle's, by name.

        Args:
            given: of these flags the values that are given; None where a flag is not.

        Raises:
            InputError: one contradicts the bundle, or the backbone is a folder of another site.
        """
        stated = {**self.way, "backbone": self.sheet["backbone"]}
        found = {}
        for name, value in given.items():
            theirs = stated.get(name)
            theirs = theirs if isinstance(theirs, KINDS[name]) else None
            ours = datasheet.public_name(value) if name == "backbone" and value else value
            if None not in (ours, theirs) and ours != theirs:
                raise InputError(
                    f"--{name} {ours} contradicts --like {self.folder}: its rows were made with "
                    f"{shown(theirs)}"
                )
            found[name] = theirs if value is None else value
        if given["backbone"] is None and str(found["backbone"]).startswith(LOCAL):
            raise InputError(
                f"--like {self.folder}: its backbone is a folder of weights, "
                f"'{shown(found['backbone'])}'; --backbone {LOCAL}FOLDER says where yours is"
            )
        return found

    def check(self, precision: str, facts: Mapping[str, Any], dim: int) -> None:
        """Say what differs from how the bundle's rows were made.

        Args:
            facts: of the dataset and the backbone, as `meta` has them.
            dim: dimensions of the rows.

        Raises:
            DataError: it is more than versions of libraries: the rows would not fit the bundle's.
        """
        ours = preprocessing.of({"precision": precision, "facts": facts, "versions": versions()})
        found = preprocessing.differences(self.way, ours)
        if dim != self.sheet["dimensions"]:
            found.append(f"dimensions {dim} instead of {self.sheet['dimensions']}")
        if found:
            raise DataError(
                f"these images would be embedded in another way than those of --like "
                f"{self.folder}: {shown('; '.join(found))}"
            )
        lacking = preprocessing.unknown(self.way, ours)
        if lacking:
            log.warning("%s does not say all: not compared: %s", self.folder, ", ".join(lacking))
        for line in preprocessing.other_versions(self.way, ours):
            log.warning("unlike %s: %s (the last digits may differ)", self.folder, shown(line))
