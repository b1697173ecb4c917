"""Processes that carry out a study's jobs, each on cores of its own.

A worker does one job at a time and keeps what it finds in the run's work directory,
as the run itself would. It ends when the run does, however that ends, so that none
writes on beside a run that was started again.
"""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.running import stopping
from experiments.running.monitor import Monitor, Remote, Told
from jaxmtl.data.store import Dataset
from jaxmtl.devices import compilations, compile_cache
from jaxmtl.training.resume import Stopped

LOOK = 0.2
"""Seconds between two looks for a signal."""
PATIENCE = 10
"""Seconds for an idle worker to end."""


class _Worker(NamedTuple):
    process: multiprocessing.Process
    connection: multiprocessing.connection.Connection


class Workers:
    """As many processes as asked for, started when they are."""

    def __init__(self, count: int, workdir: Path):
        """Starts them; they get ready while the first jobs are handed out."""
        context = multiprocessing.get_context("spawn")  # JAX's threads forbid a fork
        self._workers: list[_Worker] = []
        for cores in _deal_cores(count):
            ours, theirs = context.Pipe()
            given = (theirs, cores, workdir, compile_cache.used())
            process = context.Process(target=_work, args=given)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))
        self._logs: dict[int, str] = {}  # process -> the log it holds

    def do(
        self,
        work: Callable[..., None],
        groups: Sequence[Sequence[tuple[Any, int]]],
        data: Dataset,
        monitor: Monitor,
    ) -> None:
        """Does all of the jobs.

        A worker stays with a group while it lasts, and then takes on one that no other
        is at, so that few programs are compiled more than once. After an error the
        workers are of no more use; close them.

        Args:
          work: carries out a job.
          groups: jobs of one program each, in the order they are begun.
          data: the log.
          monitor: watches.

        Raises:
          Stopped: a signal asked for it.
          ChildProcessError: a worker died.
          Exception: the first that a job raised; the other workers have saved.
        """
        waiting, busy, errors = _Waiting(groups), [], []
        free, is_told = list(self._workers), False
        while waiting or busy:
            if (errors or stopping.requested()) and not is_told:
                waiting = _Waiting([])
                for worker in busy:
                    worker.connection.send("stop")
                is_told = True
                continue
            while waiting and free:
                worker = free.pop(0)
                self._send(worker, work, waiting.next(worker.process.pid), data)
                busy.append(worker)
            ready = multiprocessing.connection.wait(
                [worker.connection for worker in busy], LOOK
            )
            for worker in [w for w in busy if w.connection in ready]:
                message = _receive(worker)
                if isinstance(message, Told):
                    getattr(monitor, message.method)(*message.args)
                    continue
                busy.remove(worker)
                free.append(worker)
                if message is not None:
                    errors.append(message)
        if stopping.requested():
            errors.append(Stopped())
        for error in sorted(errors, key=lambda e: isinstance(e, Stopped)):
            raise error

    def _send(self, worker: _Worker, work, job, data: Dataset) -> None:
        number, log = worker.process.pid, None
        if self._logs.get(number) != data.fingerprint:
            self._logs[number] = data.fingerprint
            log = dataclasses.replace(data)  # without its copies on the device
        worker.connection.send((work, *job, log))

    def close(self) -> None:
        """Ends them."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            worker.process.terminate()


class _Waiting:
    """Jobs that nobody has begun, and which group each worker is at."""

    def __init__(self, groups: Sequence[Sequence[tuple[Any, int]]]):
        self._groups = [deque(group) for group in groups]
        self._at: dict[int, int] = {}

    def __bool__(self) -> bool:
        return any(self._groups)

    def next(self, worker: int) -> tuple[Any, int]:
        """The worker's next job: of its own group, a fresh one, or the longest."""
        number = self._at.get(worker)
        if number is None or not self._groups[number]:
            left = [n for n, group in enumerate(self._groups) if group]
            fresh = [n for n in left if n not in self._at.values()]
            longest = max(left, key=lambda n: len(self._groups[n]))
            number = self._at[worker] = fresh[0] if fresh else longest
        return self._groups[number].popleft()


def _deal_cores(count: int) -> list[set[int] | None]:
    """Cores of each worker; None where the system does not say which there are."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // count)
    endless = itertools.cycle(cores)
    return [set(itertools.islice(endless, share)) for _ in range(count)]


def _receive(worker: _Worker) -> Any:
    """What a worker says; an error where it has died."""
    try:
        return worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join(PATIENCE)
        return ChildProcessError(
            f"worker process {worker.process.pid} ended with exit code"
            f" {worker.process.exitcode}; for want of memory? The same command goes on"
            " from what was saved; --processes 1 needs the least"
        )


def _by_name(column: np.memmap) -> tuple:
    """How a column on disk goes to another process: its file and place, no rows."""
    start = column
    while isinstance(start.base, np.memmap):
        start = start.base
    if not (isinstance(start.base, mmap.mmap) and column.flags.c_contiguous):
        return np.asarray(column).__reduce__()
    offset = start.offset + column.ctypes.data - start.ctypes.data
    return _open, (column.filename, column.dtype, offset, column.shape)


def _open(path: Path, dtype: np.dtype, offset: int, shape: tuple) -> np.memmap:
    return np.memmap(path, dtype, "r", offset, shape)


ForkingPickler.register(np.memmap, _by_name)


# In a worker


def _work(
    connection: multiprocessing.connection.Connection,
    cores: set[int] | None,
    workdir: Path,
    cache: Path | None,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the run passes them on
        signal.signal(number, signal.SIG_IGN)
    if cores:
        os.sched_setaffinity(0, cores)  # before JAX counts them
    if cache is not None:
        compile_cache.use(cache)
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    monitor, data = Remote(workdir, connection.send), None
    while True:
        work, what, seed, log = jobs.get()
        data, before = log or data, compilations.total()
        error = _error_of(work, what, seed, data, workdir, monitor)
        monitor.compiled(compilations.total() - before)
        connection.send(error)


def _listen(connection, jobs: queue.SimpleQueue) -> None:
    """Takes on jobs while the worker is at one, and ends it with the run."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if message == "stop":
            stopping.ask()
        else:
            jobs.put(message)


def _error_of(work, *job) -> Exception | None:
    try:
        work(*job)
    except Exception as error:
        # What is lost on the way to another process.
        error.add_note("".join(traceback.format_exception(error)))
        return error
    return None
