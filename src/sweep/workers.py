"""Who performs the steps of a sweep: this process, local processes, or a Dask cluster."""

from __future__ import annotations

import importlib.util
import logging
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src.core import cluster, devices, process, progress
from src.core.errors import InputError, out_of_memory
from src.sweep.base import Step

if TYPE_CHECKING:
    import torch


STEPS_EACH = 12  # fewer for each process do not make up for its start
PROCESS_BYTES = 2 << 30  # of a process, with its libraries and data


class Done(NamedTuple):
    """A step that has ended, and what went wrong, if anything, in one line."""

    step: Step
    error: str | None


def jobs(steps: int, device: torch.device) -> int:
    """How many local processes perform so many steps fastest.

    A fit on one thread in each of several processes takes less than one fit after the other on
    several threads; starting processes takes some seconds. A GPU is not shared.
    """
    if device.type != "cpu" or importlib.util.find_spec("distributed") is None:
        return 1
    from torch import get_num_threads  # as many as cores that this process may use

    room = devices.free_memory(device) // PROCESS_BYTES
    return max(1, min(get_num_threads(), steps // STEPS_EACH, room))


def perform(
    planned: Sequence[Step], *, jobs: int = 1, scheduler: str | None = None
) -> Iterator[Done]:
    """Perform steps, each after the one it comes after; whatever fails, the others are done.

    Args:
        planned: no step precedes the one it comes after.
        jobs: local processes, which share the processor's cores; 1 is this process itself.
        scheduler: the address of a Dask scheduler, in place of local processes.

    Raises:
        MissingPackageError: Dask is not installed, but needed.
        InputError: no scheduler answers, or it cannot import this project.
    """
    if not planned:
        return
    with cluster.client(jobs, scheduler, "src.sweep.steps") as client:
        errors: dict[Step | None, str | None] = {}
        for step in planned if client is None else _here(planned, jobs, scheduler):
            errors[step] = attempt(step, errors.get(step.after))
            yield Done(step, errors[step])
        if client is not None:
            yield from _spread(planned, errors, client)


def _here(planned: Sequence[Step], jobs: int, scheduler: str | None) -> list[Step]:
    """Steps that others wait for and that are too few for all processes: here all cores work."""
    first = [step for step in planned if step.after is None]
    return first if not scheduler and len(first) < jobs else []


def attempt(step: Step, before: str | None = None, *_: str | None) -> str | None:
    """Perform a step → None, or the error in one line.

    Args:
        before: the error of the step it comes after, if that failed; this one then fails too.
        _: errors of siblings, which are waited for: they may have done this step, too.
    """
    if before:
        return before
    process.tune()  # torch has yet to be imported in a new worker
    try:
        with cluster.one_at_a_time, progress.silenced(), _without_doubts():
            step.perform()
    except InputError as error:
        return str(error)
    except Exception as error:  # a defect in one run must not end the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({Path(place.filename).name}:{place.lineno})"
        return out_of_memory(error) or f"{cluster.one_line(error)} {where}"
    return None


@contextmanager
def _without_doubts() -> Iterator[None]:
    """No warnings of heads within the block: a report counts them."""
    logger = logging.getLogger("src.probing")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _spread(
    planned: Sequence[Step], errors: Mapping[Step | None, str | None], client: Any
) -> Iterator[Done]:
    """Perform on a cluster the steps of which it is not known yet what went wrong."""
    from distributed import as_completed

    call = uuid.uuid4().hex  # the cluster may still hold what an earlier sweep gave
    futures: dict[Step | None, Any] = dict(errors)
    left = [step for step in planned if step not in errors]
    for step in left:
        key = f"{step.name} {call}"
        earlier = [futures[sibling] for sibling in step.siblings if sibling in futures]
        futures[step] = client.submit(attempt, step, futures.get(step.after), *earlier, key=key)
    steps = {futures[step]: step for step in left}
    for future in as_completed(steps):
        try:
            yield Done(steps[future], future.result())
        except Exception as error:  # lost too often, cancelled, or `src` is not importable there
            yield Done(steps[future], cluster.one_line(error))
