"""The ticket searches that rows need, each made once whichever rows share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.running import ticket_cache
from experiments.running.crew import Crew, Job, Work
from experiments.running.monitor import Monitor
from experiments.settings.config import Config
from experiments.settings.setup import task_names
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import tickets
from jaxmtl.training.spec import Setup


def make_missing(todo: Sequence[tuple[Config, int]], data: Dataset, crew: Crew) -> None:
    """Makes all distinct searches, of configurations and seeds, not made yet."""
    jobs = missing(todo, data, crew.workdir)
    expect(jobs, crew.monitor)
    make(jobs, data, crew)


def make(
    jobs: Sequence[Job], data: Dataset, crew: Crew, work: Work | None = None
) -> None:
    """Makes searches, those of `missing` or some of them.

    Args:
      jobs: the searches.
      data: the log.
      crew: makes them.
      work: makes one, in the place of `ticket_cache.get`.
    """

    def program(job: Job) -> Setup:
        config, task = job.what
        return ticket_cache.single_setup(config, data, task).spec

    crew.do(work or _search, jobs, data, program)


def expect(jobs: Sequence[Job], monitor: Monitor) -> None:
    """Announces the trainings of `missing`."""
    monitor.expect(sum(job.what[0].pruning.rounds + 1 for job in jobs))


def missing(
    todo: Sequence[tuple[Config, int]], data: Dataset, workdir: Path
) -> list[Job]:
    """A job for each search: the first configuration that needs it, and its task."""
    first: dict[Path, tuple[Config, str]] = {}
    found: dict[Path, Job] = {}
    for config, seed in todo:
        for task in tasks_of(config, data):
            where = ticket_cache.missing(workdir, config, data, task, seed)
            if where is not None:
                what = first.setdefault(where.parent, (config, task))
                found[where] = Job(what, seed)
    return [found[where] for where in sorted(found)]


def _search(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    config, task = what
    ticket_cache.get(workdir, config, data, task, seed, monitor)


def find(
    config: Config, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> dict[str, tickets.Ticket]:
    """Task -> its ticket, for the tasks whose masks the configuration prunes."""
    return {
        task: ticket_cache.get(workdir, config, data, task, seed, monitor)
        for task in tasks_of(config, data)
    }


def tasks_of(config: Config, data: Dataset) -> tuple[str, ...]:
    """The tasks whose tickets a row needs."""
    return task_names(config, data.schema) if is_masked(config) else ()


def is_masked(config: Config) -> bool:
    """Whether a row sees the net through masks."""
    return config.pruning.masks != "none"
