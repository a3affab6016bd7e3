"""Who performs the steps of a sweep: this process, local processes, or a Dask cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import tempfile
import threading
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from src.core import process, progress
from src.core.errors import InputError, MissingPackageError, out_of_memory
from src.sweep.base import Step

REQUIREMENTS = "requirements-cluster.txt"
_PATIENCE = 10  # seconds for a scheduler's answer
_one_at_a_time = threading.Lock()  # torch's global random state belongs to one step


class Done(NamedTuple):
    """A step that has ended, and what went wrong, if anything, in one line."""

    step: Step
    error: str | None


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
    if scheduler:
        with _cluster(scheduler) as client:
            yield from _spread(planned, client)
    elif jobs > 1:
        with _processes(jobs) as client:
            yield from _spread(planned, client)
    else:
        errors: dict[Step | None, str | None] = {}
        for step in planned:
            errors[step] = attempt(step, errors.get(step.after))
            yield Done(step, errors[step])


def attempt(step: Step, before: str | None = None) -> str | None:
    """Perform a step → None, or the error in one line.

    Args:
        before: the error of the step it comes after, if that failed; this one then fails too.
    """
    if before:
        return before
    process.tune()  # torch has yet to be imported in a new worker
    try:
        with _one_at_a_time, progress.silenced(), _without_doubts():
            step.perform()
    except InputError as error:
        return str(error)
    except Exception as error:  # a defect in one run must not end the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({Path(place.filename).name}:{place.lineno})"
        return out_of_memory(error) or f"{_line(error)} {where}"
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


def _spread(planned: Sequence[Step], client: Any) -> Iterator[Done]:
    from distributed import as_completed

    call = uuid.uuid4().hex  # the cluster may still hold what an earlier sweep gave
    futures: dict[Step | None, Any] = {}
    for step in planned:
        key = f"{step.name} {call}"
        futures[step] = client.submit(attempt, step, futures.get(step.after), key=key)
    steps = {futures[step]: step for step in planned}
    for future in as_completed(steps):
        try:
            yield Done(steps[future], future.result())
        except Exception as error:  # lost too often, cancelled, or `src` is not importable there
            yield Done(steps[future], _line(error))


@contextmanager
def _processes(jobs: int) -> Iterator[Any]:
    """A client of local worker processes."""
    dask, distributed = _dask()
    from joblib import cpu_count  # type: ignore[import-untyped]  # those this process may use

    threads = str(max(1, cpu_count() // jobs))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    process.tune()
    waiting = {"GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"]}
    with (
        tempfile.TemporaryDirectory(prefix="sweep-") as folder,
        # Extraction starts processes that decode images, which a daemon may not.
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address="127.0.0.1:0",  # a port that no other sweep has
            scheduler_kwargs={"dashboard": False},
            local_directory=folder,
            silence_logs=logging.CRITICAL,
            env={**dict.fromkeys(names, threads), **waiting},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_worker_callbacks(_leave_ctrl_c_to_the_parent)
        yield client


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes


@contextmanager
def _cluster(scheduler: str) -> Iterator[Any]:
    """A client of a running cluster."""
    _, distributed = _dask()
    try:
        client = distributed.Client(scheduler, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {_line(error)}") from error
    with client:
        try:  # it unpacks the steps, on their way to the workers
            client.run_on_scheduler(importlib.util.find_spec, "src.sweep.steps")
        except ModuleNotFoundError as error:
            raise InputError(
                f"the Dask scheduler at {scheduler} cannot import this project; start it in the "
                "project's folder with: PYTHONPATH=$PWD dask scheduler"
            ) from error
        yield client


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            f"--jobs above 1 and --scheduler need Dask: pip install -r {REQUIREMENTS}"
        ) from error
    # Failures are reported here; the client's logger has a level of its own.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return dask, distributed


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
