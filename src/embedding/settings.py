"""How images are embedded."""

from __future__ import annotations

from dataclasses import dataclass

from src.core.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings(Settings):
    """Extraction: what happens between images and rows, besides the backbone."""

    precision: str = setting(
        "of the arithmetic; bf16 costs up to 9 %% relative error in the features of a "
        "convolutional network, fp16 1 %%; embeddings are stored as float32",
        "fp32",
        choices=("fp32", "bf16", "fp16"),
    )
    batch_size: int = setting("images per batch", 128, minimum=1)
    num_workers: int | None = setting(
        "processes that decode images (default: by the device and the number of CPU cores)",
        None,
        minimum=0,
    )
    drop_copies: bool = setting("leave out training images that are also in val or test", False)
