"""Classifiers: what standardises them, and their loss."""

import pytest
import torch

from src.networks.heads import Classifier, LinearHead


def test_a_linear_head_s_loss_is_the_mean_cross_entropy():
    head = LinearHead(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        head.bias.zero_()
    x, labels = torch.tensor([[0.5], [-0.5]]), torch.tensor([1, 1])
    # logits ∓x: losses log(1 + exp(-2x)) of x = ½ and -½
    expected = (torch.tensor([-1.0, 1.0]).exp() + 1).log().mean()
    torch.testing.assert_close(head.loss(x, labels), expected)


def test_a_classifier_standardises_by_the_rows_it_is_made_for():
    rows = torch.tensor([[1.0, 10.0, 7.0], [3.0, 30.0, 7.0]])  # the last feature is constant
    model = Classifier(rows, 4, hidden_dim=5)
    assert model.mean.tolist() == [2, 20, 7]
    assert model.std.tolist() == [1, 10, 0]
    standard = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(model(rows), model.layers(standard))
    assert model(rows).shape == (2, 4)
    assert {"mean", "std"} <= model.state_dict().keys()
    assert model.loss(rows, torch.tensor([0, 3])).item() == pytest.approx(
        torch.nn.functional.cross_entropy(model(rows), torch.tensor([0, 3])).item()
    )
