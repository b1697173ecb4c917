"""What every source hands over: a schema, the rows of each split, and counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jaxmtl.types import Rows, Schema

SPLITS = ("train", "validation", "test")


class Log(NamedTuple):
    """A log as its source reads it.

    Attributes:
      schema: what the rows hold; vocabularies are counted on `train` alone, so
        an id first seen later is `UNKNOWN`.
      splits: name -> blocks of rows, in time order where the source has time.
      counts: rows `read`, `kept`, and `dropped: <reason>`, in reading order.
      notes: provenance and licence, printed wherever results are shown.
    """

    schema: Schema
    splits: dict[str, Iterable[Rows]]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
