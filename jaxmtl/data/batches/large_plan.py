"""The batches of a split too large for a permutation of its rows in memory.

As in `batches.Plan`, every task takes the same number of steps an epoch and passes
over its own rows, so that batches of a task differ by one row at most. Which rows a
step takes is a function of (seed, epoch, step), and costs the same at any step.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from jaxmtl.data.batches import EVERY, deal
from jaxmtl.data.batches.shuffle import shuffled
from jaxmtl.spaces import with_joint
from jaxmtl.types import Rows, Schema, Task

SCANNED = 1 << 20
"""Rows whose labels are looked at together."""


class LargePlan:
    """The rows of each step's kind, dealt into batches of a fixed shape.

    Memory does not grow with the rows: those of a task that not every row is
    labelled for are listed in a temporary file, 4 bytes a row.

    Attributes:
      steps: steps an epoch.
      sizes: kind of step (a task's name, or `EVERY`) -> rows a batch holds at
        most; multiples of 8 and of the devices, who split them.
    """

    def __init__(
        self,
        schema: Schema,
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
          schema: of the rows.
          rows: the training split; of the labels, a part is read at a time.
          tasks: kind of step -> the task whose rows it takes, joint ones too.
          batch_size: rows a batch of a task that every row is labelled for.
          summed: one kind of step on all rows that any task labels.
          passes: task -> how often an epoch passes over its rows (default 1).
          devices: that split each batch.

        Raises:
          ValueError: fewer rows than one batch, more than int32 can number, or a
            task without any row.
        """
        if not 1 <= batch_size <= rows.num_rows < 2**31:
            raise ValueError(
                f"batch size {batch_size} does not fit {rows.num_rows} training rows;"
                f" use 1 … {rows.num_rows}, and fewer than 2**31 rows"
            )
        self._rows = _find(schema, rows, tasks, summed)
        self.steps = -(-rows.num_rows // batch_size)
        self._counts, self.sizes = deal(self._rows, self.steps, passes, devices)

    def orders(
        self, seed: int, epoch: int, start: int = 0, stop: int | None = None
    ) -> dict[str, np.ndarray]:
        """Kind -> int32 [stop - start, size] row numbers, -1 = empty slot.

        Args:
          seed: at least 0.
          epoch: at least 0.
          start: the first step.
          stop: the step after the last; None = the epoch's end.
        """
        steps = np.arange(start, (self.steps if stop is None else stop) + 1)
        orders = {}
        for kind, index in self._rows.items():
            # By name: a task's number would depend on the company it keeps.
            key = (seed, epoch, zlib.crc32(kind.encode()))
            edges = self._counts[kind] * steps // self.steps
            drawn = _repeated(len(index), key, int(edges[0]), int(edges[-1]))
            filled = np.arange(self.sizes[kind]) < np.diff(edges)[:, None]
            order = np.full(filled.shape, -1, np.int32)
            order[filled] = index[drawn]
            orders[kind] = order
        return orders


class _All:
    """The numbers of all rows, kept nowhere."""

    def __init__(self, n: int):
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return positions


def _repeated(n: int, key: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    """Positions of one shuffled order of n after another, each pass its own."""
    parts = [np.zeros(0, np.int32)]
    for number in range(start // n, -(-stop // n)):
        before = number * n
        ends = max(start - before, 0), min(stop - before, n)
        parts.append(shuffled(n, (*key, number), *ends))
    return np.concatenate(parts)


def _find(schema, rows: Rows, tasks, summed: bool) -> dict[str, np.ndarray | _All]:
    """Kind of step -> the numbers of its rows, in their order."""
    counts = dict.fromkeys([*tasks, EVERY], 0)
    for _, inside in _scan(schema, rows, tasks):
        for kind, flags in inside.items():
            counts[kind] += int(flags.sum())
    for kind, task in tasks.items():
        if not counts[kind]:
            raise ValueError(
                f"task {task.name!r} has no labelled training row in its space"
                f" {task.space!r}; leave it out of --training.tasks,"
                " or give a log that has some"
            )
    return {
        kind: _All(rows.num_rows)
        if counts[kind] == rows.num_rows
        else _listed(kind, _scan(schema, rows, tasks))
        for kind in ([EVERY] if summed else tasks)
    }


def _listed(kind: str, scan: Iterable[tuple[int, dict[str, np.ndarray]]]) -> np.ndarray:
    """int32, the numbers of a kind's rows, in a file that nobody else sees."""
    with tempfile.TemporaryFile() as file:
        for first, inside in scan:
            numbers = first + np.flatnonzero(inside[kind])
            file.write(numbers.astype(np.int32).data)
        return np.memmap(file, np.int32, "r")


def _scan(schema, rows: Rows, tasks) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """First row of each part of the split, and which of its rows each kind takes."""
    for first in range(0, rows.num_rows, SCANNED):
        part = slice(first, first + SCANNED)
        labels = {name: np.asarray(c[part]) for name, c in rows.labels.items()}
        labels = with_joint(schema, labels)
        inside = {kind: task.inside(labels) for kind, task in tasks.items()}
        yield first, inside | {EVERY: np.any(list(inside.values()), axis=0)}
