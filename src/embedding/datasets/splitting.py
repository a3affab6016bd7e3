"""The one place where a split is made that the data's publishers did not make."""

from __future__ import annotations

import numpy as np

from src.core.errors import DataError

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1  # of what is not test
SPLIT_SEED = 12345


def hold_out(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of (images kept, images held out), split by class, each in shuffled order.

    Args:
        labels: (n,) int64.
        fraction: of the images, to be held out.

    Raises:
        DataError: too few images for every class to be in both parts.
    """
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, random_state=SPLIT_SEED, stratify=labels
        )
    except ValueError as error:
        raise DataError(
            f"{len(labels)} images of {len(np.unique(labels))} classes are too few to hold "
            f"out {fraction:.0%} of them with every class in both parts: {error}"
        ) from error
    return kept, held_out
