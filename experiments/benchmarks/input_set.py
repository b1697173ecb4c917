"""A set in Ali-CCP's shape, on disk and cut into steps, for `input`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.benchmarks.ali_ccp import BOUGHT, CLICKED, ITEMS, NAMES, USERS
from jaxmtl.data.batches.chunks import Chunk, read_chunks
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.data.store.blocks import open_split
from jaxmtl.types import GROUPS, Field, Rows, Schema, Task, Vocabulary

SIZES = dict.fromkeys(NAMES, 10_000) | {"101": USERS, "205": ITEMS}
SCHEMA = Schema(
    name="ali_ccp_made",
    # 23 fields, one of which has two ids: 24 columns.
    fields=tuple(Field(name, name, slots=1 + (name == "210")) for name in NAMES),
    vocabularies=tuple(Vocabulary(name, size) for name, size in SIZES.items()),
    tasks=(Task("click"), Task("conversion", space="click")),
    ctr="click",
    cvr="conversion",
    user="101",
    item="205",
)
WRITTEN = 1 << 18
"""Rows made together."""


def made_blocks(n: int) -> Iterator[Rows]:
    """Rows by chance, at Ali-CCP's rates of clicks and purchases."""
    high = [SIZES[field.name] for field in SCHEMA.fields for _ in range(field.slots)]
    for start in range(0, n, WRITTEN):
        rng, size = np.random.default_rng(start), min(WRITTEN, n - start)
        columns = [rng.integers(1, top, size, dtype=np.int32) for top in high]
        click = rng.random(size) < CLICKED
        buy = click & (rng.random(size) < BOUGHT / CLICKED)
        who_and_what = (columns[SCHEMA.column(f)] for f in (SCHEMA.user, SCHEMA.item))
        yield Rows(
            np.stack(columns, axis=1),
            np.zeros((size, 0), np.float32),
            {"click": click.astype(np.float32), "conversion": buy.astype(np.float32)},
            {},
            dict(zip(GROUPS, who_and_what, strict=True)),
        )


@dataclasses.dataclass(frozen=True)
class MadeSet:
    """Where a set lies, and how it is read.

    Attributes:
      folder: of its columns.
      n: rows.
      batch: rows a step.
      chunk: steps gathered together.
    """

    folder: Path
    n: int
    batch: int
    chunk: int

    def open(self) -> Rows:
        """The columns, mapped anew."""
        return open_split(self.folder, SCHEMA, self.n)

    @functools.cached_property
    def _source(self) -> tuple[LargePlan, Rows]:
        rows, tasks = self.open(), {task.name: task for task in SCHEMA.tasks}
        return LargePlan(SCHEMA, rows, tasks, self.batch, summed=True), rows

    def chunks(
        self, epoch: int, *, whole: bool
    ) -> contextlib.AbstractContextManager[Iterator[Chunk]]:
        """An epoch's chunks: all rows, or only the chunks of one length."""
        plan, rows = self._source
        length = min(self.chunk, plan.steps)
        ends = list(range(0, plan.steps + 1, length))
        if whole and ends[-1] < plan.steps:
            ends.append(plan.steps)
        bounds = zip(ends, ends[1:], strict=False)
        return contextlib.closing(read_chunks(plan, rows, 0, epoch, bounds))

    def warm(self) -> None:
        """Reads the files, so that the system holds as much of them as it can."""
        for path in self.folder.iterdir():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass

    def drop(self) -> None:
        """Makes the system forget the files, as far as nobody has them mapped."""
        for path in self.folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
