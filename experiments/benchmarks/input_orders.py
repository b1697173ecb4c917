"""Ways to shuffle rows on disk, warm and cold, for `input`.

The project's own, `shuffled`, against a permutation of all rows in memory, and against
a bijection on row numbers (a Feistel network walked back into range; Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", CT-RSA 2002), which needs no memory at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from experiments.benchmarks.input_set import MadeSet
from jaxmtl.data.batches.shuffle import BLOCK, WINDOW, shuffled

Order = Callable[[int, int], np.ndarray]
"""(start, stop) -> the rows at these positions of an order."""
MANY, FEW = BLOCK * WINDOW, 1024
"""Rows ordered together, and gathered together."""


def make_orders(n: int) -> dict[str, Callable[[], Order]]:
    """Ways to shuffle n rows, each made when it is called."""

    def permuted() -> Order:
        whole = np.random.default_rng(0).permutation(np.arange(n, dtype=np.int32))
        return lambda start, stop: whole[start:stop]

    return {
        "blocks in windows": lambda: lambda *part: shuffled(n, (0, 1), *part),
        "bijection": lambda: lambda *part: bijection(n, 0, *part),
        "permutation in memory": permuted,
    }


def bijection(n: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Positions start … stop - 1 of a pseudo-random order of 0 … n - 1, uint32.

    Four rounds on two halves of the bits; a number that falls outside the range is
    encrypted again until it falls inside.
    """
    half = np.uint32(max(1, -(-(n - 1).bit_length() // 2)))
    low = np.uint32((1 << int(half)) - 1)
    keys = np.random.default_rng(seed).integers(1, 2**32, 4, dtype=np.uint32)
    numbers = np.arange(start, stop, dtype=np.uint32)
    outside = np.arange(numbers.size)
    while outside.size:
        left, right = numbers[outside] >> half, numbers[outside] & low
        for key in keys:
            mixed = (right ^ key) * np.uint32(0x9E3779B1)
            mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x85EBCA77)
            left, right = right, left ^ ((mixed >> np.uint32(13)) & low)
        moved = (left << half) | right
        numbers[outside] = moved
        outside = outside[moved >= n]
    return numbers


def compare(made: MadeSet, most: int, seconds: float) -> list[dict]:
    """Rows a second of each order: from a file dropped before, then from a warm one.

    Args:
      made: the set.
      most: rows read at most in each order.
      seconds: after which reading stops too.
    """
    makers = make_orders(made.n)
    records = {name: {"rows": made.n, "order": name} for name in makers}
    # All cold ones first: what a process has mapped, the system does not drop.
    for state in ("cold", "warm") if hasattr(os, "posix_fadvise") else ("warm",):
        for name, make in makers.items():
            (made.drop if state == "cold" else made.warm)()
            wall, cpu = _speed(made, make, most, seconds)
            records[name] |= {state: wall, f"{state}_cpu": cpu}
    return list(records.values())


def _speed(
    made: MadeSet, make: Callable[[], Order], most: int, seconds: float
) -> tuple[float, float]:
    rows, read = made.open(), 0
    now = lambda: np.array([time.perf_counter(), time.process_time()])
    started = now()
    order = make()
    making = now() - started
    started = now()
    for part in _parts(order, min(most, made.n)):
        jax.tree.map(lambda c, i=part: np.take(c, i, axis=0), rows)
        read += part.size
        if time.perf_counter() - started[0] > seconds:
            break
    # An order is made once an epoch, of which this may be a part.
    wall, cpu = read / (now() - started + making * read / made.n)
    return float(wall), float(cpu)


def _parts(order: Order, n: int) -> Iterator[np.ndarray]:
    for first in range(0, n, MANY):
        index = order(first, min(first + MANY, n))
        yield from (index[at : at + FEW] for at in range(0, index.size, FEW))
