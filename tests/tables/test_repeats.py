"""Distinct ids, by sorting and by a scratch space, and sums of what belongs to each."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl.tables import repeats

SIZE, N = 9, 12
few = settings(max_examples=25, deadline=None)
distinct = jax.jit(lambda ids: repeats.distinct(ids, SIZE))
touched = jax.jit(repeats.touched)
total = jax.jit(lambda ids, values: repeats.distinct(ids, SIZE).total(values))


def test_by_hand():
    found = repeats.distinct(np.array([5, 2, 9, 5, 2, 7], np.int32), SIZE)
    np.testing.assert_array_equal(found.ids[:3], [2, 5, 7])
    np.testing.assert_array_equal(found.origins, [1, 4, 0, 3, 5, 2])
    np.testing.assert_array_equal(found.numbers, [0, 0, 1, 1, 2, 6])
    sums = found.total(np.array([1.0, 2, 4, 8, 16, 32], np.float32)[:, None])
    np.testing.assert_array_equal(sums[:, 0], [18, 9, 32, 0, 0, 0])


@few
@given(hnp.arrays(np.int32, N, elements=st.sampled_from([*range(SIZE + 1), 2**31 - 1])))
def test_every_id_is_found_once_and_every_place_counted_once(ids):
    found, values = distinct(ids), np.arange(N, dtype=np.float32) ** 2 + 1
    expected = np.unique(ids[ids < SIZE])
    there = len(expected)
    np.testing.assert_array_equal(found.ids[:there], expected)
    behind = np.asarray(found.ids[there:])
    assert (behind >= SIZE).all() and (np.diff(behind) > 0).all()
    sums = np.zeros(N, np.float32)
    sums[:there] = [values[ids == i].sum() for i in expected]
    np.testing.assert_array_equal(total(ids, values), sums)


@few
@given(hnp.arrays(np.int32, N, elements=st.integers(0, SIZE)))
def test_every_distinct_id_elects_exactly_one_of_its_places(ids):
    """Whatever an earlier batch left in the scratch space."""
    scratch = jnp.asarray(np.random.default_rng(0).integers(0, N, SIZE), jnp.int32)
    _, owners, owns = (np.asarray(x) for x in touched(scratch, ids))
    for i in range(SIZE):
        places = np.flatnonzero(ids == i)
        assert owns[places].sum() == (len(places) > 0)
        if len(places):
            (owner,) = places[owns[places]]
            assert (owners[places] == owner).all()
    none = ids == SIZE
    assert not owns[none].any()
    assert (owners[none] == len(ids)).all()
