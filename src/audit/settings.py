"""Settings of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from src.core.errors import InputError
from src.core.settings import Settings, setting
from src.database import UNITS


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shadows == 1:
            raise InputError("--shadows 1: 0 or at least 2 are needed")
