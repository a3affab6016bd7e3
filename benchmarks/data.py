"""Data that the measurements run on: the bundled digits, and random rows of stated shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from src.database import EmbeddingSet, Splits
from src.embedding import backbones, datasets, extraction
from src.embedding.settings import ExtractionSettings


def digits() -> Splits:
    """The digits as pixels: 1,293 / 144 / 360 rows, D = 64, C = 10."""
    images = datasets.load("digits", root=Path())
    pixels = backbones.load("pixels", images, device=torch.device("cpu"))
    return Splits(**extraction.embed("digits", images, pixels, ExtractionSettings(num_workers=0)))


def varying(splits: Splits) -> Splits:
    """The splits without the features that are constant in train."""
    kept = np.ptp(splits.train.embeddings, axis=0) > 0
    return Splits(
        *(
            EmbeddingSet(np.ascontiguousarray(part.embeddings[:, kept]), part.labels, part.meta)
            for part in (splits.train, splits.val, splits.test)
        )
    )
