"""Clipped sums: what they are, and that no row can do more than is stated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from src.anonymizers.dp import gradients
from src.core import seeding
from src.networks.cvae import CVAE

SPECIAL = (0.0, 1.0, 1e-45, 1e-38, 1e30, -1e30, 3e38, float("inf"), float("nan"))
LOSS = {"kl_weight": 0.1, "prior_variance": 0.5}


def network(scale=1.0, gain=1.0):
    """A small CVAE; `scale` multiplies its weights, `gain` the encoder's last ones."""
    with seeding.global_seed(0, "test"):
        model = CVAE(3, 2, 5, 2)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(scale)
        model.encoder[-1].weight.mul_(gain)
    return model


def summed(model, x, limit=0.5):
    """The clipped sum of rows [m, 3] as one vector, each with latent noise of its own."""
    y = torch.eye(2)[torch.arange(len(x)) % 2]
    noise = torch.linspace(-2, 2, 2 * len(x)).view(2, -1).T
    found = gradients.clipped_sum(model, lambda: model.loss_rows(x, y, noise, **LOSS), limit)
    return torch.cat([found[weights].flatten() for weights in model.parameters()])


def alone(model, x, limit=0.5):
    """The same by single rows: each vector [m, weights]."""
    y = torch.eye(2)[torch.arange(len(x)) % 2]
    noise = torch.linspace(-2, 2, 2 * len(x)).view(2, -1).T
    rows = []
    for one in zip(x.split(1), y.split(1), noise.split(1), strict=True):
        found = gradients.clipped_sum(model, lambda one=one: model.loss_rows(*one, **LOSS), limit)
        rows.append(torch.cat([found[weights].flatten() for weights in model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("limit", [1e-6, 0.5, 1e6])
def test_gradients_of_single_rows_by_another_differentiation(digits, limit):
    with seeding.global_seed(0, "test"):
        model = CVAE(64, 10, 16, 2)
    x, labels = (t[:40] for t in digits.train.tensors(torch.device("cpu")))
    y = nn.functional.one_hot(labels, 10).float()
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *rows):
            return self.model.loss_rows(*(r[None] for r in rows), **LOSS)[0]

    loss = Loss()
    single = vmap(grad(lambda p, *row: functional_call(loss, p, row)), in_dims=(None, 0, 0, 0))(
        dict(loss.named_parameters()), x, y, noise
    )
    rows = torch.cat([g.flatten(1) for g in single.values()], dim=1)
    expected = (rows / rows.norm(dim=1, keepdim=True).clamp(min=limit)).sum(0)
    found = gradients.clipped_sum(model, lambda: model.loss_rows(x, y, noise, **LOSS), limit)
    ours = torch.cat([found[weights].flatten() for weights in model.parameters()])
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


values = st.sampled_from(SPECIAL) | st.floats(-4, 4, width=32)
rows = st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=5)
networks = st.tuples(st.sampled_from([1.0, 30.0, 1e4]), st.sampled_from([1.0, 30.0, 1e6]))


def check_one_row(extra, others, shape):
    model = network(*shape)
    x = torch.tensor([*others, extra])
    ours, theirs = summed(model, x), alone(model, x)
    assert ours.isfinite().all()
    assert (theirs.norm(dim=1) <= 1 + 1e-5).all()
    # the sum is that of the rows alone: no row changes what the others add
    torch.testing.assert_close(ours, theirs.sum(0), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=150)
@given(st.lists(values, min_size=3, max_size=3), rows, networks)
def test_one_row_adds_at_most_one_whatever_it_is(extra, others, shape):
    check_one_row(extra, others, shape)


@pytest.mark.parametrize(
    "breaking",
    [
        lambda m: m.setattr(torch.Tensor, "masked_fill_", lambda rows, mask, value: rows),
        lambda m: m.setattr(gradients, "norms", lambda rows: rows.new_ones(len(rows)).double()),
    ],
)
def test_the_check_sees_a_sum_that_one_row_can_spoil(monkeypatch, breaking):
    breaking(monkeypatch)
    with pytest.raises(AssertionError):
        check_one_row([1e30, -1e30, 3e38], [[0.0, 1.0, 0.5]], (1e4, 1e6))


def test_a_gradient_that_is_not_finite_counts_as_none():
    """Its latent deviation overflows, so its loss is infinite and its gradient is not a number."""
    model = network(gain=1e6)
    x = torch.tensor([[0.1, 0.2, 0.3], [1e3, -1e3, 1e3], [0.0, 0.0, 0.0]])
    each = alone(model, x)
    assert not each[1].any()
    torch.testing.assert_close(summed(model, x), each.sum(0))


def test_no_rows_at_all():
    assert not summed(network(), torch.zeros(0, 3)).any()
