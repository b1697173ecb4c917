"""Embedding tables whose rows are split over the devices of a mesh.

Each device owns every D-th row of D devices and what the optimiser remembers of it. A
lookup asks the owners for the distinct ids of a device's part of the batch; an update
sends them the sum of each one's gradients (`jaxmtl.tables.routing`). The owners read
and update their own lines by the functions of `jaxmtl.tables.embedding`, and any
optimiser of rows works unchanged. Of the tables themselves nothing moves.

Without a mesh everything here is the function of `jaxmtl.tables.embedding` of its name.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxmtl.devices.sharding import COPIED, SPLIT
from jaxmtl.tables import embedding, routing
from jaxmtl.tables.embedding import Block, Table
from jaxmtl.tables.row_optim import RowOptimiser
from jaxmtl.types import Array


def gather(mesh: Mesh | None, rows: Array, ids: Array) -> Array:
    """The rows of some ids (`embedding.gather`).

    Args:
      mesh: over which both are split.
      rows: [vocabulary, …].
      ids: int32 [n].
    """
    if mesh is None:
        return embedding.gather(rows, ids)

    def own(rows: Array, ids: Array) -> Array:
        look_up = functools.partial(embedding.gather, rows)
        return routing.fetch(routing.route_of(ids, len(rows)), look_up)[0]

    return _on(mesh, (SPLIT, SPLIT), SPLIT)(own)(rows, ids)


def read(
    mesh: Mesh | None,
    optimiser: RowOptimiser,
    table: Table,
    ids: Array,
    learning_rate: Array | float,
) -> Block:
    """The rows of some ids, caught up, and their slots (`embedding.read`).

    On a mesh the slots stay with the owners of the rows, and the block is without.
    """
    if mesh is None:
        return embedding.read(optimiser, table, ids, learning_rate)

    def own(table: Table, ids: Array, learning_rate: Array) -> Array:
        def look_up(places: Array) -> Array:
            return embedding.read(optimiser, table, places, learning_rate).rows

        return routing.fetch(routing.route_of(ids, len(table.packed)), look_up)[0]

    run = _on(mesh, (_specs(table), SPLIT, COPIED), SPLIT)(own)
    return Block(run(table, ids, jnp.asarray(learning_rate)), {})


def update(
    mesh: Mesh | None,
    optimiser: RowOptimiser,
    table: Table,
    ids: Array,
    block: Block,
    gradients: Array,
    learning_rate: Array | float,
) -> Table:
    """One step on the rows a batch touched (`embedding.update`)."""
    if mesh is None:
        return embedding.update(optimiser, table, ids, block, gradients, learning_rate)

    def own(table: Table, ids: Array, gradients: Array, learning_rate: Array) -> Table:
        route = routing.route_of(ids, len(table.packed))
        # An update counts for all rows, also where the batch touched none of them.
        now = table.updates + route.is_any

        def apply(table: Table, places: Array, gradients: Array) -> Table:
            return embedding.apply(
                optimiser, table, places, None, gradients, learning_rate, now
            )

        table, _ = routing.send(route, gradients, apply, table)
        return dataclasses.replace(table, updates=now)

    specs = _specs(table)
    run = _on(mesh, (specs, SPLIT, SPLIT, COPIED), specs)(own)
    return run(table, ids, gradients, jnp.asarray(learning_rate))


def settle(
    mesh: Mesh | None,
    optimiser: RowOptimiser,
    table: Table,
    learning_rate: Array | float,
) -> Table:
    """The table with all rows caught up (`embedding.settle`); nothing is exchanged."""
    if mesh is None:
        return embedding.settle(optimiser, table, learning_rate)
    own = functools.partial(embedding.settle, optimiser)
    specs = _specs(table)
    run = _on(mesh, (specs, COPIED), specs)(own)
    return run(table, jnp.asarray(learning_rate))


class Rounds(NamedTuple):
    """How often devices exchange ids, int32 scalars: in a lookup, and in an update."""

    lookup: Array
    update: Array


def rounds(mesh: Mesh, ids: Array, vocabulary: int) -> Rounds:
    """What a step on some ids takes; more than 1 where they crowd at one owner.

    Args:
      mesh: over which ids and tables are split.
      ids: int32 [n].
      vocabulary: rows of a table.
    """
    lines = -(-vocabulary // mesh.size)

    def own(ids: Array) -> Rounds:
        route, nothing = routing.route_of(ids, lines), lambda x: jnp.zeros((len(x), 0))
        _, lookup = routing.fetch(route, nothing)
        _, update = routing.send(route, nothing(ids), lambda state, *given: state, ())
        return Rounds(lookup, update)

    return jax.jit(_on(mesh, (SPLIT,), Rounds(COPIED, COPIED))(own))(ids)


def shardings(mesh: Mesh, tree: Any) -> Any:
    """A tree like `tree` of how its arrays are split.

    Args:
      mesh: the devices.
      tree: a named tuple of which `tables` alone is split (a training's state or a
        snapshot), of arrays, traced ones too, or shapes.
    """
    specs = jax.tree.map(lambda _: COPIED, tree)._replace(tables=_specs(tree.tables))
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def constrain(mesh: Mesh | None, tree: Any) -> Any:
    """Inside a program: such a tree, split as it should be."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, shardings(mesh, tree))


def _specs(tables: Any) -> Any:
    """Tables are split by rows; of their single numbers all devices have a copy."""
    return jax.tree.map(lambda x: SPLIT if x.ndim else COPIED, tables)


def _on(mesh: Mesh, in_specs: Any, out_specs: Any):
    return functools.partial(
        jax.shard_map, mesh=mesh, in_specs=in_specs, out_specs=out_specs
    )
