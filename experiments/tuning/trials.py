"""Trials of rows: trained on the tuning's seeds, kept by Optuna once they are whole.

A training's regret is a file in the work directory, as a ticket search is, so that a
tuning killed at any moment goes on. Whole trials go to Optuna, a study for each row, in
one journal file.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.ablation import Ablation
from experiments.config import Config
from experiments.running import crew, study, ticket_cache
from experiments.running.crew import Crew
from experiments.running.monitor import Monitor
from experiments.running.workdir import read_json, write_json
from experiments.setup import make_setup, task_names
from experiments.tuning.search_space import Dimension
from experiments.tuning.tuned import Settings
from jaxmtl.data.store import Dataset
from jaxmtl.guard import NonFiniteLoss
from jaxmtl.setup import Setup

try:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; tuning needs Optuna: pip install -e '.[tune]'"
    ) from error

# It would announce every study; the tuner has a progress bar.
optuna.logging.set_verbosity(optuna.logging.WARNING)

DIVERGED = "diverged.json"
"""Beside a ticket search: why it has no result."""


class Job(NamedTuple):
    """A row to tune.

    Attributes:
      module: its name.
      dimensions: what is searched.
      design: the settings of each trial.
      rows: for each trial, anchor -> the row with those settings.
      data: anchor -> its log.
    """

    module: str
    dimensions: Mapping[str, Dimension]
    design: Sequence[Settings]
    rows: Sequence[Mapping[str, Ablation]]
    data: Mapping[str, Dataset]


class Trial(NamedTuple):
    """What a row reached with some settings.

    Attributes:
      number: of the trial in the design.
      settings: dotted name -> value.
      regrets: anchor -> the mean regret on validation of each seed; incomplete
        where training diverged.
      seconds: its trainings took.
      searches: its ticket searches, which other trials may share -> seconds.
      error: why there is no objective; None where there is one.
    """

    number: int
    settings: Settings
    regrets: Mapping[str, list[float]]
    seconds: float
    searches: Mapping[str, float]
    error: str | None = None

    @property
    def objective(self) -> float | None:
        """Mean over anchors of the mean over seeds; None = diverged."""
        if self.error is not None:
            return None
        return float(np.mean(list(self.regrets.values())))


class Store:
    """The trials of all rows, in one journal file.

    Raises:
      ValueError: the file is damaged or of another version; names it.
    """

    def __init__(self, path: Path):
        self._path = path
        # Not the default lock, a link: not every file system has those.
        lock = JournalFileOpenLock(str(path))
        try:
            self._storage = JournalStorage(JournalFileBackend(str(path), lock))
        except ValueError as error:
            raise ValueError(
                f"{path}: {error}; remove its broken line, or the file to tune again"
            ) from error

    def finished(self, row: str) -> dict[int, Trial]:
        """Number -> trial, of a row."""
        kept = [trial.user_attrs for trial in self._study(row).get_trials()]
        if any(set(trial) != set(Trial._fields) for trial in kept):
            raise ValueError(
                f"{self._path}: its trials are those of another version of this"
                " program; give another --workdir to tune again"
            )
        return {trial["number"]: Trial(**trial) for trial in kept}

    def add(self, row: str, dimensions: Mapping[str, Dimension], trial: Trial) -> None:
        """Keeps a finished trial of a row."""
        state = optuna.trial.TrialState
        failed = trial.error is not None
        self._study(row).add_trial(
            optuna.trial.create_trial(
                state=state.FAIL if failed else state.COMPLETE,
                value=trial.objective,
                params=dict(trial.settings),
                distributions={
                    name: FloatDistribution(0.0 if d.none else d.low, d.high)
                    for name, d in dimensions.items()
                },
                user_attrs=trial._asdict(),
            )
        )

    def _study(self, row: str) -> optuna.Study:
        return optuna.create_study(
            study_name=row, storage=self._storage, load_if_exists=True
        )


def best(trials: Iterable[Trial]) -> Trial:
    """The trial with the smallest objective; of equal ones the first.

    Raises:
      ValueError: training diverged in all of them.
    """
    trials = list(trials)
    known = [trial for trial in trials if trial.objective is not None]
    if not known:
        raise ValueError(f"all trials diverged, the first so: {trials[0].error}")
    return min(known, key=lambda trial: (trial.objective, trial.number))


def seconds(trials: Iterable[Trial]) -> float:
    """How long trials took, with every ticket search once."""
    trials = list(trials)
    searches = {name: s for trial in trials for name, s in trial.searches.items()}
    return sum(trial.seconds for trial in trials) + sum(searches.values())


def run(
    jobs: Sequence[Job], seeds: Sequence[int], store: Store, crew: Crew
) -> dict[str, list[Trial]]:
    """Trains what is missing; returns for each row its trials."""
    workdir = crew.workdir
    done = {job.module: store.finished(job.module) for job in jobs}
    todo = [
        (job, number)
        for job in jobs
        for number in range(len(job.design))
        if number not in done[job.module]
    ]
    logs = {anchor: data for job in jobs for anchor, data in job.data.items()}
    missing = {anchor: _missing(todo, anchor, seeds, workdir) for anchor in logs}
    searches = {
        anchor: _searches(missing[anchor], data, workdir)
        for anchor, data in logs.items()
    }
    crew.monitor.expect(sum(map(len, missing.values())))
    for found in searches.values():
        study.expect_searches(found, crew.monitor)
    for anchor, data in logs.items():
        searched = functools.partial(_search_program, data=data)
        trained = functools.partial(_program, data=data)
        crew.do(_search, searches[anchor], data, searched)
        crew.do(_train, missing[anchor], data, trained)
    for job, number in todo:
        trial = _gather(job, number, seeds, workdir)
        store.add(job.module, job.dimensions, trial)
        done[job.module][number] = trial
    return {
        job.module: [done[job.module][n] for n in range(len(job.design))]
        for job in jobs
    }


class _Part(NamedTuple):
    """One training of a trial: its configuration, and where its regret is kept."""

    config: Config
    name: str


def _name(job: Job, number: int, anchor: str) -> str:
    return f"{job.module}/trial{number}/anchor{list(job.data).index(anchor)}"


def _file(workdir: Path, name: str, seed: int) -> Path:
    return workdir / "trials" / name / f"seed{seed}.json"


def _missing(
    todo: Sequence[tuple[Job, int]], anchor: str, seeds: Sequence[int], workdir: Path
) -> list[crew.Job]:
    """The trainings at an anchor that are not kept yet."""
    return [
        crew.Job(_Part(job.rows[number][anchor].config, name), seed)
        for (job, number), seed in itertools.product(todo, seeds)
        if not _file(workdir, name := _name(job, number, anchor), seed).exists()
    ]


def _searches(
    missing: Sequence[crew.Job], data: Dataset, workdir: Path
) -> list[crew.Job]:
    """The searches they need; one that diverged before does so again."""
    todo = [(part.config, seed) for part, seed in missing]
    found = study.missing_searches(todo, data, workdir)
    return [job for job in found if not _diverged(*job, data, workdir).exists()]


def _diverged(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path
) -> Path:
    config, task = what
    return ticket_cache.folder(workdir, config, data, task, seed) / DIVERGED


def _search_program(job: crew.Job, data: Dataset) -> Setup:
    config, task = job.what
    return ticket_cache.single_setup(config, data, task).structure()


def _program(job: crew.Job, data: Dataset) -> Setup:
    config = job.what.config
    return make_setup(config, data, task_names(config, data.schema)).structure()


def _search(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """A ticket search; that it diverges is a result too."""
    try:
        ticket_cache.get(workdir, what[0], data, what[1], seed, monitor)
    except NonFiniteLoss as reason:
        path = _diverged(what, seed, data, workdir)
        write_json(path, {"error": str(reason)})


def _train(
    part: _Part, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """One training; writes its regret, or why it has none."""
    config, tasks = part.config, study.ticket_tasks(part.config, data)
    diverged = [_diverged((config, task), seed, data, workdir) for task in tasks]
    errors = [read_json(path)["error"] for path in diverged if path.exists()]
    started, regret, searches = time.monotonic(), None, {}
    if not errors:
        for task in tasks:
            folder = ticket_cache.folder(workdir, config, data, task, seed)
            spent = ticket_cache.seconds(workdir, config, data, task, seed)
            searches[str(folder.relative_to(workdir))] = spent
        try:
            regret = _regret(config, data, seed, part.name, workdir, monitor)
        except NonFiniteLoss as reason:
            errors = [str(reason)]
    found = {
        "regret": regret,
        "seconds": round(time.monotonic() - started, 1),
        "searches": searches,
        "error": errors[0] if errors else None,
    }
    write_json(_file(workdir, part.name, seed), found)


def _regret(
    config: Config,
    data: Dataset,
    seed: int,
    name: str,
    workdir: Path,
    monitor: Monitor,
) -> float:
    """The mean regret on validation of the snapshot that would be served."""
    ready = study.prepare(config, seed, data, workdir, monitor)
    with monitor.training(name, seed, "joint") as on_epoch:
        watch = lambda record, snapshot: on_epoch(record)
        result = study.train(config, ready, seed, data, watch)
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
