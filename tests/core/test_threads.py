"""Threads of fits: by the work in a step, given back, and nothing that a result depends on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core import threads
from src.core.threads import Team

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_number_of_threads_is_given_back(error):
    def fit():
        with threads.team(CPU):
            assert torch.get_num_threads() == 1
            if error:
                raise error

    if error:
        with pytest.raises(error):
            fit()
    else:
        fit()
    assert torch.get_num_threads() == 2


@given(st.integers(1, 5000), st.floats(0, 1e12))
def test_parts_are_all_rows_once_in_order(rows, flop):
    cut = threads.parts(rows, flop)
    assert [i for part in cut for i in range(rows)[part]] == list(range(rows))
    assert 1 <= len(cut) <= threads.MOST_PARTS
    assert len(cut) == 1 or rows // len(cut) >= threads.FEWEST_ROWS
    assert len(cut) == 1 or flop / len(cut) >= threads.PART_FLOP


def test_small_steps_are_not_cut():
    assert threads.parts(512, threads.PART_FLOP) == [slice(0, 512)]
    assert threads.parts(512, 2 * threads.PART_FLOP) == [slice(0, 256), slice(256, 512)]
    assert len(threads.parts(512, 1e12)) == 4


class Clock:
    """Steps that take `alone` on one thread, `together` on several."""

    def __init__(self, monkeypatch, alone, together):
        self.now, self.costs, self.others = 0.0, {False: alone, True: together}, False
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        submit = ThreadPoolExecutor.submit

        def noticed(*args):
            self.others = True
            return submit(*args)

        monkeypatch.setattr(ThreadPoolExecutor, "submit", noticed)

    def step(self, team, rows=512):
        """A step of two tasks → whether they were shared."""
        self.others = False
        with team.step(rows):
            team.run([str, str])
            self.now += self.costs[self.others]
        return self.others


@pytest.mark.parametrize(("alone", "together"), [(1.0, 0.6), (1.0, 20.0)])
def test_the_faster_way_is_kept_after_a_few_steps(monkeypatch, alone, together):
    clock = Clock(monkeypatch, alone, together)
    with threads.team(CPU) as team:
        trials = [clock.step(team) for _ in range(2 * (threads.TRIALS + 1))]
        assert trials == [True, False] * (threads.TRIALS + 1)
        assert [clock.step(team) for _ in range(5)] == [together < alone] * 5


def test_a_smaller_last_batch_does_not_count(monkeypatch):
    clock = Clock(monkeypatch, 1.0, 2.0)
    with threads.team(CPU) as team:
        for _ in range(2 * (threads.TRIALS + 1)):
            clock.step(team)
            clock.costs = {False: 9.0, True: 0.01}
            clock.step(team, rows=13)
            clock.costs = {False: 1.0, True: 2.0}
        assert not clock.step(team)


def test_one_thread_and_a_gpu_share_nothing(monkeypatch):
    clock = Clock(monkeypatch, 1.0, 0.1)
    with threads.team(torch.device("cuda")) as team:
        assert not any(clock.step(team) for _ in range(10))
    torch.set_num_threads(1)
    with threads.team(CPU) as team:
        assert not any(clock.step(team) for _ in range(10))


def test_each_thread_takes_half_of_the_tasks():
    """Pairs of tasks that wait for each other: a thread with three in a row would wait long."""
    pair = threading.Barrier(2, timeout=10)
    with threads.team(CPU) as team:
        team.run([pair.wait] * 6)


@pytest.mark.parametrize("mine", [False, True])
def test_no_task_runs_on_after_an_error(mine):
    ended = threading.Event()

    def slow():
        time.sleep(0.05)
        ended.set()

    def wrong():
        raise KeyboardInterrupt

    with threads.team(CPU) as team, pytest.raises(KeyboardInterrupt):
        team.run([wrong, slow] if mine else [slow, wrong])
    assert ended.is_set()


def test_operations_of_other_threads_are_on_one_thread_and_unrecorded():
    seen = []

    def look():
        seen.append((torch.get_num_threads(), torch.is_grad_enabled()))

    with threads.team(CPU) as team, torch.no_grad():
        team.run([look, look])
    assert seen == [(1, False)] * 2


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_made_ahead_is_all_of_it_in_order(number):
    torch.set_num_threads(number)
    with threads.team(CPU) as team:
        assert list(team.ahead(iter(range(7)))) == list(range(7))
        assert list(team.ahead([])) == []

        def broken():
            yield 1
            raise ValueError("a defect")

        with pytest.raises(ValueError, match="a defect"):
            list(team.ahead(broken()))


def test_a_team_ends_while_something_is_made_ahead():
    with pytest.raises(KeyboardInterrupt), threads.team(CPU) as team:
        for _ in team.ahead(iter(range(100))):
            raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
    assert isinstance(team, Team)
