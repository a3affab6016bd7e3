"""Settings of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from src.core.errors import InputError
from src.core.settings import Settings, setting
from src.database import UNITS

CANARIES = MISLABELLED, LEAST_VARIANCE = ("mislabelled", "least_variance")


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Settings):
    """Audit: how thorough it is."""

    shadows: int = setting(
        "releases made again for the shadow attack, 0 or at least 2; 0 leaves it out",
        16,
        minimum=0,
    )
    bootstrap: int = setting("repetitions behind every interval", 1000, minimum=1)
    unit: str | None = setting(
        "person or row: who is attacked, each by all their rows (default: the person where known)",
        None,
        choices=UNITS,
    )

    most_rows: int = setting(
        "rows of each side that are looked at; of more, whole persons (rows) are drawn at random",
        20_000,
        minimum=1000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shadows == 1:
            raise InputError("--shadows 1: 0 or at least 2 are needed")


@dataclass(frozen=True, kw_only=True)
class OneRunSettings(Settings):
    """One-run audit: who is put into training at random."""

    unit: str | None = setting("person or row", None, choices=UNITS)
    candidates: int | None = setting(
        "how many persons (rows) are put into training at random; the others are all in "
        "(default: all)",
        None,
        minimum=1,
    )
    delta: float = setting(
        "δ of the bound, where the release states none itself", 1e-5, minimum=0, maximum=1
    )
    canaries: str | None = setting("kind of the canaries", None, choices=CANARIES)
    number: int = setting("canaries, which are then the candidates", 0, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.canaries is None) != (self.number == 0):
            raise InputError("canaries need a kind and a number above 0")
        if self.canaries and self.candidates:
            raise InputError(
                f"--candidates {self.candidates} has no effect: canaries are the candidates"
            )
