"""What a study module is given to run with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from experiments.running.crew import Crew
from experiments.running.monitor import Monitor
from experiments.settings.ablation import Ablation
from experiments.settings.layout import Layout
from experiments.tuning import tuned
from jaxmtl.data.store import Dataset


class Context(NamedTuple):
    """What a study module needs to run.

    Attributes:
      name: of the study or ablation, `lt4rec.table2`.
      rows: its rows, configured as the command line says.
      configure: a row module -> the same for a row that is not among them.
      seeds: to train.
      data: the log.
      crew: trains; its work directory is claimed for this configuration.
      command: what reproduces the run.
      layout: of the paper's table.
      tuned: settings and budget of tuned rows (`tuned.record`); None without.
    """

    name: str
    rows: Sequence[Ablation]
    configure: Callable[[ModuleType], Ablation]
    seeds: Sequence[int]
    data: Dataset
    crew: Crew
    command: str
    layout: Layout
    tuned: Mapping[str, Any] | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What every result says of the study that it is of."""
        return {
            "figure": self.name,
            "data": self.data.schema.name,
            "seeds": list(self.seeds),
            "command": self.command,
            "tuning": tuned.note(self.tuned),
        }

    @property
    def workdir(self) -> Path:
        """Of the run."""
        return self.crew.workdir

    @property
    def monitor(self) -> Monitor:
        """Watches."""
        return self.crew.monitor
