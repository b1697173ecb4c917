"""Training rows as chunks of steps, from the device's memory or from a disk's.

A split that fits is copied to the device once, and a chunk is but the numbers of its
rows. Of one that stays on the host, memory-mapped, each chunk's batches are gathered
and sent to the device while that works on the chunk before. Both train the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.data.batches.prefetch import prefetch
from jaxmtl.types import Batch, Rows

Orders = Mapping[str, np.ndarray]
"""Kind of step -> int32 [steps, size], numbers of rows in a split, -1 = empty slot."""


class Chunk(NamedTuple):
    """Steps to train in one scan.

    Attributes:
      start: the first step, counted in its epoch from 0.
      stop: the step after the last.
      rows: the split, on the device; None where it stays on the host.
      steps: of each kind, `numbers` where there are rows, else the batches themselves,
        on the device, with a leading axis of steps.
      numbers: which rows the steps train.
    """

    start: int
    stop: int
    rows: Rows | None
    steps: Orders | Mapping[str, Batch]
    numbers: Orders


def gather(rows: Rows, orders: Orders) -> dict[str, Batch]:
    """Kind of step -> its batches, sent to the default device.

    Args:
      rows: on the host.
      orders: of the steps.
    """
    batches = {kind: _batches(rows, order) for kind, order in orders.items()}
    # Waits, so that the host's copy is gone before another is made.
    return jax.block_until_ready(jax.device_put(batches))


def _batches(rows: Rows, order: np.ndarray) -> Batch:
    # An empty slot brings row 0 along: the shape of a chunk must not change.
    index = np.maximum(order, 0)
    taken = jax.tree.map(lambda column: np.take(column, index, axis=0), rows)
    return Batch(taken, order >= 0)


def read_chunks(
    plan: Plan | LargePlan,
    train: Rows,
    seed: int,
    epoch: int,
    bounds: Iterable[tuple[int, int]],
    place: Callable[[Rows, Orders], Mapping[str, Batch]] = gather,
) -> Iterator[Chunk]:
    """The chunks of an epoch; `contextlib.closing` stops the reading early.

    Args:
      plan: the batches of the training split.
      train: training rows, on the device or on the host. Of those on the host two
        chunks are gathered at a time, and a `LargePlan` numbers only their rows.
      seed: of the order of the data, together with the epoch.
      epoch: which one.
      bounds: start and stop of each chunk.
      place: brings batches from the host to where they are trained.
    """
    parts = _parts(plan, seed, epoch, bounds)
    if isinstance(train.ids, jax.Array):
        return (Chunk(*part, train, numbers, numbers) for part, numbers in parts)
    return prefetch(
        Chunk(*part, None, place(train, numbers), numbers) for part, numbers in parts
    )


def _parts(plan, seed, epoch, bounds) -> Iterator[tuple[tuple[int, int], Orders]]:
    if isinstance(plan, LargePlan):
        for part in bounds:
            yield part, plan.orders(seed, epoch, *part)
    else:
        whole = plan.orders(seed, epoch)
        for part in bounds:
            yield part, {kind: order[slice(*part)] for kind, order in whole.items()}
