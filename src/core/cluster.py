"""Processes that share work: of this machine, or of a Dask cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from src.core import process, progress
from src.core.errors import InputError, MissingPackageError

REQUIREMENTS = "requirements-cluster.txt"
_PATIENCE = 10  # seconds for a scheduler's answer
T = TypeVar("T")

one_at_a_time = threading.Lock()  # torch's global random state belongs to one task of a worker


@contextmanager
def client(jobs: int, scheduler: str | None, module: str) -> Iterator[Any]:
    """A Dask client of local processes or of a running cluster; None where neither is asked for.

    Args:
        jobs: local processes, which share the processor's cores; 1 is this process itself.
        scheduler: the address of a Dask scheduler, in place of local processes.
        module: whose functions and classes the tasks are.

    Raises:
        MissingPackageError: Dask is not installed, but needed.
        InputError: no scheduler answers, or it cannot import this project.
    """
    if scheduler:
        with _cluster(scheduler, module) as found:
            yield found
    elif jobs > 1:
        with processes(jobs) as found:
            yield found
    else:
        yield None


@contextmanager
def processes(jobs: int) -> Iterator[Any]:
    """A client of local worker processes."""
    dask, distributed = _dask()
    from joblib import cpu_count  # type: ignore[import-untyped]  # those this process may use

    threads = str(max(1, cpu_count() // jobs))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    process.tune()
    waiting = {"GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"]}
    with (
        tempfile.TemporaryDirectory(prefix="workers-") as folder,
        # Extraction starts processes that decode images, which a daemon may not.
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address="127.0.0.1:0",  # a port that nobody else has
            scheduler_kwargs={"dashboard": False},
            local_directory=folder,
            silence_logs=logging.CRITICAL,
            env={**dict.fromkeys(names, threads), **waiting},
        ) as cluster,
        distributed.Client(cluster) as found,
    ):
        found.register_worker_callbacks(_leave_ctrl_c_to_the_parent)
        yield found


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes


@contextmanager
def _cluster(scheduler: str, module: str) -> Iterator[Any]:
    """A client of a running cluster."""
    _, distributed = _dask()
    try:
        found = distributed.Client(scheduler, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {one_line(error)}") from error
    with found:
        try:  # it unpacks the tasks, on their way to the workers
            found.run_on_scheduler(importlib.util.find_spec, module)
        except ModuleNotFoundError as error:
            raise InputError(
                f"the Dask scheduler at {scheduler} cannot import this project; start it in the "
                "project's folder with: PYTHONPATH=$PWD dask scheduler"
            ) from error
        yield found


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            f"--jobs above 1 and --scheduler need Dask: pip install -r {REQUIREMENTS}"
        ) from error
    # Failures are reported by whoever gave the tasks; the client's logger has a level of its own.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return dask, distributed


def results(
    client: Any,
    function: Callable[..., T],
    arguments: Callable[[int], tuple[Any, ...]],
    count: int,
) -> Iterator[tuple[int, T]]:
    """The results of `count` tasks with their numbers, as the workers of a client finish them.

    Args:
        arguments: of a task; as they may be large, they are made when a worker is soon free.

    Raises:
        ConnectionError: the workers are lost.
    """
    from distributed import KilledWorker, as_completed
    from distributed.client import FutureCancelledError

    numbers = {}
    waiting = iter(range(count))
    running = as_completed()

    def submit() -> None:
        if (number := next(waiting, None)) is not None:
            future = client.submit(_in_turn, function, *arguments(number), pure=False)
            numbers[future] = number
            running.add(future)

    for _ in range(2 * max(1, len(client.scheduler_info()["workers"]))):
        submit()
    try:
        for future in running:
            yield numbers.pop(future), future.result()
            submit()
    except (KilledWorker, FutureCancelledError, OSError) as error:
        raise ConnectionError(
            f"the other processes are lost: {one_line(error)}; run the same command again, which "
            "goes on from what is finished"
        ) from error


def _in_turn(function: Callable[..., T], *arguments: Any) -> T:
    process.tune()  # torch has yet to be imported in a new worker
    with one_at_a_time, progress.silenced():
        return function(*arguments)


def one_line(error: BaseException) -> str:
    """The kind of error and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
