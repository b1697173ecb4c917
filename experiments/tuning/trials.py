"""Trials of rows, kept by Optuna once they are whole: a study a row, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.settings.ablation import Ablation
from experiments.tuning.search_space import Dimension
from experiments.tuning.tuned import Settings
from jaxmtl.data.store import Dataset

try:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
except ModuleNotFoundError:
    optuna = None
else:
    # It would announce every study; the tuner has a progress bar.
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def check_installed() -> None:
    """Raises ValueError where Optuna is missing; says how to install it."""
    if optuna is None:
        raise ValueError("tuning needs Optuna: pip install -e '.[tune]'")


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
    """How long trials took, one after another, with every ticket search once.

    Wall times: those of several lanes of one program overlap.
    """
    trials = list(trials)
    searches = {name: s for trial in trials for name, s in trial.searches.items()}
    return sum(trial.seconds for trial in trials) + sum(searches.values())
