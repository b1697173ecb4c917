"""Ali-CCP: which rows, fields and ids the published protocols keep.

The 23 fields and their meaning are those of Ma et al., "Entire Space Multi-Task
Model" (SIGIR 2018), who published the data. Most papers keep the ids that
training shows ten times and drop purchases without a click; DCRNN takes the
ids as they are and draws 40 million rows of each file without replacement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from jaxmtl.types import Field, Schema, Task, Vocabulary

PROFILE = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
"""Of the user: who it is, categories, gender, age, two grades, occupation, place."""
HISTORY = ("109_14", "110_14", "127_14", "150_14")
"""Of the user: categories, shops, brands and intentions of the past, with counts."""
ITEM = ("205", "206", "207", "210", "216")
"""The item shown, its category, shop, intentions and brand."""
COMBINED = ("508", "509", "702", "853")
"""What of a category, shop, brand or intention meets the user's history."""
CONTEXT = ("301",)
MANY = {*HISTORY, "210", "853"}
"""Fields that hold several ids a row."""
TASKS = (Task("click"), Task("conversion", space="click"))
NOTES = (
    "Ali-CCP (Ma et al., SIGIR 2018), impressions of Taobao's recommender published by"
    " Alibaba at Tianchi, under Tianchi's terms: not to be redistributed.",
)
BLOCK_ROWS = 65_536
"""Rows of a block that a log hands over."""


@dataclasses.dataclass(frozen=True)
class AliCcpOptions:
    """Which rows and ids of Ali-CCP are kept.

    Attributes:
      protocol: `usual` leaves out rows bought but not clicked, and ids that
        training shows fewer than `min_count` times share one row of their
        table; `dcrnn` keeps every row and gives every id of training its own.
      min_count: of the usual protocol.
      slots: how many ids are kept of a field that holds several, those with the
        highest values; the values themselves are dropped, as in both protocols.
      sample: how many rows of the training file and of the test file are drawn,
        without replacement; none = all. The DCRNN paper draws 40,000,000.
      validation: share of the training file that validates, chosen by a hash of
        the row's `sample_id`; the preprocessed form brings its own.
      seed: of the draw and of the hash.
    """

    protocol: Literal["usual", "dcrnn"] = "usual"
    min_count: int = 10
    slots: int = 4
    sample: int | None = None
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self):
        for name in ("min_count", "slots", "sample"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if not 0 < self.validation < 1:
            raise ValueError(
                f"validation is {self.validation}; expected a share between 0 and 1"
            )

    @property
    def least(self) -> int:
        """How often training must show an id to give it a row of its own."""
        return self.min_count if self.protocol == "usual" else 1


def make_fields(names: Sequence[str], slots: int) -> tuple[Field, ...]:
    """Fields by name, each with a vocabulary of its own.

    No two fields share ids: the files number a category of the past otherwise
    than the category of the item shown.
    """
    return tuple(Field(n, n, slots if n in MANY else 1) for n in names)


def make_schema(
    fields: tuple[Field, ...],
    known: Mapping[str, np.ndarray],
    numeric: tuple[str, ...] = (),
) -> Schema:
    """The schema of a log whose training shows the ids `known` of each field."""
    return Schema(
        name="ali_ccp",
        fields=fields,
        vocabularies=tuple(Vocabulary(f.name, 1 + known[f.name].size) for f in fields),
        tasks=TASKS,
        ctr="click",
        cvr="conversion",
        user="101",
        item="205",
        numeric=numeric,
    )


class Selection:
    """Chooses a file's rows, block by block, and counts the others.

    Attributes:
      counts: rows `read`, `kept` and `dropped: <reason>` so far.
    """

    def __init__(self, options: AliCcpOptions, rows: int | None, name: str):
        """Starts at the top of a file.

        Args:
          options: `protocol`, `sample` and `seed` matter.
          rows: of the whole file; only needed with a sample.
          name: of the file, for the error.

        Raises:
          ValueError: the sample is larger than the file.
        """
        if options.sample is not None and options.sample > rows:
            raise ValueError(
                f"{name} holds {rows:,} rows, fewer than the sample of"
                f" {options.sample:,}; draw fewer, or leave the sample out to keep all"
            )
        self.counts = dict.fromkeys(
            ("read", "kept", "dropped: not sampled", "dropped: buy without click"), 0
        )
        self._usual = options.protocol == "usual"
        self._wanted, self._ahead = options.sample, rows
        self._rng = np.random.default_rng(options.seed)

    def keep(self, click: np.ndarray, buy: np.ndarray) -> np.ndarray:
        """bool [n]: which of the file's next n rows stay."""
        drawn = self._draw(click.size)
        wrong = drawn & (buy & ~click) if self._usual else np.zeros_like(drawn)
        kept = drawn & ~wrong
        self.counts["read"] += click.size
        self.counts["kept"] += int(kept.sum())
        self.counts["dropped: not sampled"] += int((~drawn).sum())
        self.counts["dropped: buy without click"] += int(wrong.sum())
        return kept

    def _draw(self, n: int) -> np.ndarray:
        if self._wanted is None:
            return np.ones(n, bool)
        # How many of a uniform draw fall into these rows is hypergeometric, so
        # the whole draw is exact and no list of the file's rows is ever held.
        here = self._rng.hypergeometric(self._wanted, self._ahead - self._wanted, n)
        self._wanted, self._ahead = self._wanted - here, self._ahead - n
        return self._rng.permutation(n) < here


def is_validation(sample_id: np.ndarray, options: AliCcpOptions) -> np.ndarray:
    """bool [n]: whether rows validate, by the SplitMix64 hash of their ids."""
    x = sample_id.astype(np.uint64) + np.uint64(options.seed)
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x < np.uint64(int(options.validation * 2**64))
