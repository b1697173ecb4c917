"""What a log larger than memory needs: columns on disk, and streamed counts."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from jaxmtl.types import Field


class Scratch:
    """A temporary folder of columns that grow.

    It goes when the last object that holds this one goes, or at the end of the
    program; the environment variable TMPDIR says where it lies.
    """

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="jaxmtl-ali_ccp-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self._folder, True)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Adds rows to a column, which they start if there is none."""
        with open(self._folder / name, "ab") as file:
            np.ascontiguousarray(rows).tofile(file)

    def open(self, name: str, dtype: type | str, *width: int) -> np.ndarray:
        """A column, mapped into memory and writable: [n, *width].

        Args:
          name: a column; one that nothing was added to is empty.
          dtype: of the rows that were added.
          *width: their shape.
        """
        path = self._folder / name
        if not path.exists() or not path.stat().st_size:  # mmap refuses empty files
            return np.empty((0, *width), dtype)
        return np.memmap(path, dtype, "r+").reshape(-1, *width)

    def open_ids(self, name: str, fields: tuple[Field, ...]) -> np.ndarray:
        """A column of ids, int32 [n, slots of the fields]."""
        return self.open(name, np.int32, sum(field.slots for field in fields))


class Counts:
    """How often integers occur, in memory proportional to how many differ."""

    def __init__(self):
        self._values = np.empty(0, np.int32)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._size = 0

    def add(self, values: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Counts int32 `values` [k], at least 0: once each, or `counts` [k] times."""
        if counts is None:
            values, counts = np.unique(values, return_counts=True)
        self._waiting.append((values, counts))
        self._size += values.size
        # Merging costs as much as there are values, so it waits for as many new.
        if self._size > max(self._values.size, 1 << 16):
            self._merge()

    def known(self, least: int) -> np.ndarray:
        """The values that occur at least so often, sorted."""
        self._merge()
        return self._values[self._counts >= least]

    def _merge(self) -> None:
        parts = [(self._values, self._counts), *self._waiting]
        values, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        starts = np.flatnonzero(np.diff(values, prepend=-1))
        self._values = values[starts]
        self._counts = np.add.reduceat(counts, starts) if starts.size else counts
        self._waiting, self._size = [], 0
