"""Counts of a stream are those of the whole, and merged seldom."""

import collections

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.log import SPLITS
from jaxmtl.data.reading import counting
from jaxmtl.data.reading.counting import Counts
from jaxmtl.data.reading.streaming import Columns, Raw, take_census
from jaxmtl.types import Field


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 30), max_size=20), max_size=6))
def test_streamed_counts_equal_counts_at_once(blocks):
    counts, expected = Counts(), collections.Counter()
    for block in blocks:
        values = np.array(block, np.int32)
        counts.add(values)
        counts.add(values, np.full(len(block), 2))
        expected.update(
            {value: 3 * n for value, n in collections.Counter(block).items()}
        )
        counts._merge()
    for least in (1, 4, 9):
        known = sorted(value for value, n in expected.items() if n >= least)
        assert counts.known(least).tolist() == known
        assert counts.known(least).dtype == np.int32


def merges(monkeypatch) -> list[int]:
    """How many values each merge sorts, from now on."""
    monkeypatch.setattr(counting, "FEW", 8)
    found, merge = [], Counts._merge

    def counted(self):
        found.append(self._values.size + self._size)
        merge(self)

    monkeypatch.setattr(Counts, "_merge", counted)
    return found


def test_a_census_does_not_sort_its_vocabularies_for_every_block(monkeypatch):
    """Each doubles before it is sorted again: with all blocks' ids, a few times."""
    ids = np.random.default_rng(0).permutation(2**31 - np.arange(1, 4001))
    columns = Columns((Field("a", "ids"), Field("b", "ids")), ("x",), ())

    def source():
        for block in ids.reshape(200, 20):
            names = {"a": block[:10], "b": block[10:], "x": np.ones(10)}
            split = np.arange(10) % 2  # every second row validates
            yield Raw(names, split.astype(np.int8), {})

    sizes = merges(monkeypatch)
    census = take_census(columns, dict.fromkeys(SPLITS, source))
    expected = np.sort(ids.reshape(200, 2, 10)[:, :, ::2].ravel())
    np.testing.assert_array_equal(census.known["ids"], expected)
    assert census.known["ids"].dtype == np.int64 and census.rows == 2000
    assert sum(sizes) < 5 * expected.size
