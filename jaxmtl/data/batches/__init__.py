"""Which rows a task trains on in which step, as a function of (seed, epoch).

Every task takes the same number of steps an epoch, set by the log, and passes
once over its own rows, so a task with few labels has smaller batches instead of
fewer updates: mixed training (LT4REC Algorithm 1, lines 12-17) then alternates
the tasks' batches, and a task's batches are the same alone and in company.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sized

import numpy as np

from jaxmtl.types import Rows, Task

EVERY = "all"
"""Name of the step that trains the sum of all tasks' losses on one batch."""


def deal(
    rows: Mapping[str, Sized],
    steps: int,
    passes: Mapping[str, float] | None,
    devices: int,
) -> tuple[dict[str, int], dict[str, int]]:
    """How many rows of each kind an epoch takes, and a batch holds at most.

    Args:
      rows: kind of step -> its rows.
      steps: an epoch.
      passes: kind -> how often an epoch passes over its rows (default 1).
      devices: that split each batch.
    """
    counts = {
        kind: max(1, round((passes or {}).get(kind, 1.0) * len(index)))
        for kind, index in rows.items()
    }
    multiple = math.lcm(8, devices)
    sizes = {
        n: -(-count // (multiple * steps)) * multiple for n, count in counts.items()
    }
    return counts, sizes


class Plan:
    """The rows of each step's kind, dealt into batches of a fixed shape.

    Attributes:
      steps: steps an epoch.
      sizes: kind of step (a task's name, or `EVERY`) -> rows a batch holds at
        most; multiples of 8 and of the devices, who split them. Empty slots
        alone depend on how many devices there are.
    """

    def __init__(
        self,
        rows: Rows,
        tasks: Mapping[str, Task],
        batch_size: int,
        *,
        summed: bool = False,
        passes: Mapping[str, float] | None = None,
        devices: int = 1,
    ):
        """Finds each task's rows.

        Args:
          rows: the training split.
          tasks: kind of step -> the task whose rows it takes.
          batch_size: rows a batch of a task that every row is labelled for.
          summed: one kind of step on all rows that any task labels.
          passes: task -> how often an epoch passes over its rows (default 1).
          devices: that split each batch.

        Raises:
          ValueError: fewer rows than one batch, or a task without any row.
        """
        if not 1 <= batch_size <= rows.num_rows:
            raise ValueError(
                f"batch size {batch_size} does not fit {rows.num_rows} training rows;"
                f" use 1 … {rows.num_rows}"
            )
        labels = {name: np.asarray(column) for name, column in rows.labels.items()}
        found = {kind: task.inside(labels) for kind, task in tasks.items()}
        for kind, task in tasks.items():
            if not found[kind].any():
                raise ValueError(
                    f"task {task.name!r} has no labelled training row in its space"
                    f" {task.space!r}; leave it out of --training.tasks,"
                    " or give a log that has some"
                )
        if summed:
            found = {EVERY: np.any(list(found.values()), axis=0)}
        self._rows = {
            kind: np.flatnonzero(flags).astype(np.int32)
            for kind, flags in found.items()
        }
        self.steps = -(-rows.num_rows // batch_size)
        self._counts, self.sizes = deal(self._rows, self.steps, passes, devices)

    def orders(self, seed: int, epoch: int) -> dict[str, np.ndarray]:
        """Kind -> int32 [steps, size] row numbers, -1 = empty slot.

        Rows are dealt in turn, so that batches of a kind differ by one row at
        most: no step is left with a handful of rows at the epoch's end.
        """
        orders = {}
        for kind, index in self._rows.items():
            count = self._counts[kind]
            # By name: a task's number would depend on the company it keeps.
            generator = np.random.default_rng([seed, epoch, zlib.crc32(kind.encode())])
            drawn = [
                generator.permutation(index) for _ in range(-(-count // len(index)))
            ]
            dealt = np.full(self.sizes[kind] * self.steps, -1, np.int32)
            dealt[:count] = np.concatenate(drawn)[:count]
            orders[kind] = dealt.reshape(self.sizes[kind], self.steps).T.copy()
        return orders
