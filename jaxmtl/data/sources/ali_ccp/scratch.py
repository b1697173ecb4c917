"""What a log larger than memory needs: columns on disk."""

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
