"""What becomes of a step's error, and how workers are set up."""

import importlib.util
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from src.core import cluster, devices
from src.core.errors import InputError, out_of_memory
from src.database import Database
from src.sweep import workers
from src.sweep.base import Step, Workplace

PLACE = Workplace(
    device="cpu",
    dataset_root=Path("data"),
    database_root=Path("database"),
    ckpt_root=Path("ckpts"),
    output_root=Path("logs"),
)
DATABASE = Database(Path("database"), "small", "pixels")


@dataclass(frozen=True, kw_only=True)
class Raising(Step):
    makes = "error"

    name: str = "raising"
    error: BaseException | None = None

    def complete(self):
        return False

    def perform(self):
        if self.error:
            raise self.error


def step(error=None, **rest):
    return Raising(place=PLACE, database=DATABASE, error=error, **rest)


class OutOfMemoryError(RuntimeError):
    """As torch's."""


def test_what_a_user_can_fix_is_said_as_it_is():
    assert workers.attempt(step(InputError("k is too large"))) == "k is too large"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.00 TiB for an array"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 TiB. GPU 0 has ..."),
    ],
)
def test_out_of_memory_is_said_with_what_helps(error):
    said = workers.attempt(step(error))
    assert said == out_of_memory(error)
    assert said.startswith("out of memory")
    assert "9.00 TiB" in said
    assert "what helps: " in said


def test_a_defect_is_one_line_with_its_place():
    said = workers.attempt(step(KeyError("two\nlines")))
    assert said.startswith("KeyError: ")
    assert "\n" not in said
    assert "(test_workers.py:" in said


def test_a_step_after_one_that_failed_is_not_performed():
    first = step(InputError("no images"))
    second = step(AssertionError("performed"), name="second", after=first)
    other = step(name="other")
    assert [done.error for done in workers.perform([first, second, other])] == [
        "no images", "no images", None,
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Noting(Raising):
    """Notes that it was performed; what a worker performs, and notes in, is a copy."""

    performed: list = field(default_factory=list, compare=False)

    def perform(self):
        self.performed.append(self.name)
        super().perform()


@pytest.mark.parametrize(
    ("first", "scheduler", "here"),
    [(1, None, True), (2, None, False), (1, "tcp://elsewhere:8786", False)],
)
@pytest.mark.parametrize("error", [None, InputError("no images")])
def test_what_all_wait_for_is_done_here_where_workers_would_be_idle(
    monkeypatch, first, scheduler, here, error
):
    """Extraction then has all cores; what comes after it is spread, and fails as it failed."""
    distributed = pytest.importorskip("distributed")

    @contextmanager
    def threads(*_):
        with distributed.Client(
            processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as client:
            yield client

    monkeypatch.setattr(cluster, "client", threads)
    roots = [
        Noting(place=PLACE, database=DATABASE, name=f"first {i}", error=error)
        for i in range(first)
    ]
    after = [
        replace(root, name=f"after {i}", after=root, error=None, performed=[])
        for i, root in enumerate(roots)
    ]
    done = list(workers.perform([*roots, *after], jobs=2, scheduler=scheduler))
    assert {step for step, _ in done} == {*roots, *after}
    assert {said for _, said in done} == {error and "no images"}
    assert [root.performed for root in roots] == [[root.name] if here else [] for root in roots]
    assert not any(step.performed for step in after)


def test_workers_set_their_process_up_before_torch(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with cluster.processes(1) as client:
        assert client.submit(os.environ.get, "GOMP_SPINCOUNT").result() == "2000"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert workers.attempt(step()) is None  # as on a cluster, whose workers are not started here
    assert os.environ["GOMP_SPINCOUNT"] == "2000"


@pytest.mark.parametrize(
    ("cores", "steps", "gib", "expected"),
    [
        (2, 50, 24, 2),
        (2, 23, 24, 1),
        (2, 24, 24, 2),
        (16, 50, 64, 4),
        (8, 500, 6, 3),
        (1, 99, 9, 1),
    ],
)
def test_jobs_are_as_many_as_cores_work_and_memory_allow(monkeypatch, cores, steps, gib, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(devices, "free_memory", lambda _: gib << 30)
    assert workers.jobs(steps, torch.device("cpu")) == expected
    assert workers.jobs(steps, torch.device("cuda")) == 1


def test_without_dask_one_process_does_all(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert workers.jobs(500, torch.device("cpu")) == 1
