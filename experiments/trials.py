"""Trials of rows: trained on the tuning's seeds, kept by Optuna once they are whole.

Each row is a study of Optuna's, in one journal file. A tuning killed at any moment
leaves no half trial there, and its ticket searches in the work directory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import stopping, study
from experiments.ablation import Ablation
from experiments.config import Config
from experiments.monitor import Monitor
from experiments.search_space import Dimension
from experiments.tuned import Settings
from jaxmtl.data.store import Dataset
from jaxmtl.guard import NonFiniteLoss

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
      seconds: it took, ticket searches included that no trial before had made.
      error: why there is no objective; None where there is one.
    """

    number: int
    settings: Settings
    regrets: Mapping[str, list[float]]
    seconds: float
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
      ValueError: the file is damaged; names it.
    """

    def __init__(self, path: Path):
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
        trials = [Trial(**kept.user_attrs) for kept in self._study(row).get_trials()]
        return {trial.number: trial for trial in trials}

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


def run_trials(
    jobs: Sequence[Job],
    seeds: Sequence[int],
    store: Store,
    workdir: Path,
    monitor: Monitor,
) -> None:
    """Trains what is missing: trial by trial, so that all rows are equally far."""
    done = {job.module: store.finished(job.module) for job in jobs}
    todo = [
        (job, number)
        for job in jobs
        for number in range(len(job.design))
        if number not in done[job.module]
    ]
    todo.sort(key=lambda part: part[1])
    _expect(todo, seeds, workdir, monitor)
    for job, number in todo:
        trial = _run_trial(job, number, seeds, workdir, monitor)
        store.add(job.module, job.dimensions, trial)


def _expect(
    todo: Sequence[tuple[Job, int]],
    seeds: Sequence[int],
    workdir: Path,
    monitor: Monitor,
) -> None:
    """Announces all trainings; searches that rows share count once."""
    logs: dict[str, Dataset] = {}
    configs: dict[str, list[tuple[Config, int]]] = {}
    for job, number in todo:
        for anchor, row in job.rows[number].items():
            data = job.data[anchor]
            logs[data.fingerprint] = data
            listed = configs.setdefault(data.fingerprint, [])
            listed += [(row.config, seed) for seed in seeds]
    monitor.expect(sum(map(len, configs.values())))
    for fingerprint, listed in configs.items():
        study.expect_tickets(listed, logs[fingerprint], workdir, monitor)


def _run_trial(
    job: Job, number: int, seeds: Sequence[int], workdir: Path, monitor: Monitor
) -> Trial:
    """One trial of a row: every anchor, every seed."""
    started, regrets = time.monotonic(), {anchor: [] for anchor in job.data}
    error = None
    try:
        for place, (anchor, row) in enumerate(job.rows[number].items()):
            name = f"{job.module}/trial{number}/anchor{place}"
            for seed in seeds:
                stopping.check()
                found = _regret(
                    row.config, job.data[anchor], seed, name, workdir, monitor
                )
                regrets[anchor].append(found)
    except NonFiniteLoss as reason:
        error = str(reason)
    seconds = round(time.monotonic() - started, 1)
    return Trial(number, job.design[number], regrets, seconds, error)


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
