"""Splits that are functions of the log: by a hash of a key, and by time."""

import numpy as np
import pytest
from conftest import make_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.reading.splitting import by_hash, by_time, divide


def splitmix64(seed: int) -> int:
    """The generator's first output, in plain integers, from its published C code."""
    wide = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & wide
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & wide
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & wide
    return z ^ (z >> 31)


def test_the_hash_is_the_published_one():
    assert splitmix64(1234567) == 6457827717110365317  # the reference's own example
    keys = np.array([0, 1, 1234567, 2**40, 2**62])
    expected = [np.searchsorted([0.5], splitmix64(int(k)) / 2**64) for k in keys]
    np.testing.assert_array_equal(by_hash(keys, (0.5,)), expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=50), st.randoms())
def test_a_keys_part_depends_on_the_key_alone(keys, random):
    parts = dict(zip(keys, by_hash(np.array(keys)).tolist(), strict=True))
    random.shuffle(keys)
    assert by_hash(np.array(keys)).tolist() == [parts[key] for key in keys]


def test_consecutive_keys_fall_into_parts_of_the_given_shares():
    sizes = np.bincount(by_hash(np.arange(100_000)))
    np.testing.assert_allclose(sizes / 100_000, [0.7, 0.15, 0.15], atol=0.005)


def test_rows_are_cut_by_time_whatever_their_order():
    time = np.array([9, 1, 5, 2, 3, 8, 4, 7, 6, 0])
    expected = np.array([2, 0, 0, 0, 0, 2, 0, 1, 0, 0])
    np.testing.assert_array_equal(by_time(time, "log"), expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=60, max_size=120))
def test_no_part_begins_before_an_earlier_one_ends(times):
    time = np.array([*times, *range(31)])
    split = by_time(time, "log")
    for earlier, later in ((0, 1), (1, 2)):
        assert time[split == earlier].max() < time[split == later].min()


@pytest.mark.parametrize("time", [[], [4, 4, 4, 4], [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]])
def test_times_that_leave_a_part_empty_are_refused(time):
    with pytest.raises(ValueError, match=r"a\.csv holds \d+ rows of \d different time"):
        by_time(np.array(time), "a.csv")


def test_rows_are_divided_in_their_order():
    rows = make_rows(9, seed=0)
    split = np.array([2, 0, 1, 0, 0, 1, 2, 0, 1])
    parts = divide(rows, split)
    assert list(parts) == ["train", "validation", "test"]
    wheres = ([1, 3, 4, 7], [2, 5, 8], [0, 6])
    for (block,), here in zip(parts.values(), wheres, strict=True):
        np.testing.assert_array_equal(block.ids, rows.ids[here])
        np.testing.assert_array_equal(block.labels["watch"], rows.labels["watch"][here])
