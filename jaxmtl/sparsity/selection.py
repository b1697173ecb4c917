"""Exactly the k largest of many values, without sorting or joining arrays.

Non-negative floats order like their bit patterns read as unsigned integers. So
the k-th largest is a threshold whose bits are found from the highest down, each
by one count of the values that reach it: a binary search over bit patterns, in
at most 32 counts for float32, fewer where a threshold that exactly k values
reach turns up on the way. A count reads every array where it lies: the values
are not copied, and over sharded arrays it takes one scalar sum between devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxmtl.types import Array

ROWS = 16
"""Rows that `count` sums before it leaves vector code."""


def mark_largest(
    values: Sequence[Array], eligible: Sequence[Array], k: Array
) -> list[Array]:
    """Marks the `k` eligible entries of largest magnitude.

    Args:
      values: floating-point or unsigned arrays of one dtype, of any shapes,
        fewer than 2**31 entries together. NaN ranks above infinity.
      eligible: bool arrays of the same shapes.
      k: int32 scalar >= 0; beyond the number of eligible entries it marks all.

    Returns:
      `eligible` without those that fall. Of equal magnitudes the last fall
      first, in the order of the arrays, then of the index.
    """

    def reaching(t, values):
        pairs = zip(values, eligible, strict=True)
        return count([ok & (magnitude(x) >= t) for x, ok in pairs])

    dtype = magnitude(values[0]).dtype
    sign = int(jnp.issubdtype(values[0].dtype, jnp.floating))  # a bit never set
    bits = jnp.iinfo(dtype).bits - sign
    threshold, reached = search(reaching, values, k, bits, dtype)

    # More than k reach the threshold where several equal it: a search over the
    # places of these finds from where on they fall.
    pairs = list(zip(map(magnitude, values), eligible, strict=True))
    ties = [ok & (size == threshold) for size, ok in pairs]

    def falling(at, first):
        places = zip(ties, _places(ties, first), strict=True)
        return count([tie & (place >= at) for tie, place in places])

    start, total = jnp.uint32(0), sum(x.size for x in values)
    cut, _ = search(falling, start, reached - k, total.bit_length())
    above = [ok & (size > threshold) for size, ok in pairs]
    stay = [
        tie & (place < cut)
        for tie, place in zip(ties, _places(ties, start), strict=True)
    ]
    return [a | s for a, s in zip(above, stay, strict=True)]


def magnitude(x: Array) -> Array:
    """|x| as an unsigned integer of its width that orders as |x| does."""
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        return x
    width = 8 * x.dtype.itemsize
    unsigned = jnp.dtype(f"uint{width}")
    without_sign = jnp.array(2 ** (width - 1) - 1, unsigned)
    return lax.bitcast_convert_type(x, unsigned) & without_sign


def ranked(x: Array) -> Array:
    """A float as an unsigned integer of its width that orders as it does.

    Both zeros are one; NaN ranks above infinity, whatever its sign.
    """
    size = magnitude(x)
    middle = jnp.array(1, size.dtype) << (8 * x.dtype.itemsize - 1)
    return jnp.where(jnp.signbit(x) & ~jnp.isnan(x), middle - size, middle + size)


def count(hits: Sequence[Array]) -> Array:
    """How many entries of bool arrays are set, as an int32 scalar.

    Summed in two steps: XLA's CPU compiler makes vector code of a comparison and
    a short sum over the leading axis, but a scalar loop, ten times slower, of a
    sum over everything. The barrier keeps it from merging the two steps.
    """
    sums = []
    for hit in hits:
        hit = jnp.atleast_1d(hit)
        whole = len(hit) // ROWS * ROWS
        body = hit[:whole].reshape(whole // ROWS, ROWS, *hit.shape[1:])
        for part in (body, hit[whole:][None]):
            if part.size:
                sums.append(jnp.sum(part, axis=1, dtype=jnp.int32))
    sums = lax.optimization_barrier(sums)
    return sum((jnp.sum(s, dtype=jnp.int32) for s in sums), jnp.int32(0))


def search(
    counts: Callable[..., Array], operands: Any, k: Array, bits: int, dtype=jnp.uint32
) -> tuple[Array, Array]:
    """A t with `counts(t) == k`; without one, the largest with `counts(t) > k`.

    Args:
      counts: (t, operands) -> int32 scalar; never rises with t.
      operands: pytree of arrays that `counts` computes with.
      k: int32 scalar.
      bits: t lies in [0, 2**bits).
      dtype: of t, an unsigned integer.

    Returns:
      t and its count; 0 and its count where that is below k already.
    """

    def count_at(t):
        # Without the barrier XLA computes what does not depend on t ahead of the
        # loop and keeps it: a copy as large as the operands, and half the speed.
        return counts(*lax.optimization_barrier((t, operands)))

    def unfinished(state):
        bit, _, reached = state
        return (bit > 0) & (reached > k)

    def try_next_bit(state):
        bit, t, reached = state
        higher = t | (jnp.ones((), dtype) << (bit - 1).astype(dtype))
        fewer = count_at(higher)
        accept = fewer >= k
        return bit - 1, jnp.where(accept, higher, t), jnp.where(accept, fewer, reached)

    zero = jnp.zeros((), dtype)
    start = (jnp.int32(bits), zero, count_at(zero))
    _, t, reached = lax.while_loop(unfinished, try_next_bit, start)
    return t, reached


def _places(arrays: Sequence[Array], first: Array) -> list[Array]:
    """Numbers all entries in order, from `first`, as uint32 arrays of their shapes."""
    places = []
    for x in arrays:
        place = first
        for axis in range(x.ndim):
            stride = jnp.uint32(math.prod(x.shape[axis + 1 :]))
            place += stride * lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        places.append(place)
        first += jnp.uint32(x.size)
    return places
