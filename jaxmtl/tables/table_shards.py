"""Embedding tables whose rows are split over the devices of a mesh.

Each device owns consecutive rows and what the optimiser remembers of them. A lookup
gathers the ids of the batch over the devices; each owner looks up its own rows for all,
with zeros for the others', and the sum over the owners (exact: all but one are zero)
returns to each device the rows of its part of the batch. An update gathers ids and row
gradients; each owner applies `jaxmtl.tables.embedding.update` to its own rows, to which
foreign ids are out of range. Of the tables themselves nothing moves, and any optimiser
of rows works unchanged.

This exchanges all rows of the batch with all devices, D times what routing each row to
its owner alone would (D devices), but in arrays of fixed shape, however skewed ids are.

Without a mesh everything here is the function of `jaxmtl.tables.embedding` of its name.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxmtl.devices import sharding
from jaxmtl.devices.sharding import AXIS, COPIED, SPLIT
from jaxmtl.tables import embedding
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
        return _to_readers(embedding.gather(rows, _own_ids(rows, _of_all(ids))))

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
        ids = _own_ids(table.packed, _of_all(ids))
        return _to_readers(embedding.read(optimiser, table, ids, learning_rate).rows)

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
        ids, gradients = _own_ids(table.packed, _of_all(ids)), _of_all(gradients)
        # Again: to keep the slots that `read` saw would cost as much as to look here.
        block = embedding.read(optimiser, table, ids, learning_rate)
        table = embedding.update(optimiser, table, ids, block, gradients, learning_rate)
        # An update counts for all rows, also where the batch touched none of them.
        updates = jax.lax.pmax(table.updates, AXIS)
        return dataclasses.replace(table, updates=updates)

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


def placed(mesh: Mesh | None, tree: Any) -> Any:
    """Such a tree of whole arrays on the host, on the devices: inverts `portable`."""
    if mesh is None:
        return jax.tree.map(jnp.array, tree)

    def pad(x: np.ndarray) -> np.ndarray:
        more = sharding.padded(len(x), mesh) - len(x) if np.ndim(x) else 0
        return np.pad(x, [(0, more), *[(0, 0)] * (np.ndim(x) - 1)]) if more else x

    tree = jax.tree.map(np.asarray, tree)
    tree = tree._replace(tables=jax.tree.map(pad, tree.tables))
    return jax.tree.map(sharding.put, shardings(mesh, tree), tree)


def portable(mesh: Mesh | None, tree: Any, vocabulary: int) -> Any:
    """Such a tree as it would be on one device: whole arrays, nothing added.

    On a mesh they are on the host, in every process; all processes must call it.

    Args:
      mesh: over which it is split.
      tree: a training's state or a snapshot.
      vocabulary: rows of its tables without those added.
    """
    if mesh is None:
        return tree
    whole = lambda x: _whole(mesh, x)[:vocabulary] if x.ndim else np.asarray(x)
    tables = jax.tree.map(whole, tree.tables)
    rest = jax.tree.map(np.asarray, tree._replace(tables={}))
    return rest._replace(tables=tables)


def _whole(mesh: Mesh, x: Array, most: int = 2**16) -> np.ndarray:
    """A split array on the host; some rows at a time where others hold a part."""
    if x.is_fully_addressable:
        return np.asarray(x)
    most = sharding.padded(most, mesh)
    parts = []
    for first in range(0, len(x), most):
        ids = np.arange(first, first + most, dtype=np.int32)
        ids = sharding.put(NamedSharding(mesh, SPLIT), ids)
        parts.append(np.asarray(_make_fetch(mesh)(x, ids)))
    return np.concatenate(parts)[: len(x)]


@functools.cache
def _make_fetch(mesh: Mesh):
    copied = NamedSharding(mesh, COPIED)
    return jax.jit(functools.partial(gather, mesh), out_shardings=copied)


def _specs(tables: Any) -> Any:
    """Tables are split by rows; of their single numbers all devices have a copy."""
    return jax.tree.map(lambda x: SPLIT if x.ndim else COPIED, tables)


def _on(mesh: Mesh, in_specs: Any, out_specs: Any):
    return functools.partial(
        jax.shard_map, mesh=mesh, in_specs=in_specs, out_specs=out_specs
    )


def _of_all(x: Array) -> Array:
    return jax.lax.all_gather(x, AXIS, tiled=True)


def _to_readers(rows: Array) -> Array:
    return jax.lax.psum_scatter(rows, AXIS, scatter_dimension=0, tiled=True)


def _own_ids(rows: Array, ids: Array) -> Array:
    """Ids counted from a device's first row; those of foreign rows are out of range."""
    own = ids - jax.lax.axis_index(AXIS) * len(rows)
    return jnp.where((own >= 0) & (own < len(rows)), own, len(rows))
