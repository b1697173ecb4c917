"""Standardised numbers: moments by blocks equal those of the whole."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.reading.scaling import merge, moments, standardise


def test_moments_of_a_small_block():
    found = moments(np.array([[1.0, 7.0], [3.0, np.nan], [5.0, np.nan]]))
    np.testing.assert_array_equal(found.count, [3, 1])
    np.testing.assert_array_equal(found.mean, [3, 7])
    np.testing.assert_array_equal(found.squares, [8, 0])


def test_standardised_values_of_a_small_block():
    values = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 6.0]])
    scaled = standardise(values, moments(values[:2]))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [[-1, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize("value", [0.1, 0.3, 19.95, -1e9])
@pytest.mark.parametrize("cuts", [[], [7, 400]])
def test_a_column_that_never_varies_is_only_shifted(value, cuts):
    # The mean of equal numbers, summed, is off by a rounding.
    blocks = np.split(np.full((1_000, 1), value), cuts)
    over = functools.reduce(merge, map(moments, blocks))
    assert over.squares == 0 and over.mean == value
    np.testing.assert_allclose(standardise(np.array([[value + 1]]), over), 1)


numbers = st.floats(-1e6, 1e6) | st.just(np.nan)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=2, max_size=40), st.lists(st.integers(0, 40)))
def test_merged_moments_are_those_of_the_rows_together(values, cuts):
    column = np.array(values)[:, None]
    blocks = np.split(column, sorted(min(cut, len(values)) for cut in cuts))
    found = functools.reduce(merge, map(moments, blocks))
    known = column[~np.isnan(column)]
    assert found.count[0] == known.size
    if known.size:
        np.testing.assert_allclose(found.mean[0], known.mean(), rtol=1e-9, atol=1e-9)
        variance = found.squares[0] / found.count[0]
        np.testing.assert_allclose(variance, known.var(), rtol=1e-9, atol=1e-6)


def test_moments_far_from_zero_do_not_cancel():
    rng = np.random.default_rng(0)
    values = 1e9 + rng.normal(size=(1_000, 1))
    found = functools.reduce(merge, map(moments, np.split(values, 10)))
    np.testing.assert_allclose(found.squares / 1_000, values.var(axis=0), rtol=1e-6)
