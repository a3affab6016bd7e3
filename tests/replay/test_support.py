"""The stand-in for torch's random numbers refuses what was not recorded."""

import numpy as np
import pytest
import torch

from tests.replay.support import differing, drawn


def test_numbers_are_handed_out_in_order_and_torchs_own_come_back():
    with drawn(normals=[np.zeros((2, 3)), np.ones((2, 3))], orders=[np.array([1, 0])]):
        assert torch.randn(2, 3).sum() == 0
        assert torch.randn((2, 3)).sum() == 6
        assert torch.randperm(2).tolist() == [1, 0]
    assert torch.randn(2, 3).unique().numel() == 6


def test_numbers_that_are_missing_misshapen_or_left_over_fail():
    with pytest.raises(AssertionError, match="more normals"), drawn():
        torch.randn(2, 3)
    with pytest.raises(AssertionError, match=r"\(2, 3\) asked for, \(3, 2\) recorded"):
        with drawn(normals=[np.zeros((3, 2))]):
            torch.randn(2, 3)
    with pytest.raises(AssertionError, match="'orders': 1"), drawn(orders=[np.arange(3)]):
        pass


@pytest.mark.parametrize("value", [1.00002, np.nan, np.array([1.0])])
def test_a_loss_beyond_the_tolerance_differs(value):
    assert not differing({"a/val_loss": 1.000009}, {"a/val_loss": 1.0})
    assert list(differing({"a/val_loss": value}, {"a/val_loss": 1.0})) == ["a/val_loss"]
