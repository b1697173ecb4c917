"""Batches where compiled programs take them: on the device, or split over a mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmtl.data.batches.chunks import Orders, gather
from jaxmtl.devices import sharding
from jaxmtl.training.spec import Setup
from jaxmtl.types import Array, Batch, Rows


def take(rows: Rows, index: Array) -> Batch:
    """The batch of the rows numbered `index`; -1 is an empty slot."""
    safe = jnp.maximum(index, 0)
    return Batch(jax.tree.map(lambda column: column[safe], rows), index >= 0)


def place(setup: Setup, rows: Rows, orders: Orders) -> dict[str, Batch]:
    """Batches of rows on the host, where the setup's programs take them.

    Of the columns that are neither features nor labels only those that a program reads.
    """
    conflict = setup.spec.loss.conflict
    by_duration = conflict is not None and conflict.threshold is None
    extras = {"duration": rows.extras["duration"]} if by_duration else {}
    rows = rows._replace(extras=extras, groups={})
    if setup.mesh is None:
        return gather(rows, orders)
    return sharding.split_epoch(setup.mesh, rows, orders)
