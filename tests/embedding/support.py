"""Small images as splits."""

import numpy as np
import torch

from src.embedding.datasets.base import ImageArray, ImageSet, ImageSplits

CPU = torch.device("cpu")


def splits(*arrays):
    """Three splits; one array stands for all of them."""
    arrays = arrays if len(arrays) == 3 else arrays * 3
    sets = [ImageSet(ImageArray(a), np.zeros(len(a), np.int64)) for a in arrays]
    return ImageSplits(*sets, class_names=["only"])


def colour(n=3, size=40):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
