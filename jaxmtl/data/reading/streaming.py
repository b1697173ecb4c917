"""Logs too large to hold: each file is parsed twice, a block at a time.

The first pass, over the training rows, counts vocabularies and gathers the moments
of the numeric features; the second makes rows, each time a split is read. Memory
holds one block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxmtl.data.log import SPLITS
from jaxmtl.data.reading.counting import Counts
from jaxmtl.data.reading.delimited import Id
from jaxmtl.data.reading.scaling import Moments, merge, moments, standardise
from jaxmtl.data.reading.vocabulary import look_up
from jaxmtl.types import Field, Rows, Task, Vocabulary


class Raw(NamedTuple):
    """A block as its file has it.

    Attributes:
      columns: name -> numbers [rows], of every field, numeric feature and label.
      split: int8 [rows], index into `SPLITS`.
      groups: `user` and `item` -> int32 [rows], as in `Rows`.
    """

    columns: dict[str, np.ndarray]
    split: np.ndarray
    groups: dict[str, np.ndarray]


Source = Callable[[], Iterator[Raw]]
"""Parses a file from its beginning."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """What becomes of the columns: single-valued fields, numbers and labels."""

    fields: tuple[Field, ...]
    numeric: tuple[str, ...]
    tasks: tuple[Task, ...]

    def types(self) -> dict[str, type]:
        """Column -> its type, in the order of the file's own parts."""
        return {
            **{field.name: Id for field in self.fields},
            **dict.fromkeys(self.numeric, float),
            **{task.name: bool for task in self.tasks},
        }

    def numbers(self, raw: Raw, where: np.ndarray) -> np.ndarray:
        """The numeric features of some rows, float64 [rows, numerics]."""
        return np.stack([raw.columns[name][where] for name in self.numeric], axis=1)


class Census(NamedTuple):
    """What the first pass finds.

    Attributes:
      known: vocabulary -> its values in the training rows, sorted.
      moments: of the numeric features over the training rows.
      rows: all rows of the sources.
    """

    known: dict[str, np.ndarray]
    moments: Moments
    rows: int

    def vocabularies(self) -> tuple[Vocabulary, ...]:
        """The vocabularies, in the order in which the fields first name them."""
        return tuple(Vocabulary(name, 1 + v.size) for name, v in self.known.items())


def take_census(columns: Columns, sources: Mapping[str, Source]) -> Census:
    """Passes once over every source.

    Args:
      columns: what to count.
      sources: split -> where its rows are; several may share one.
    """
    seen = {field.vocabulary: Counts(np.int64) for field in columns.fields}
    total, rows = moments(np.zeros((0, len(columns.numeric)))), 0
    for source in dict.fromkeys(sources.values()):
        for raw in source():
            rows += raw.split.size
            train = raw.split == SPLITS.index("train")
            total = merge(total, moments(columns.numbers(raw, train)))
            for field in columns.fields:
                seen[field.vocabulary].add(raw.columns[field.name][train])
    known = {name: counts.known() for name, counts in seen.items()}
    return Census(known, total, rows)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The rows of one split, parsed again each time they are read."""

    columns: Columns
    census: Census
    source: Source
    split: str

    def __iter__(self) -> Iterator[Rows]:
        for raw in self.source():
            here = raw.split == SPLITS.index(self.split)
            if here.any():
                yield self._rows(raw, here)

    def _rows(self, raw: Raw, here: np.ndarray) -> Rows:
        take = lambda name: raw.columns[name][here]
        fields, tasks = self.columns.fields, self.columns.tasks
        known = self.census.known
        ids = [look_up(take(field.name), known[field.vocabulary]) for field in fields]
        return Rows(
            ids=np.stack(ids, axis=1),
            numeric=standardise(self.columns.numbers(raw, here), self.census.moments),
            labels={task.name: take(task.name).astype(np.float32) for task in tasks},
            extras={},
            groups={name: column[here] for name, column in raw.groups.items()},
        )


def read_splits(
    columns: Columns, sources: Mapping[str, Source]
) -> tuple[Census, dict[str, Blocks]]:
    """The census of the sources, and the blocks of each split."""
    census = take_census(columns, sources)
    splits = {s: Blocks(columns, census, sources[s], s) for s in sources}
    return census, splits
