"""Gradients by hand are autograd's, in one part or in several, on one thread or on two."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.core import threads
from src.core.threads import Team
from src.networks.backprop import CrossEntropy, Dense
from src.networks.cvae import CVAE, Objective


def rows(count, dim, classes):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, dim, generator=generator)
    return x, torch.randint(classes, (count,), generator=generator)


@pytest.fixture(params=[1e18, 1e3], ids=["one part", "four parts"])
def parts(request, monkeypatch):
    monkeypatch.setattr(threads, "PART_FLOP", request.param)
    return 1 if request.param == 1e18 else 4


@pytest.fixture(params=[1, 2], ids=["alone", "together"])
def team(request):
    with threads.one():
        team = Team(request.param)
        yield team
        team.close()


@pytest.mark.parametrize("hidden", [(), (16,), (16, 7)])
def test_cross_entropy(hidden, parts, team):
    widths = [12, *hidden, 5]
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    x, labels = rows(130, 12, 5)
    expected = torch.autograd.grad(F.cross_entropy(model(x), labels), list(model.parameters()))
    step = CrossEntropy(model)
    with torch.no_grad():
        step(team, x[:128], labels[:128])  # of which nothing is left
        step(team, x, labels)
    for ours, theirs in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-5, atol=1e-7)
    assert len(step.plans[130][2]) == parts


@pytest.mark.parametrize("count", [130, 1])
def test_the_cvae(count, parts, team):
    model = CVAE(12, 3, 16, 4)
    x, labels = rows(count, 12, 3)
    y, noise = F.one_hot(labels, 3).float(), torch.randn(count, 4)
    weights = {"kl_weight": 0.3, "prior_variance": 0.7}
    theirs = torch.autograd.grad(
        model.loss_rows(x, y, noise, **weights).sum(), list(model.parameters())
    )
    objective = Objective(model, **weights)
    with torch.no_grad():
        objective(team, torch.cat((x, y), 1), noise)
        loss = objective.loss(team, x, y, noise)
        assert loss == pytest.approx(
            float(model.loss_rows(x, y, noise, **weights).sum()), rel=1e-5
        )
    for ours, expected in zip(model.parameters(), theirs, strict=True):
        torch.testing.assert_close(ours.grad, expected, rtol=1e-4, atol=1e-5)


def test_whoever_computes_a_part_the_bytes_are_the_same(monkeypatch):
    monkeypatch.setattr(threads, "PART_FLOP", 1e3)
    x, labels = rows(512, 70, 10)
    y, noise, found = F.one_hot(labels, 10).float(), torch.randn(512, 8), []
    for number in (1, 2, 3):
        torch.manual_seed(0)
        model = CVAE(70, 10, 64, 8)
        objective = Objective(model, kl_weight=0.1, prior_variance=0.5)
        with threads.one(), torch.no_grad():
            team = Team(number)
            objective(team, torch.cat((x, y), 1), noise)
            team.close()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_only_linear_layers_are_seen():
    assert len(Dense(CVAE(12, 3, 16, 4).encoder).weights) == 2
