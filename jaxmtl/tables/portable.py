"""Tables as files hold them: rows in the order of ids, and slots by name.

On devices the lines of a table are packed as the platform has it (`layout`), and those
of a mesh are dealt out over its devices (`routing`). Nothing of either is in a file: a
training may go on with another number of devices, or on another platform.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxmtl.devices import sharding
from jaxmtl.devices.sharding import COPIED, SPLIT
from jaxmtl.tables import table_shards
from jaxmtl.tables.embedding import Table, in_order, make_owner
from jaxmtl.tables.layout import Layout
from jaxmtl.types import Array


class Portable(NamedTuple):
    """A table on the host.

    Attributes:
      rows: float32 [vocabulary, dim].
      slots: name -> float32 [vocabulary, width].
      updates: int32 scalar.
    """

    rows: np.ndarray
    slots: dict[str, np.ndarray]
    updates: np.ndarray


def of(mesh: Mesh | None, tree: Any, vocabulary: int) -> Any:
    """A training's state or a snapshot as it is saved; all processes must call it.

    Args:
      mesh: over which the tables are split; the others are on all devices.
      tree: a named tuple, of which `tables` holds tables or their rows alone.
      vocabulary: rows of a table that ids name.

    Returns:
      A tree like it with `Portable` for `Table`; on a mesh all of it is on the host.
    """

    def saved(table: Table | Array) -> Portable | Array:
        if isinstance(table, Table):
            return _portable(table, _whole(mesh, table.packed)[:vocabulary])
        return table if mesh is None else _whole(mesh, table)[:vocabulary]

    tables = {stack: saved(table) for stack, table in tree.tables.items()}
    rest = tree._replace(tables={})
    rest = rest if mesh is None else jax.tree.map(np.asarray, rest)
    return rest._replace(tables=tables)


def shapes(tree: Any) -> Any:
    """The shapes of what `of` makes of a tree of one device, of its shapes."""
    saved = lambda table: (
        _portable(table, table.packed) if isinstance(table, Table) else table
    )
    convert = lambda tables: {stack: saved(table) for stack, table in tables.items()}
    return tree._replace(tables=jax.eval_shape(convert, tree.tables))


def placed(mesh: Mesh | None, layout: Layout, tree: Any) -> Any:
    """What `of` made of a tree, on devices.

    Args:
      mesh: over which its tables are to be split.
      layout: of their lines.
      tree: on the host, whole in every process.
    """

    def put(table: Portable | np.ndarray) -> Table | Array:
        if not isinstance(table, Portable):
            return _split(mesh, [table], table.shape[1])
        widths = {name: slot.shape[1] for name, slot in table.slots.items()}
        widths = in_order(widths)
        parts = [table.rows, *(table.slots[name] for name in widths)]
        width = layout.width(sum(part.shape[1] for part in parts))
        packed = _split(mesh, parts, width)
        return Table(
            packed=packed,
            updates=copied(table.updates),
            owner=owner(len(packed)),
            dim=table.rows.shape[1],
            widths=tuple(widths.items()),
            layout=layout,
        )

    def owner(lines: int) -> Array | None:
        split = None if mesh is None else NamedSharding(mesh, SPLIT)
        make = functools.partial(make_owner, lines, layout)
        return jax.jit(make, out_shardings=split)()

    def copied(x: Any) -> Array:
        if mesh is None:
            return jnp.array(x)
        return sharding.put(NamedSharding(mesh, COPIED), x)

    tables = {stack: put(table) for stack, table in tree.tables.items()}
    rest = jax.tree.map(copied, tree._replace(tables={}))
    return rest._replace(tables=tables)


def _portable(table: Table, lines: Any) -> Portable:
    block = table.cut(lines)
    return Portable(block.rows, block.slots, table.updates)


def _split(mesh: Mesh | None, parts: list[np.ndarray], width: int) -> Array:
    """Lines of some parts, [vocabulary, …] each, padded; on the devices that own them.

    Each process makes the lines of its own devices alone.
    """
    devices = mesh.size if mesh else 1
    parts = [np.asarray(part) for part in parts]
    size = -(-len(parts[0]) // devices)

    def lines(device: int) -> np.ndarray:
        found = np.zeros((size, width), parts[0].dtype)
        at = 0
        for part in parts:
            own = part[device::devices]
            found[: len(own), at : at + own.shape[1]] = own
            at += own.shape[1]
        return found

    if mesh is None:
        return jnp.array(lines(0))
    return jax.make_array_from_callback(
        (devices * size, width),
        NamedSharding(mesh, SPLIT),
        lambda index: lines((index[0].start or 0) // size),
    )


def _whole(mesh: Mesh | None, x: Array, most: int = 2**16) -> np.ndarray:
    """Lines in the order of ids; some at a time where other hosts hold a part."""
    if mesh is None:
        return np.asarray(x)
    if x.is_fully_addressable:
        dealt = np.asarray(x).reshape(mesh.size, -1, *x.shape[1:])
        return dealt.swapaxes(0, 1).reshape(x.shape)
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
    return jax.jit(functools.partial(table_shards.gather, mesh), out_shardings=copied)
