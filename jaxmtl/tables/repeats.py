"""The distinct ids of a batch, and the sum of what is given for each, by sorting.

On one CPU `jaxmtl.tables.embedding.touched` needs no sort.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Array

NOWHERE = np.iinfo(np.int32).max
"""Where padding is in a stacked table: out of range, whatever its size."""


class Distinct(NamedTuple):
    """The distinct ids among n, which fill the first places of their arrays.

    Attributes:
      ids: int32 [n], ascending, and behind them such as no table has.
      origins: int32 [n], the places of all n in the order of their ids.
      numbers: int32 [n], in that order: where in `ids` each is; n where it is none.
    """

    ids: Array
    origins: Array
    numbers: Array

    def total(self, values: Array) -> Array:
        """[n, …], the sum over each id's places of what is given for all n."""
        ordered = values[self.origins]
        nothing = jnp.zeros_like(values)
        return nothing.at[self.numbers].add(
            ordered, mode="drop", indices_are_sorted=True
        )


def distinct(ids: Array, size: int) -> Distinct:
    """Finds the distinct ids.

    Args:
      ids: int32 [n], not negative, repeated at will.
      size: from which on an id is none.
    """
    n = len(ids)
    places = jnp.arange(n, dtype=jnp.int32)
    ids, origins = jax.lax.sort((ids, places), num_keys=1)
    is_new = jnp.append(True, ids[1:] != ids[:-1]) & (ids < size)
    numbers = jnp.cumsum(is_new, dtype=jnp.int32) - 1
    none = places + (NOWHERE - n)
    return Distinct(
        ids=none.at[jnp.where(is_new, numbers, n)].set(ids, mode="drop"),
        origins=origins,
        numbers=jnp.where(ids < size, numbers, n),
    )
