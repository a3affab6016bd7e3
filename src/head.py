"""Hyperparameters of the linear head that a release is probed with."""

from __future__ import annotations

from dataclasses import dataclass

from src.anonymizers.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """Adam on cross-entropy, stopped early (Di Salvo et al., BMVC 2024)."""

    learning_rate: float = setting("Adam's learning rate", 1e-3, above=0)
    num_epochs: int = setting("most epochs", 100, minimum=1)
    batch_size: int = setting("rows in a batch", 128, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 5, minimum=1
    )
