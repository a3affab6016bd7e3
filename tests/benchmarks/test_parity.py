"""Means over seeds agree with the released implementation's (`python -m benchmarks.parity`: all).

The CVAE's early stopping watches a noisy loss, so its utility differs most between seeds.
"""

import pytest
import torch

from benchmarks.data import varying
from benchmarks.parity import REFERENCES, Comparison, compare
from src.core.files import read_json


@pytest.fixture(scope="module")
def splits(digits):
    return varying(digits)


@pytest.mark.parametrize(
    ("keys", "seeds"),
    [
        (["identity|0", "identity|2"], range(3)),
        (["ksame-2|0"], range(3)),
        (["ksame-5|0", "ksame-5|4"], range(3)),
        pytest.param(["cvae|0", "cvae|2"], range(5), marks=pytest.mark.slow),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else f"{len(value)} seeds",
)
def test_means_agree_with_the_released_implementation(splits, keys, seeds):
    comparisons = compare(splits, keys, seeds, torch.device("cpu"))
    assert [c.key for c in comparisons[::2]] == keys
    assert not [str(c) for c in comparisons if not c.ok]


def test_a_difference_beyond_the_tolerance_is_a_miss():
    assert Comparison("cvae|0", "auc", 97.5, 97.0, 0.6).ok
    missed = Comparison("cvae|0", "auc", 96.3, 97.0, 0.6)
    assert not missed.ok
    assert "-0.7000" in str(missed)
    assert "MISSED" in str(missed)


def test_splits_have_the_shapes_of_the_published_figures(splits):
    shapes = [part.embeddings.shape for part in (splits.train, splits.val, splits.test)]
    assert shapes == [(1293, 61), (144, 61), (360, 61)]


def test_each_backbone_has_a_reference_of_its_own(splits):
    pixels, network = (read_json(path) for path in REFERENCES.values())
    assert pixels.keys() == network.keys()
    for backbone, reference in (("pixels", pixels), ("tf_efficientnet_lite0", network)):
        comparisons = compare(splits, ["identity|0"], [0], torch.device("cpu"), backbone=backbone)
        assert comparisons[0].reference == reference["identity|0"]["auc"]["mean"]
