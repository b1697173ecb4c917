"""Who carries out a study's jobs: one after another, in processes, or in one program.

A job is a ticket search or a training of one seed, and none needs another one's
result. What suits depends on the device: small nets leave an accelerator idle, and
several trainings fill it (`jaxmtl.devices.lanes`); a CPU computes no faster for it, but
a process for each core is faster than one for all (`experiments.benchmarks.study`).
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.running import stopping
from experiments.running.monitor import Monitor
from experiments.running.workers import Workers
from experiments.settings.config import How
from jaxmtl.data.store import Dataset
from jaxmtl.devices import lanes
from jaxmtl.training.resume import Stopped

FEW = 4
"""Trainings of which fewer go on in turn."""
FEW_EXAMPLES = 4_000_000
"""To train on, over all epochs, of which fewer go on in turn on a CPU: a process takes
some 6 s to start and to compile, in which one core trains on half as many."""
MOST_PROCESSES = 8
"""Of their own accord; each needs its own memory."""
MOST_LANES = 16
"""Of one program; each has tables and moments of its own."""


class Job(NamedTuple):
    """What is trained or searched, and its seed."""

    what: Any
    seed: int


Work = Callable[[Any, int, Dataset, Path, Monitor], None]
"""(what, seed, data, work directory, monitor): does a job and keeps what it finds."""


class Crew:
    """Carries out jobs; to be closed, for its processes."""

    def __init__(self, workdir: Path, monitor: Monitor, how: How, processes: int = 1):
        """Takes on nothing yet.

        Args:
          workdir: of the run.
          monitor: watches.
          how: not `auto`; see `choose`.
          processes: how many, where `how` says so.
        """
        self.workdir, self.monitor = workdir, monitor
        self._how, self._processes = how, processes
        self._workers: Workers | None = None

    def do(
        self,
        work: Work,
        jobs: Sequence[Job],
        data: Dataset,
        program: Callable[[Job], Any] = operator.attrgetter("what"),
    ) -> None:
        """Does all of the jobs.

        Args:
          work: a function of a module, since other processes call it too.
          jobs: in the order they are begun.
          data: the log.
          program: the same for jobs that fit one program.

        Raises:
          Stopped: a signal asked for it; what is under way was saved.
          Exception: the first that a job raised.
        """
        if not jobs:
            return
        stopping.check()
        if self._how == "processes":
            self._hand_out(work, _grouped(jobs, program), data)
        elif self._how == "program":
            for group in _grouped(jobs, program):
                for at in range(0, len(group), MOST_LANES):
                    stopping.check()
                    self._together(work, group[at : at + MOST_LANES], data)
        else:
            for job in jobs:
                stopping.check()
                work(*job, data, self.workdir, self.monitor)

    def _hand_out(
        self, work: Work, groups: Sequence[Sequence[Job]], data: Dataset
    ) -> None:
        if self._workers is None:
            self._workers = Workers(self._processes, self.workdir)
        try:
            self._workers.do(work, groups, data, self.monitor)
        except BaseException:
            self.close()
            raise

    def _together(self, work: Work, jobs: Sequence[Job], data: Dataset) -> None:
        each = [
            functools.partial(work, *job, data, self.workdir, self.monitor)
            for job in jobs
        ]
        lanes.run(each, alone=(Stopped,))

    def close(self) -> None:
        """Ends its processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None


def _grouped(jobs: Sequence[Job], key: Callable[[Job], Any]) -> list[list[Job]]:
    """The jobs by key, in the order of their first; keys need not be hashable."""
    keys, groups = [], []
    for job in jobs:
        mine = key(job)
        if mine not in keys:
            keys.append(mine)
            groups.append([])
        groups[keys.index(mine)].append(job)
    return groups


def choose(
    how: How, processes: int, *, trainings: int, examples: int, devices: int
) -> tuple[How, int]:
    """What `auto` means here, and how many processes there are to be.

    It depends on the study and the machine and not on what is left to do: a study
    that was stopped goes on as it began, to the same bits.

    Args:
      how: as the command line says.
      processes: likewise; 0 = one for each core, at most 8.
      trainings: rows times seeds.
      examples: that they read at most, over all of their epochs.
      devices: of the mesh that each training is split over; 1 = none.

    Raises:
      ValueError: the command line asks for what cannot be.
    """
    if processes < 0:
        raise ValueError(f"--processes is {processes}; give 1 or more, or 0 for auto")
    if devices != 1 and how in ("processes", "program"):
        raise ValueError(
            f"--together {how} trains several seeds at a time, --mesh.devices {devices}"
            " one seed on several devices; give one of them"
        )
    cores = usable_cores()
    most = processes or min(cores, MOST_PROCESSES)
    if how == "auto":
        if devices != 1 or trainings < FEW:
            how = "in_turn"
        elif jax.default_backend() != "cpu":
            how = "program"
        elif min(most, cores) == 1 or examples < FEW_EXAMPLES:
            how = "in_turn"
        else:
            how = "processes"
    return how, min(most, trainings) if how == "processes" else 1


def usable_cores() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
