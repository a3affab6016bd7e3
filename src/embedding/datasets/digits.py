"""`digits`: scikit-learn's bundled handwritten digits, 1,797 grey images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np

from src.embedding.datasets.base import ImageArray, ImageSet, ImageSplits
from src.embedding.datasets.splitting import SPLIT_SEED, TEST_FRACTION

WHITE = 16  # grey values are 0..16


def load() -> ImageSplits:
    """Test is a stratified 20 %, validation a stratified 10 % of the rest: 1,293 / 144 / 360.

    Images are in mode 'F', because 8 bits cannot hold sixteenths (255 / 16 is not whole).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / WHITE).astype(np.float32)
    everything = ImageSet(ImageArray(images), digits.target.astype(np.int64))
    rest, test = everything.hold_out(TEST_FRACTION)
    train, val = rest.hold_out()
    return ImageSplits(
        train=train,
        val=val,
        test=test,
        class_names=[str(name) for name in digits.target_names],
        facts={"source": "scikit-learn digits", "val": "held out", "split_seed": SPLIT_SEED},
    )
