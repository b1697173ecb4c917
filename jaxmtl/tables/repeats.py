"""Which ids of a batch are the same, by sorting them or without (`layout` chooses)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Array

NOWHERE = np.iinfo(np.int32).max
"""Where padding is in a stacked table: out of range, whatever its size."""
MOST_ROWS = 2**31 - 2**26
"""Of a table. Numbers behind them, of 67 million ids of a batch, are none's."""


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


def touched(owner: Array, ids: Array) -> tuple[Array, Array, Array]:
    """Which place in a batch stands for each distinct id, without sorting.

    Every place writes its number at its id and reads back who wrote last: that
    one owns the id. Whoever wins, the sum over an id's places is the same.

    Args:
      owner: int32 [vocabulary], scratch.
      ids: int32 [n]; the vocabulary's size and above = none.

    Returns:
      The new scratch; int32 [n], the owner of each place (n where none); bool
      [n], whether a place owns its id.
    """
    n = ids.shape[0]
    places = jnp.arange(n, dtype=jnp.int32)
    owner = owner.at[ids].set(places, mode="drop")
    owners = owner.at[ids].get(mode="fill", fill_value=n)
    return owner, owners, owners == places
