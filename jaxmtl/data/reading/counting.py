"""Which integers a stream of blocks holds, and how often."""

from __future__ import annotations

import numpy as np

FEW = 1 << 16
"""New values for which alone nothing is merged."""


class Counts:
    """How often integers occur, in memory proportional to how many differ."""

    def __init__(self, dtype: type = np.int32):
        """Counts nothing yet; `dtype` is that of the values."""
        self._values = np.empty(0, dtype)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._size = 0

    def add(self, values: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Counts integers `values` [k]: once each, or `counts` [k] times."""
        if counts is None:
            values, counts = np.unique(values, return_counts=True)
        self._waiting.append((values, counts))
        self._size += values.size
        # Merging costs as much as there are values, so it waits for as many new.
        if self._size > max(self._values.size, FEW):
            self._merge()

    def known(self, least: int = 1) -> np.ndarray:
        """The values that occur at least so often, sorted."""
        self._merge()
        return self._values[self._counts >= least]

    def _merge(self) -> None:
        parts = [(self._values, self._counts), *self._waiting]
        values, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        is_first = np.ones(values.size, bool)
        np.not_equal(values[1:], values[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        self._values = values[starts]
        self._counts = np.add.reduceat(counts, starts) if starts.size else counts
        self._waiting, self._size = [], 0
