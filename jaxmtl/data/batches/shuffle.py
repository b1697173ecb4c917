"""A random order of any number of rows, of which any part is made without the rest.

A permutation of all rows would take memory with their number, and read them from all
over the disk. Here blocks of neighbouring rows are permuted, and then the rows inside
each window of blocks: memory holds a window and one number for each block, and a
window's rows lie in blocks that a disk reads whole. With no more rows than a window has
room for, every order is equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 1024
"""Rows that stay in one window: about 100 kB of 24 fields, what a disk reads ahead."""
WINDOW = 256
"""Blocks whose rows mix: a batch draws from this many places of the log."""


def shuffled(
    n: int,
    key: Sequence[int],
    start: int,
    stop: int,
    *,
    block: int = BLOCK,
    window: int = WINDOW,
) -> np.ndarray:
    """Positions start … stop - 1 of a random order of 0 … n - 1.

    Args:
      n: rows to order, at least 1.
      key: non-negative integers; another key is another order.
      start: first position, 0 <= start <= stop.
      stop: position after the last, stop <= n.
      block: most rows of a block; blocks differ by one row at most.
      window: most blocks of a window; windows differ by one block at most.

    Returns:
      int32 [stop - start], the same numbers however the order is cut into parts.
    """
    blocks = -(-n // block)
    windows = -(-blocks // window)
    edges = n * np.arange(blocks + 1) // blocks
    # The last word sets keys apart: NumPy takes a seed without it for one with 0.
    order = np.random.default_rng([*key, 0]).permutation(blocks)
    ends = np.concatenate([[0], np.cumsum(np.diff(edges)[order])])
    cuts = blocks * np.arange(windows + 1) // windows
    first = np.searchsorted(ends[cuts], start, side="right") - 1
    parts = [np.zeros(0, np.int32)]
    for number in range(first, windows):
        begin = ends[cuts[number]]
        if begin >= stop:
            break
        chosen = order[cuts[number] : cuts[number + 1]]
        rows = _rows_of(edges[chosen], edges[chosen + 1])
        rows = np.random.default_rng([*key, number + 1]).permutation(rows)
        parts.append(rows[max(start - begin, 0) : stop - begin])
    return np.concatenate(parts)


def _rows_of(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """int32, the numbers from each start to its stop, one range after another."""
    sizes = stops - starts
    before = np.cumsum(sizes) - sizes
    rows = np.arange(sizes.sum(), dtype=np.int32)
    return rows + np.repeat((starts - before).astype(np.int32), sizes)
