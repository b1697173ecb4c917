"""What `experiments.tune` tries: few settings, the same for all rows, in one place.

Trial 0 is what a row starts from, so no row can do worse on validation by being tuned.
The others are the points of one scrambled Sobol sequence (Sobol, 1967; Owen, 1998):
2^m of them fall once into each of 2^m equal strata of every setting. Trial k of every
row has the same values of the settings it shares with others: no row is luckier, and
rows that share ticket searches go on sharing them. More trials later extend the
sequence. With a budget this small an adaptive sampler would not adapt yet: Optuna's
TPE draws its first ten trials at random.
"""

from __future__ import annotations

import dataclasses
import math
from types import ModuleType
from typing import NamedTuple

from scipy.stats import qmc

from experiments.settings.config import Config
from experiments.tuning.tuned import Settings, value_of

COLUMNS = 8
"""Of the sequence: so many settings can be searched at once. The same for all rows,
as the scrambling depends on it."""
SCRAMBLING = 0
"""Seed of the sequence; part of the design, and no reason to try another."""


class Dimension(NamedTuple):
    """A setting's range, searched on a logarithmic scale.

    Attributes:
      low: its lower end, above 0.
      high: its upper end.
      none: share of the trials in which the setting is 0 instead.
    """

    low: float
    high: float
    none: float = 0.0

    def at(self, place: float) -> float:
        """The value at a place in [0, 1), with three digits."""
        if place < self.none:
            return 0.0
        share = (place - self.none) / (1 - self.none)
        return float(f"{self.low * (self.high / self.low) ** share:.3g}")

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high or (value == 0 and self.none > 0)


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The ends of what is searched, each on a logarithmic scale.

    Attributes:
      learning_rate: of net and tables.
      weight_decay: decoupled, on kernels; a quarter of the trials have none.
      final_density: of the last round's masks, in rows that have masks.
    """

    learning_rate: tuple[float, float] = (1e-3, 1e-2)
    weight_decay: tuple[float, float] = (1e-2, 1.0)
    final_density: tuple[float, float] = (0.05, 0.5)

    def check(self) -> None:
        """Raises ValueError for ends that bound nothing; names them."""
        for name, (low, high) in dataclasses.asdict(self).items():
            if not 0 < low < high < math.inf:
                raise ValueError(
                    f"--search.{name.replace('_', '-')} is {low} {high}; give a lower"
                    " end above 0 and a higher upper end"
                )

    @property
    def common(self) -> dict[str, Dimension]:
        """Dotted name of a setting -> its range, in the order of the columns."""
        return {
            "optimiser.learning_rate": Dimension(*self.learning_rate),
            "optimiser.weight_decay": Dimension(*self.weight_decay, none=0.25),
            "pruning.final_density": Dimension(*self.final_density),
        }


def dimensions(
    space: SearchSpace, row: ModuleType, start: Config, config: Config
) -> dict[str, Dimension]:
    """What is searched for a row: dotted name of a setting -> its range.

    A setting that the row itself changes is its point, and stays. Beyond that its
    module may have a `SEARCH`: dotted name -> a further dimension, or None for one
    that is not to be searched.

    Args:
      space: the common ranges.
      row: its module.
      start: what the rows of its folder start from.
      config: of the row, with what the command line says.
    """
    changed = row.configure(start)
    found: dict[str, Dimension | None] = {
        name: dimension
        for name, dimension in space.common.items()
        if value_of(start, name) == value_of(changed, name)
    }
    if config.pruning.masks == "none":
        found.pop("pruning.final_density", None)
    found |= getattr(row, "SEARCH", {})
    return {name: dimension for name, dimension in found.items() if dimension}


def design(
    space: SearchSpace, found: dict[str, Dimension], config: Config, trials: int
) -> list[Settings]:
    """A row's trials, each the settings to put on top of its own.

    Args:
      space: the common ranges.
      found: the row's `dimensions`.
      config: the row; trial 0 has its values.
      trials: how many, at least 1; where nothing is searched, one is enough.

    Raises:
      ValueError: the row starts outside a range, or too much is to be searched.
    """
    # The common settings first: what a row leaves out or adds moves no column.
    columns = list(space.common | found)
    if len(columns) > COLUMNS:
        raise ValueError(
            f"{len(columns)} settings are to be searched, at most {COLUMNS} can be:"
            f" {columns}"
        )
    first = {name: value_of(config, name) for name in found}
    for name, value in first.items():
        low, high, _ = found[name]
        if not found[name].holds(value):
            raise ValueError(
                f"{name} starts at {value}, outside of what is searched, {low} to"
                f" {high}; change the range (--search.…) or the start"
            )
    if not found:
        return [first]
    engine = qmc.Sobol(COLUMNS, scramble=True, seed=SCRAMBLING)
    points = engine.random_base2((trials - 1).bit_length())[: trials - 1]
    return [first] + [
        {name: found[name].at(point[columns.index(name)]) for name in found}
        for point in points
    ]
