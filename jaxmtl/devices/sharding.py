"""A mesh of devices, and what of a training each of them holds.

There is one axis, `data`. A batch is split over it by rows, and so is every embedding
table with all that its optimiser remembers: no device ever holds a whole one
(`jaxmtl.tables.table_shards`). The net, its moments, masks and gates are copied to all.
The axis is of JAX's type Auto: the net's forward and backward pass is the plain program
of one device, which XLA splits as its arguments are split. So losses are means over the
rows of all devices that count, and a gradient is summed over devices once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmtl.types import Batch, Rows

AXIS = "data"
SPLIT = PartitionSpec(AXIS)
"""The first axis is split over devices."""
COPIED = PartitionSpec()
"""All devices hold the same."""


@functools.cache
def make_mesh(devices: int = 0) -> Mesh | None:
    """A mesh of the first so many devices; 0 = all there are, on all hosts.

    Returns:
      The mesh; None for one device, whose programs need none.

    Raises:
      ValueError: there are fewer devices, or a process would be left without one.
    """
    known = jax.devices()
    if not 0 <= devices <= len(known):
        raise ValueError(
            f"a mesh of {devices} devices, but there are {len(known)}; give 0 for all"
            " of them (on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=8"
            " makes it 8)"
        )
    chosen = known[: devices or len(known)]
    idle = set(range(jax.process_count())) - {d.process_index for d in chosen}
    if idle:
        raise ValueError(
            f"a mesh of {devices} devices leaves processes {sorted(idle)} without one;"
            " give 0 for all devices, or start fewer processes"
        )
    if len(chosen) == 1:
        return None
    return jax.make_mesh((len(chosen),), (AXIS,), (AxisType.Auto,), devices=chosen)


def padded(rows: int, mesh: Mesh | None) -> int:
    """The smallest number, not below `rows`, that the mesh divides."""
    devices = 1 if mesh is None else mesh.size
    return -(-rows // devices) * devices


def check_divides(rows: int, mesh: Mesh | None, of: str = "a batch") -> None:
    """Raises ValueError where rows cannot be split evenly; names the next that can."""
    if padded(rows, mesh) != rows:
        raise ValueError(
            f"{of} of {rows} rows does not divide over {mesh.size} devices; use"
            f" {padded(rows, mesh)}"
        )


def copy_to_all(mesh: Mesh | None, tree: Any) -> Any:
    """A tree with its arrays on all devices; as it is without a mesh.

    Every process gives the same values.
    """
    if mesh is None:
        return tree
    return jax.tree.map(lambda x: put(NamedSharding(mesh, COPIED), x), tree)


def shown(mesh: Mesh | None, tree: Any) -> Any:
    """Inside a program: results small enough for all devices, so that any host reads
    them whole."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, COPIED))


def put(sharding: NamedSharding, value: Any) -> jax.Array:
    """An array of the host on the devices; each process reads its own part alone."""
    if isinstance(value, jax.Array) and value.sharding == sharding:
        return value
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)


def split_batches(mesh: Mesh, rows: Rows, order: np.ndarray) -> Batch:
    """Batches on the devices, of rows on the host.

    Each process reads the rows of its own devices alone.

    Args:
      mesh: the devices.
      rows: NumPy columns, perhaps memory-mapped.
      order: int32 [size] or [steps, size], row numbers, -1 = empty slot; `size` is
        split.

    Raises:
      ValueError: `size` does not divide over the devices.
    """
    order = np.asarray(order)
    check_divides(order.shape[-1], mesh)
    spec = PartitionSpec(*[None] * (order.ndim - 1), AXIS)
    sharding = NamedSharding(mesh, spec)

    def column(values: np.ndarray) -> jax.Array:
        values, width = np.asarray(values), values.shape[1:]

        def share(index: tuple[slice, ...]) -> np.ndarray:
            return values[np.maximum(order[index[: order.ndim]], 0)]

        return jax.make_array_from_callback((*order.shape, *width), sharding, share)

    return Batch(jax.tree.map(column, rows), put(sharding, order >= 0))


def split_epoch(
    mesh: Mesh, rows: Rows, orders: Mapping[str, np.ndarray]
) -> dict[str, Batch]:
    """Kind of step -> its batches, with a leading axis of steps (`split_batches`)."""
    return {kind: split_batches(mesh, rows, order) for kind, order in orders.items()}
