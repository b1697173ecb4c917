"""The trainings of trials: each leaves its regret on validation in a file.

So a tuning killed at any moment goes on, as do the ticket searches beside them. What
the trials of a row are trained with differs in numbers alone, so that on an accelerator
they are lanes of one program.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.running import (
    crew,
    joint,
    progress,
    ticket_cache,
    ticket_files,
    ticket_searches,
)
from experiments.running.crew import Crew
from experiments.running.monitor import Monitor
from experiments.running.workdir import read_json, write_json
from experiments.settings.config import Config
from experiments.tuning.trials import Job, Store, Trial
from jaxmtl.data.store import Dataset
from jaxmtl.training.guard import NonFiniteLoss
from jaxmtl.training.resume import Folder
from jaxmtl.training.spec import Setup

DIVERGED = "diverged.json"
"""Beside a ticket search: why it has no result."""


def run(
    jobs: Sequence[Job], seeds: Sequence[int], store: Store, hands: Crew
) -> dict[str, list[Trial]]:
    """Trains what is missing; returns for each row its trials."""
    done = {job.module: store.finished(job.module) for job in jobs}
    todo = [
        (job, number)
        for job in jobs
        for number in range(len(job.design))
        if number not in done[job.module]
    ]
    _train_all(todo, seeds, hands)
    for job, number in todo:
        trial = _gather(job, number, seeds, hands.workdir)
        store.add(job.module, job.dimensions, trial)
        done[job.module][number] = trial
    return {
        job.module: [done[job.module][n] for n in range(len(job.design))]
        for job in jobs
    }


def _train_all(
    todo: Sequence[tuple[Job, int]], seeds: Sequence[int], hands: Crew
) -> None:
    """Every training that is not kept yet, log by log, ticket searches first."""
    logs = {data.fingerprint: data for job, _ in todo for data in job.data.values()}
    missing = _missing(todo, seeds, hands.workdir)
    searches = {
        log: _searches(parts, logs[log], hands.workdir)
        for log, parts in missing.items()
    }
    hands.monitor.expect(sum(map(len, missing.values())))
    for found in searches.values():
        ticket_searches.expect(found, hands.monitor)
    for log, parts in missing.items():
        data = logs[log]
        ticket_searches.make(searches[log], data, hands, _search)
        hands.do(_train, parts, data, functools.partial(_program, data=data))


class _Part(NamedTuple):
    """One training of a trial: its configuration, and where its regret is kept."""

    config: Config
    name: str


def _name(job: Job, number: int, anchor: str) -> str:
    """Of a trial's trainings at an anchor, which may itself be no name for a file."""
    return f"{job.module}/trial{number}/anchor{list(job.data).index(anchor)}"


def _file(workdir: Path, name: str, seed: int) -> Path:
    return workdir / "trials" / name / f"seed{seed}.json"


def _progress_folder(workdir: Path, name: str, seed: int) -> Path:
    return _file(workdir, name, seed).with_suffix("")


def _missing(
    todo: Sequence[tuple[Job, int]], seeds: Sequence[int], workdir: Path
) -> dict[str, list[crew.Job]]:
    """Fingerprint of a log -> the trainings on it that are not kept yet."""
    found: dict[str, list[crew.Job]] = {}
    for (job, number), seed in itertools.product(todo, seeds):
        for anchor, data in job.data.items():
            name = _name(job, number, anchor)
            if not _file(workdir, name, seed).exists():
                part = _Part(job.rows[number][anchor].config, name)
                found.setdefault(data.fingerprint, []).append(crew.Job(part, seed))
    return found


def _searches(
    missing: Sequence[crew.Job], data: Dataset, workdir: Path
) -> list[crew.Job]:
    """The searches they need; one that diverged before does so again."""
    todo = [(part.config, seed) for part, seed in missing]
    found = ticket_searches.missing(todo, data, workdir)
    return [job for job in found if not _diverged(*job, data, workdir).exists()]


def _diverged(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path
) -> Path:
    config, task = what
    return ticket_cache.folder(workdir, config, data, task, seed) / DIVERGED


def _program(job: crew.Job, data: Dataset) -> Setup:
    return joint.setup_of(job.what.config, data).spec


def _search(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """A ticket search; that it diverges is a result too."""
    try:
        ticket_cache.get(workdir, what[0], data, what[1], seed, monitor)
    except NonFiniteLoss as reason:
        path = _diverged(what, seed, data, workdir)
        write_json(path, {"error": str(reason)})
        left = what[0].pruning.rounds + 1 - ticket_files.rounds_done(path.parent)
        monitor.expect(-left)


class _Clock:
    """The seconds of a training, those of attempts that were stopped among them.

    Attributes:
      keeper: of the training's progress, which knows them; None before there is one.
    """

    def __init__(self):
        self.keeper: Folder | None = None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        if self.keeper is not None:
            return self.keeper.seconds
        return time.monotonic() - self._started


def _train(
    part: _Part, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """One training; writes its regret, or why it has none."""
    config, tasks = part.config, ticket_searches.tasks_of(part.config, data)
    diverged = [_diverged((config, task), seed, data, workdir) for task in tasks]
    errors = [read_json(path)["error"] for path in diverged if path.exists()]
    clock, regret, searches = _Clock(), None, {}
    if not errors:
        for task in tasks:
            folder = ticket_cache.folder(workdir, config, data, task, seed)
            spent = ticket_cache.seconds(workdir, config, data, task, seed)
            searches[str(folder.relative_to(workdir))] = spent
        try:
            regret = _regret(config, data, seed, part.name, workdir, monitor, clock)
        except NonFiniteLoss as reason:
            errors = [str(reason)]
    if errors:
        monitor.expect(-1)  # it was announced, and is no training that ended
    found = {
        "regret": regret,
        "seconds": round(clock.seconds, 1),
        "searches": searches,
        "error": errors[0] if errors else None,
    }
    write_json(_file(workdir, part.name, seed), found)
    folder = _progress_folder(workdir, part.name, seed)
    shutil.rmtree(folder, ignore_errors=True)


def _regret(
    config: Config,
    data: Dataset,
    seed: int,
    name: str,
    workdir: Path,
    monitor: Monitor,
    clock: _Clock,
) -> float:
    """The mean regret on validation of the snapshot that would be served."""
    ready = joint.prepare(config, seed, data, workdir, monitor)
    where = _progress_folder(workdir, name, seed)
    keeper = clock.keeper = progress.keep(where, ready.setup, config)
    with monitor.training(name, seed, "joint") as on_epoch:
        watch = lambda record, snapshot: on_epoch(record)
        result = joint.train(config, ready, seed, data, watch, keeper)
    keeper.wait()  # what it writes is about to be deleted
    return result.history[result.best_epoch - 1].regret


def _gather(job: Job, number: int, seeds: Sequence[int], workdir: Path) -> Trial:
    """A trial whose trainings are all kept."""
    parts = {
        anchor: [
            read_json(_file(workdir, _name(job, number, anchor), seed))
            for seed in seeds
        ]
        for anchor in job.data
    }
    every = [part for found in parts.values() for part in found]
    errors = [part["error"] for part in every if part["error"] is not None]
    regrets = {
        anchor: [part["regret"] for part in found if part["error"] is None]
        for anchor, found in parts.items()
    }
    return Trial(
        number,
        job.design[number],
        regrets,
        sum(part["seconds"] for part in every),
        {name: s for part in every for name, s in part["searches"].items()},
        errors[0] if errors else None,
    )
