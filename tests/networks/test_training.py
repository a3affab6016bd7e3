"""The fit loop: when it stops, what it keeps, in which order rows come."""

import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core import seeding
from src.core.errors import InputError
from src.networks import training
from src.networks.training import Schedule


class Point(nn.Module):
    """One number, to be moved to where the loss is least."""

    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(torch.tensor([5.0]))

    def loss(self):
        return self.at.detach().square().sum()


def fit(model, validation_loss, **changes):
    schedule = Schedule(**{"learning_rate": 0.1, "num_epochs": 50, "patience": 4, **changes})
    model.at.grad = torch.empty(1)
    return training.fit(
        model,
        schedule,
        batches=lambda team: [(torch.zeros(1),)],
        gradients=lambda team, _: model.at.grad.copy_(2 * model.at),
        validation_loss=lambda team: validation_loss(),
    )


def test_it_stops_after_patience_epochs_and_keeps_the_best_weights():
    model, seen = Point(), []
    losses = iter([3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 1.2, 1.1, 0.0])

    def validation_loss():
        seen.append(model.at.item())
        return torch.tensor(next(losses))

    done = fit(model, validation_loss)
    assert done[:3] == (8, 4, 1.0)  # four epochs no better than the fourth
    assert model.at.item() == seen[3]
    assert 0 < done.seconds < 60
    assert done.losses == pytest.approx((3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 1.2, 1.1))
    assert str(done) == "8 epochs, the best is 4, validation loss 1"


def test_it_stops_at_num_epochs():
    model = Point()
    assert fit(model, model.loss, num_epochs=7).epochs == 7


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_fit(value):
    with pytest.raises(InputError, match=r"fit diverged.*epoch 1 .*rate 0\.1; a smaller --learn"):
        fit(Point(), lambda: torch.tensor(value))
    with pytest.raises(InputError, match=r"learning rate 0\.1; this helps$"):
        fit(Point(), lambda: torch.tensor(value), remedy="this helps")


def test_the_plateau_schedule_is_stepped_with_the_validation_loss():
    model, rates = Point(), []

    def plateau(optimizer):
        rates.append(optimizer.param_groups[0])
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=1)

    fit(model, lambda: torch.tensor(1.0), plateau=plateau, patience=6)
    assert rates[0]["lr"] == pytest.approx(0.1 * 0.5**2)


def test_batches_are_a_permutation_of_the_rows():
    rows, labels = torch.arange(10.0)[:, None], torch.arange(10)
    generator = seeding.generator(0, "test")
    epochs = [list(training.shuffled(10, 4, generator, rows, labels)) for _ in range(2)]
    assert [len(x) for x, _ in epochs[0]] == [4, 4, 2]
    orders = [torch.cat([y for _, y in batches]) for batches in epochs]
    for batches, order in zip(epochs, orders, strict=True):
        assert sorted(order.tolist()) == list(range(10))
        assert torch.equal(torch.cat([x for x, _ in batches])[:, 0], order.float())
    assert not torch.equal(*orders)
