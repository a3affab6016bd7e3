"""Linear heads fitted together are, to the byte, those fitted alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core import threads
from src.core.errors import InputError
from src.core.threads import Team
from src.networks import linear
from src.networks.heads import LinearHead
from src.networks.training import Fit, Schedule


def data(seed, rows, dim, classes):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    return torch.randn(rows, dim, generator=generator) + labels[:, None] / 2, labels


def cases(seeds, shape, schedules):
    """Cases, and where their batches come from; every third has rows of its own."""
    rows, dim, classes = shape
    shared = [(linear.padded(x), y) for x, y in (data(0, rows, dim, classes), data(9, *shape))]
    held_out = data(1, 40, dim, classes)
    made, sources = [], []
    for seed, schedule in zip(seeds, schedules, strict=True):
        torch.manual_seed(seed)
        made.append(linear.Case(LinearHead(dim, classes), *held_out, schedule))
        generator = torch.Generator().manual_seed(seed)
        sources.append(linear.Source(*shared[seed % 3 == 2], generator))
    return made, sources


def fitted(seeds, shape, schedules, batch_size=32):
    made, sources = cases(seeds, shape, schedules)
    fits = linear.fit(made, linear.shuffled(sources, batch_size))
    return fits, [torch.cat([case.linear.weight, case.linear.bias[:, None]], 1) for case in made]


def schedule(rate=1e-2, epochs=12, patience=3):
    return Schedule(rate, epochs, patience)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(33, 140), st.integers(1, 70), st.integers(2, 17)),
    count=st.integers(2, 7),
    batch_size=st.sampled_from([16, 33, 128]),
)
def test_together_as_alone_but_for_rounding(shape, count, batch_size):
    schedules = [schedule(rate=10.0**-i, epochs=4 + i, patience=1 + i) for i in range(3)]
    chosen = [schedules[i % 3] for i in range(count)]
    together = fitted(range(count), shape, chosen, batch_size)
    for i in range(count):
        (alone,), (weights,) = fitted([i], shape, [chosen[i]], batch_size)
        assert together[0][i].losses[0] == pytest.approx(alone.losses[0], rel=1e-4)
        if together[0][i].epochs == alone.epochs:  # where losses nearly tie, rounding may decide
            torch.testing.assert_close(together[1][i], weights, rtol=1e-3, atol=1e-4)


def test_each_stops_by_its_own_validation_loss(monkeypatch):
    sizes, original = [], linear.Stack.gradients

    def spy(self, team, x, labels):
        sizes.append(len(x))
        original(self, team, x, labels)

    monkeypatch.setattr(linear.Stack, "gradients", spy)
    schedules = [schedule(epochs=2), schedule(epochs=5), schedule(epochs=3)]
    fits, _ = fitted([0, 1, 3], (64, 8, 2), schedules)
    assert [fit.epochs for fit in fits] == [2, 5, 3]
    assert sizes == 2 * [3] * 2 + 2 * [2] + 2 * 2 * [1]  # two batches in an epoch


def test_one_that_diverges_leaves_the_others_alone():
    schedules = [schedule(), schedule(rate=1e38), schedule()]
    fits, weights = fitted([0, 1, 3], (64, 8, 2), schedules)
    assert isinstance(fits[1], InputError)
    assert "linear head diverged" in str(fits[1])
    for place, seed in ((0, 0), (2, 3)):
        (alone,), (expected,) = fitted([seed], (64, 8, 2), [schedule()])
        assert isinstance(fits[place], Fit)
        assert fits[place].losses == alone.losses
        assert torch.equal(weights[place], expected)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("part_flop", [1e18, 1e3])
def test_gradients_are_autograds(monkeypatch, part_flop, number):
    monkeypatch.setattr(threads, "PART_FLOP", part_flop)
    heads = [LinearHead(5, 3) for _ in range(4)]
    x, labels = torch.randn(4, 130, 5), torch.randint(3, (4, 1, 130))
    stack = linear.Stack(heads)
    with threads.one(), torch.no_grad():
        team = Team(number)
        stack.gradients(team, linear.padded(x.flatten(0, 1)).view(4, 130, -1), labels)
        team.close()
    weight, bias = stack.adam.tensors[1]
    for i, head in enumerate(heads):
        loss = F.cross_entropy(head(x[i]), labels[i, 0])
        expected = torch.autograd.grad(loss, list(head.parameters()))
        torch.testing.assert_close(weight[i, :, :5], expected[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(bias[i, :3], expected[1], rtol=1e-4, atol=1e-6)
        assert not weight[i, :, 5:].any()  # what is padded stays 0
        assert not bias[i, 3:].any()


def test_rows_of_a_step_stay_within_the_cache():
    assert linear.at_once(64, 128) == 128
    assert linear.at_once(1280, 128) == 6
    assert linear.at_once(100_000, 128) == 1


def test_each_head_has_its_own_order_of_the_rows_it_is_fitted_on():
    _made, sources = cases([0, 1, 2], (50, 3, 2), [schedule()] * 3)
    batches = list(linear.shuffled(sources, 20)([0, 2], Team(1)))
    assert [tuple(x.shape) for x, _ in batches] == [(2, 20, 16), (2, 20, 16), (2, 10, 16)]
    for slot, seed in enumerate((0, 2)):
        seen = torch.cat([x[slot] for x, _ in batches])
        order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(seen, sources[seed].rows[order])
        assert torch.equal(
            torch.cat([y[slot, 0] for _, y in batches]), sources[seed].labels[order]
        )
