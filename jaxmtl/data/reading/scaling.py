"""Numeric features brought to mean 0 and deviation 1 over the training rows.

Moments are gathered block by block, so that a file is never held whole, and merged
by the pairwise update of Chan, Golub and LeVeque (1979), which does not cancel as
the difference of two sums of squares does. Missing numbers are NaN: they enter no
moment and become 0, the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


class Moments(NamedTuple):
    """Of each column: how many are known, their mean, and their squared deviations.

    Attributes:
      count: float64 [columns].
      mean: float64 [columns]; 0 where none is known.
      squares: float64 [columns], the sum of (value - mean)².
    """

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def moments(values: np.ndarray) -> Moments:
    """The moments of one block.

    Args:
      values: [rows, columns], NaN = missing; any number of rows, also none.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=0).astype(np.float64)
    # Over the smallest, so that a column of equal numbers deviates by exactly 0.
    least = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    least = np.where(count > 0, least, 0)
    above = np.where(known, values - least, 0)
    mean = above.sum(axis=0) / np.maximum(count, 1)
    squares = (np.where(known, above - mean, 0) ** 2).sum(axis=0)
    return Moments(count, least + mean, squares)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two blocks together."""
    count = a.count + b.count
    share = b.count / np.maximum(count, 1)
    step = b.mean - a.mean
    squares = a.squares + b.squares + step**2 * a.count * share
    return Moments(count, a.mean + step * share, squares)


def standardise(values: np.ndarray, over: Moments) -> np.ndarray:
    """(value - mean) / deviation, float32 [rows, columns].

    A column that does not vary over the training rows is only shifted; a missing
    number becomes 0.
    """
    return as_float32((values - over.mean) / deviation(over))


def deviation(over: Moments) -> np.ndarray:
    """What `standardise` divides by, float64 [columns]: 1 for one that never varies."""
    found = np.sqrt(over.squares / np.maximum(over.count, 1))
    return np.where(found > 0, found, 1)


def as_float32(scaled: np.ndarray) -> np.ndarray:
    """Scaled numbers as float32: 0 for a missing one, the largest for larger ones."""
    return np.nan_to_num(np.clip(scaled, -LARGEST, LARGEST), nan=0.0).astype(np.float32)
