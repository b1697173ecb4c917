"""Ids sent to the devices that own them, and rows or gradients between the two.

Runs on each of D devices, inside `shard_map`. Row i of a table is line i // D of device
i mod D, so that neighbours, and with them the frequent ids of a vocabulary, are spread
evenly. A device names each of its ids but once. It sends an owner at most 2n / D of
them in a round, where n ids are twice what fills all owners alike: what is exchanged,
and all arrays here, grow with n and not with D. Repeated ids cost nothing, so one round
is enough unless distinct ids crowd at one owner. What exceeds it is sent in further
rounds, whose number all devices agree on; nothing is dropped.

A row may be looked up in any round. Its gradient must be whole before the optimiser
sees it, whichever devices hold a part of it. So each device names an owner its places
in ascending order, and the one that it would name next; in each round the owner takes
the places below all of these, which nobody holds any more of, and says how far it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl.devices.sharding import AXIS
from jaxmtl.tables import embedding
from jaxmtl.tables.repeats import NOWHERE, Distinct, distinct
from jaxmtl.types import Array


class Route(NamedTuple):
    """Where the n ids of a device go.

    Attributes:
      distinct: by owner and place.
      places: int32 [n], the lines of distinct ids at their owners: by owner, then
        ascending.
      begins: int32 [D], where in `places` those of each owner begin.
      ends: int32 [D], and where they end.
      owners: int32 [n], of each id.
      numbers: int32 [n], where in `places` each id is; n where it is none.
      longest: int32 scalar, the most places that any device has for an owner.
    """

    distinct: Distinct
    places: Array
    begins: Array
    ends: Array
    owners: Array
    numbers: Array
    longest: Array

    @property
    def is_any(self) -> Array:
        """Whether any device has an id."""
        return self.longest > 0

    @property
    def capacity(self) -> int:
        """Places that an owner is sent in a round at most."""
        n, devices = len(self.numbers), len(self.ends)
        return min(n, -(-2 * n // devices))

    def window(self, at: Array, width: int) -> tuple[Array, Array]:
        """Places of each owner from numbers `at` on, and their numbers.

        Returns:
          int32 [D, width], `NOWHERE` and n behind an owner's end.
        """
        n = len(self.numbers)
        numbers = at[:, None] + jnp.arange(width, dtype=jnp.int32)
        numbers = jnp.where(numbers < self.ends[:, None], numbers, n)
        places = self.places.at[numbers].get(mode="fill", fill_value=NOWHERE)
        return places, numbers


def route_of(ids: Array, lines: int) -> Route:
    """The route of a device's ids.

    Args:
      ids: int32 [n] from `embedding.stacked_ids`, repeated at will.
      lines: of a table on each device.
    """
    devices = jax.lax.axis_size(AXIS)
    owners = ids % devices
    is_some = (ids >= 0) & (ids < devices * lines)
    keys = jnp.where(is_some, owners * lines + ids // devices, NOWHERE)
    found = distinct(keys, devices * lines)
    edges = lines * jnp.arange(devices + 1, dtype=jnp.int32)
    bounds = jnp.searchsorted(found.ids, edges).astype(jnp.int32)
    return Route(
        distinct=found,
        places=found.ids % lines,
        begins=bounds[:-1],
        ends=bounds[1:],
        owners=owners,
        numbers=jnp.zeros_like(owners).at[found.origins].set(found.numbers),
        longest=jax.lax.pmax(jnp.max(bounds[1:] - bounds[:-1]), AXIS),
    )


def fetch(route: Route, look_up: Callable[[Array], Array]) -> tuple[Array, Array]:
    """The rows of a device's ids, from their owners.

    Args:
      route: of the ids.
      look_up: places at this device, int32 [m] -> rows [m, dim], zeros at `NOWHERE`.

    Returns:
      Rows [n, dim], zeros where an id is none; the number of rounds.
    """
    devices, capacity = len(route.ends), route.capacity
    like = jax.eval_shape(look_up, route.numbers)
    n, dim = like.shape
    rounds = -(-route.longest // capacity)

    def fetch_some(number: Array, rows: Array) -> Array:
        at = route.begins + number * capacity
        asked, _ = route.window(at, capacity)
        found = look_up(_exchange(asked).reshape(-1))
        found = _exchange(found.reshape(devices, capacity, dim))
        slots = route.numbers - at[route.owners]
        is_here = (slots >= 0) & (slots < capacity) & (route.numbers < n)
        slots = jnp.where(is_here, route.owners * capacity + slots, devices * capacity)
        found = embedding.gather(found.reshape(devices * capacity, dim), slots)
        return jnp.where(is_here[:, None], found, rows)

    rows = jax.lax.pcast(jnp.zeros((n, dim), like.dtype), AXIS, to="varying")
    return jax.lax.fori_loop(0, rounds, fetch_some, rows), rounds


def send(
    route: Route,
    gradients: Array,
    apply: Callable[[Any, Array, Array], Any],
    state: Any,
) -> tuple[Any, Array]:
    """Gives the owners of ids their gradients, each place's in one round.

    Args:
      route: of the ids.
      gradients: [n, dim], of each id; summed here where ids are repeated.
      apply: (state, places [m], gradients [m, dim]) -> state, at the owner. A place
        is named once for each device that has a gradient for it; `NOWHERE` is none.
      state: what `apply` is given first.

    Returns:
      The state that `apply` returned last; the number of rounds.
    """
    capacity, devices = route.capacity, len(route.ends)
    summed = route.distinct.total(gradients)
    is_me = jnp.arange(devices) == jax.lax.axis_index(AXIS)

    def send_some(carry):
        at, _, rounds, state = carry
        named, numbers = route.window(at, capacity + 1)
        places = _exchange(named)
        reached = jnp.min(places[:, -1])
        places = jnp.where(places[:, :-1] < reached, places[:, :-1], NOWHERE)
        slopes = _exchange(embedding.gather(summed, numbers[:, :-1]))
        slopes = slopes.reshape(places.size, gradients.shape[1])
        state = apply(state, places.reshape(-1), slopes)
        # A sum rather than a gather: so JAX knows that all devices see the same.
        reached = jax.lax.psum(jnp.where(is_me, reached, 0), AXIS)
        is_done = named[:, :-1] < reached[:, None]
        at = at + jnp.sum(is_done, axis=1, dtype=jnp.int32)
        return at, jnp.any(reached < NOWHERE), rounds + 1, state

    begun = route.begins, route.is_any, jnp.zeros((), jnp.int32), state
    _, _, rounds, state = jax.lax.while_loop(lambda c: c[1], send_some, begun)
    return state, rounds


def _exchange(x: Array) -> Array:
    """[D, …], part d for device d -> part d from device d."""
    return jax.lax.all_to_all(x, AXIS, 0, 0)
