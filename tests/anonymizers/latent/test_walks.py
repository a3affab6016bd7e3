"""Latent walks: losses by hand, and what the optimisation keeps and moves."""

import math
import re

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from src.anonymizers.latent import walks as module
from src.anonymizers.latent.walks import (
    Networks,
    equidistance_loss,
    linear,
    path_losses,
    privacy_loss,
    walk,
)
from src.core.errors import InputError
from tests.support import ROOT


def cells(centres, scale=1.0):
    """Logits that are highest for the nearest centre."""
    return lambda x: -scale * torch.cdist(x, centres).square()


def plane(centres, scale=1.0, generate=None):
    """Networks whose samples are the latents themselves, with one class for all."""
    return Networks(
        generate or (lambda w, _: w), cells(centres, scale), lambda x: x.new_zeros(len(x), 2)
    )


@pytest.fixture
def problem():
    torch.manual_seed(0)
    starts, ends, centres = torch.randn(6, 3), torch.randn(6, 3), torch.randn(20, 3)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    decode = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

    def generate(w, y):
        return decode(torch.cat([w, torch.nn.functional.one_hot(y, 2)], 1))

    task = torch.nn.Linear(3, 2)
    return starts, ends, labels, Networks(generate, cells(centres), task), decode


def test_linear_by_hand():
    line = linear(torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0, -3.0]]), 3)
    assert line.tolist() == [[[0.0, 1.0], [2.0, -1.0], [4.0, -3.0]]]


def test_privacy_loss_is_the_divergence_from_uniform():
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(1)) * 4
    uniform = Categorical(logits=torch.zeros(7, 11))
    expected = kl_divergence(uniform, Categorical(logits=logits))
    torch.testing.assert_close(privacy_loss(logits), expected)
    assert privacy_loss(torch.full((1, 5), 3.0)).item() == pytest.approx(0, abs=1e-6)
    # Two identities with probabilities 3/4 and 1/4: ½ log(½ / ¾) + ½ log(½ / ¼).
    by_hand = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert privacy_loss(torch.tensor([math.log(3), 0.0])).item() == pytest.approx(by_hand)


def test_equidistance_loss_by_hand():
    bent = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]])
    assert equidistance_loss(bent).tolist() == [26.0]
    line = linear(torch.zeros(1, 2), torch.tensor([[6.0, 8.0]]), 5)
    assert equidistance_loss(line).item() == pytest.approx(100 / 4)


def test_classifier_losses_are_means_over_the_points_that_move():
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    networks = Networks(lambda w, _: w, lambda x: x @ weight.T, lambda x: x)
    path = torch.tensor([[[9.0, 9.0], [0.0, 0.0], [math.log(3), 0.0], [-7.0, 7.0]]])
    losses = path_losses(path, torch.tensor([0]), networks)
    second = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert losses.privacy.item() == pytest.approx((0 + second) / 2, rel=1e-5)
    assert losses.task.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-5)


def test_labels_reach_the_generator_with_their_points():
    seen = []

    def generate(w, y):
        seen.append((w[:, 0].tolist(), y.tolist()))
        return w

    path = torch.arange(8.0).view(2, 4, 1)
    path_losses(
        path, torch.tensor([1, 0]), Networks(generate, lambda x: x, lambda x: x.repeat(1, 2))
    )
    assert seen == [([1.0, 2.0, 5.0, 6.0], [1, 1, 0, 0])]


def test_end_points_are_unchanged_and_inner_points_move(problem):
    starts, ends, labels, networks, _ = problem
    paths = walk(starts, ends, labels, networks, num_points=5, steps=10)
    assert paths.shape == (6, 5, 3)
    assert torch.equal(paths[:, 0], starts)
    assert torch.equal(paths[:, -1], ends)
    moved = (paths - linear(starts, ends, 5))[:, 1:-1].abs().amax((1, 2))
    assert (moved > 0.01).all()


def test_equidistance_alone_straightens_a_bent_path(monkeypatch):
    starts, ends = torch.zeros(2, 2), torch.tensor([[4.0, 2.0], [-1.0, 3.0]])

    def bent(a, b, n):
        line = linear(a, b, n)
        line[:, 1:-1] += torch.randn(2, n - 2, 2, generator=torch.Generator().manual_seed(2))
        return line

    monkeypatch.setattr(module, "linear", bent)
    networks = plane(torch.randn(4, 2))
    options = {"num_points": 6, "privacy_weight": 0.0}
    paths = walk(starts, ends, torch.zeros(2, dtype=torch.long), networks, **options)
    torch.testing.assert_close(paths, linear(starts, ends, 6), atol=1e-2, rtol=0)


