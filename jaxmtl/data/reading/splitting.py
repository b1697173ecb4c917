"""Which rows train, validate and test: by a hash of a key, or by time.

Neither draws random numbers: what a row's split is depends on the log alone.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxmtl.data.log import SPLITS
from jaxmtl.types import Rows

CUTS = (0.70, 0.85)
"""Shares of the rows before validation and before the test."""


def by_hash(keys: np.ndarray, cuts: tuple[float, ...] = CUTS) -> np.ndarray:
    """The part of each row, the same for equal keys.

    Args:
      keys: integers [n]: row numbers, or the ids of what must not be torn apart.
      cuts: ascending shares in (0, 1) at which a next part begins.

    Returns:
      int8 [n], 0 … len(cuts).
    """
    # SplitMix64 (Steele, Lea and Flood, 2014): neighbours land far apart.
    mixed = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    share = (mixed >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(cuts, share, side="right").astype(np.int8)


def by_time(
    time: np.ndarray, where: object, cuts: tuple[float, ...] = CUTS
) -> np.ndarray:
    """The part of each row, later parts later in time; equal times stay together.

    Args:
      time: numbers [n], in any order.
      where: what is split, for the error.
      cuts: ascending shares of the rows at which a next part begins.

    Returns:
      int8 [n], 0 … len(cuts).

    Raises:
      ValueError: a part would be empty.
    """
    ordered = np.sort(time)
    bounds = ordered[[int(cut * ordered.size) for cut in cuts]] if ordered.size else ()
    split = np.searchsorted(bounds, time, side="right").astype(np.int8)
    if np.unique(split).size <= len(cuts):
        raise ValueError(
            f"{where} holds {ordered.size} rows of {np.unique(ordered).size} different"
            f" times: too few to split into {', '.join(SPLITS)}"
        )
    return split


def divide(rows: Rows, split: np.ndarray) -> dict[str, list[Rows]]:
    """The rows of each of `SPLITS` as one block, in the order in which they come."""
    take = lambda here: jax.tree.map(lambda column: column[here], rows)
    return {name: [take(split == i)] for i, name in enumerate(SPLITS)}
