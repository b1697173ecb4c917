"""Which rows of a log train, validate and test."""

from __future__ import annotations

import hashlib

import numpy as np

from jaxmtl.data.log import SPLITS
from jaxmtl.data.reading.splitting import by_time
from jaxmtl.data.sources.own_log.columns import Coded, Columns
from jaxmtl.data.sources.own_log.description import Split

WAYS_OUT = {
    "time": "give more rows, or larger shares",
    "hash": "all rows of one value fall into one split, so split by a column that holds"
    " more values, or give larger shares",
    "column": f"let the column name {', '.join(SPLITS)}",
}


def assign(split: Split, columns: Columns) -> np.ndarray:
    """Assigns every row to a split.

    Returns:
      int8 [n], indices into `SPLITS`.

    Raises:
      ValueError: a value names no split, or one of them holds no row; says what
        the column holds.
    """
    if split.by == "time":
        assigned = _by_time(split, columns.time)
    elif split.by == "hash":
        assigned = _by_hash(split, columns.ids[split.column])
    else:
        assigned = _by_column(split, columns.ids[split.column])
    sizes = np.bincount(assigned, minlength=len(SPLITS))
    if not sizes.all():
        held = dict(zip(SPLITS, sizes.tolist(), strict=True))
        raise ValueError(
            f"split: by {split.by} of column {split.column!r} gives {held} rows; every"
            f" split needs some: {WAYS_OUT[split.by]}"
        )
    return assigned


def _by_time(split: Split, time: np.ndarray) -> np.ndarray:
    cuts = (1 - split.validation - split.test, 1 - split.test)
    try:
        return by_time(time, f"column {split.column!r}", cuts)
    except ValueError as error:
        most = np.unique(time, return_counts=True)[1].max()
        raise ValueError(
            f"split: {error}: rows of one time stay together, and {most} rows have the"
            ' same; split by = "hash" of a column such as the user\'s, by = "column",'
            " which names each row's split, or by a finer time"
        ) from error


def _by_column(split: Split, column: Coded) -> np.ndarray:
    texts = column.texts.to_pylist()
    unknown = sorted(set(texts) - set(SPLITS))
    if unknown:
        raise ValueError(
            f"split column {split.column!r} holds {', '.join(map(repr, unknown[:5]))};"
            f" expected {', '.join(SPLITS)} alone"
        )
    return np.array([SPLITS.index(text) for text in texts], np.int8)[column.codes[:, 0]]


def _by_hash(split: Split, column: Coded) -> np.ndarray:
    """By where a text's hash falls in [0, 1): the same on every machine, for ever.

    The test lies lowest, so that another share for validation leaves it as it is.
    """
    shares = np.fromiter((_hash(t) for t in column.texts.to_pylist()), np.float64)
    bounds = [split.test, split.test + split.validation]
    of_text = (2 - np.searchsorted(bounds, shares, side="right")).astype(np.int8)
    return of_text[column.codes[:, 0]]


def _hash(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