def test_paths_bend_away_from_identities():
    centre = torch.tensor([[0.0, 0.1], [0.0, 5.0], [0.0, -5.0]])  # the first lies by the line
    starts, ends = torch.tensor([[-2.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    networks = plane(centre)
    label = torch.zeros(1, dtype=torch.long)

    def nearest(weight):
        path = walk(starts, ends, label, networks, num_points=7, privacy_weight=weight)
        return torch.cdist(path[0], centre).min().item(), path_losses(path, label, networks)

    (straight, loss0), (plan, loss1), (strong, loss2) = (nearest(w) for w in (0.0, 0.5, 5.0))
    assert straight == pytest.approx(0.1, abs=0.02)
    assert straight < plan - 0.02 < strong - 0.04
    assert loss2.privacy < loss1.privacy < loss0.privacy
    assert loss0.equidistance < loss1.equidistance < loss2.equidistance


def test_each_path_is_a_problem_of_its_own(problem):
    starts, ends, labels, networks, _ = problem
    together = walk(starts, ends, labels, networks, num_points=6, steps=60)
    batched = walk(starts, ends, labels, networks, num_points=6, steps=60, batch_paths=4)
    alone = walk(starts[3:4], ends[3:4], labels[3:4], networks, num_points=6, steps=60)
    torch.testing.assert_close(batched, together, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone, together[3:4], atol=1e-3, rtol=0)


def test_same_input_same_bytes_and_networks_are_left_alone(problem):
    starts, ends, labels, networks, decode = problem
    first = walk(starts, ends, labels, networks, num_points=6, steps=30)
    second = walk(starts, ends, labels, networks, num_points=6, steps=30)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert all(parameter.grad is None for parameter in decode.parameters())


@pytest.fixture
def gan():
    """A small synthesis network of (3, 8, 8) images; classifiers of ten people and two classes."""
    torch.manual_seed(3)
    synthesis = torch.nn.Sequential(
        torch.nn.Linear(8, 16 * 4),
        torch.nn.Unflatten(1, (16, 2, 2)),
        torch.nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
        torch.nn.BatchNorm2d(8, momentum=1.0),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
        torch.nn.BatchNorm2d(3, momentum=1.0),
        torch.nn.Tanh(),
    )
    synthesis(torch.randn(64, 8))  # gives the normalisations their statistics

    def judge(outputs):
        layers = torch.nn.Conv2d(3, 12, 3), torch.nn.ReLU(), torch.nn.Flatten()
        network = torch.nn.Sequential(*layers, torch.nn.Linear(12 * 36, outputs))
        network[-1].weight.data *= 10
        return network

    labels = torch.tensor([0, 1, 1])
    ends = {"starts": torch.randn(3, 8), "ends": torch.randn(3, 8), "labels": labels}
    return {"synthesis": synthesis.eval(), "who": judge(10), "what": judge(2), **ends}


def test_a_convolutional_generator_of_images(gan):
    starts, ends, labels = gan["starts"], gan["ends"], gan["labels"]
    networks = Networks(lambda w, _: gan["synthesis"](w), gan["who"], gan["what"])
    lines = linear(starts, ends, 5)
    paths = walk(starts, ends, labels, networks, num_points=5, privacy_weight=5.0, steps=99)
    with torch.no_grad():
        before, after = (path_losses(p, labels, networks) for p in (lines, paths))
    assert (after.privacy < 0.8 * before.privacy).all(), (before, after)


def test_the_lines_for_an_image_gan_in_the_documentation(gan):
    text = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(lines.splitlines()) <= 12
    exec(lines, gan)
    assert gan["images"].shape == (3 * 10, 3, 8, 8)
    assert gan["paths"].shape == (3, 12, 8)
    assert not torch.equal(gan["paths"], linear(gan["starts"], gan["ends"], 12))
    assert not gan["synthesis"].training


def test_shapes_that_do_not_fit_are_named():
    networks = plane(torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"\(3, 2\), \(2, 2\) and \(3,\)"):
        walk(torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(3, dtype=torch.long), networks)
    with pytest.raises(InputError, match="not 1"):
        walk(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1).long(), networks, num_points=1)


def test_two_points_are_the_ends():
    starts, ends = torch.zeros(1, 2), torch.ones(1, 2)
    paths = walk(starts, ends, torch.zeros(1).long(), plane(torch.zeros(1, 2)), num_points=2)
    assert torch.equal(paths, torch.stack([starts, ends], 1))
