"""A split on disk: one memory-mapped `.npy` for each column of its rows.

Rows are written a block at a time and read where they lie, so a split may be larger
than memory: what the system keeps of its files it can drop again. Labels and extras are
numbered, in the order of their sorted names: a name is the user's and never part of a
path, which could lead out of the folder, be too long, or be the same as another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxmtl.types import GROUPS, Rows, Schema


def write_split(folder: Path, n: int, blocks: Iterable[Rows]) -> None:
    """Writes the columns of `n` rows into a new folder.

    Args:
      folder: does not exist yet.
      n: how many rows the blocks hold together, at least 1.
      blocks: of rows, in their order.

    Raises:
      ValueError: the blocks hold another number of rows.
    """
    folder.mkdir()
    columns, at = {}, 0
    for block in blocks:
        flat, end = _flat(block), at + block.num_rows
        if end > n:
            raise ValueError(f"{folder}: blocks hold {end} rows or more, promised {n}")
        if not columns:
            columns = {
                name: np.lib.format.open_memmap(
                    folder / f"{name}.npy",
                    mode="w+",
                    dtype=column.dtype,
                    shape=(n, *column.shape[1:]),
                )
                for name, column in flat.items()
            }
        for name, column in flat.items():
            columns[name][at:end] = column
        at = end
    if at < n:
        raise ValueError(f"{folder}: blocks hold {at} rows, promised {n}")
    for column in columns.values():
        column.flush()


def _flat(rows: Rows) -> dict[str, np.ndarray]:
    labels, extras = _files("label", rows.labels), _files("extra", rows.extras)
    return {
        "ids": rows.ids,
        "numeric": rows.numeric,
        **{labels[name]: column for name, column in rows.labels.items()},
        **{extras[name]: column for name, column in rows.extras.items()},
        **{f"group.{name}": column for name, column in rows.groups.items()},
    }


def _files(part: str, names: Iterable[str]) -> dict[str, str]:
    """Column -> what its file is called, without the ending."""
    return {name: f"{part}.{place}" for place, name in enumerate(sorted(names))}


def open_split(folder: Path, schema: Schema, n: int) -> Rows:
    """Maps the columns that `write_split` wrote; reads none of them yet.

    Raises:
      ValueError: a file is missing, truncated, or of another type or length than
        schema and `n` say; names it.
    """

    labels = _files("label", [task.name for task in schema.tasks])
    extras = _files("extra", schema.extras)

    def column(name: str, dtype: type, *width: int) -> np.ndarray:
        path = folder / f"{name}.npy"
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy reads a header with Python's own parser
            raise ValueError(
                f"{path}: {error}; delete {folder.parent} to prepare it again"
            ) from error
        if mapped.shape != (n, *width) or mapped.dtype != dtype:
            raise ValueError(
                f"{path}: holds {mapped.dtype} {mapped.shape}, the schema asks for"
                f" {np.dtype(dtype)} {(n, *width)}; delete {folder.parent} to"
                " prepare it again"
            )
        return mapped

    return Rows(
        column("ids", np.int32, schema.slots),
        column("numeric", np.float32, len(schema.numeric)),
        {t.name: column(labels[t.name], np.float32) for t in schema.tasks},
        {name: column(extras[name], np.float32) for name in schema.extras},
        {name: column(f"group.{name}", np.int32) for name in GROUPS},
    )
