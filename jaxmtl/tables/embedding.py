"""Embedding tables whose step costs the batch and not the vocabulary.

All vocabularies stand below each other in one stacked array, so the number of fields
costs nothing. A row and what its optimiser (`jaxmtl.tables.row_optim`) remembers of it
are one line of it: a step waits for memory at random places, and so there is one place
an id and not one for each moment. A loss is differentiated with respect to the gathered
rows; repeated ids are summed; only what the batch touched is written. A second stack of
another width can hold one task's own view (LT4REC, multi-view). How lines are accessed
depends on the platform (`jaxmtl.tables.layout`), what comes of it does not.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.tables import layout as layouts
from jaxmtl.tables.layout import Layout
from jaxmtl.tables.repeats import MOST_ROWS, NOWHERE, distinct, touched
from jaxmtl.tables.row_optim import RowOptimiser, Slots
from jaxmtl.types import PADDING, UNKNOWN, Array, Key, Schema


class Block(NamedTuple):
    """Some rows of a table, perhaps repeated, and their slots.

    Attributes:
      rows: float32 [n, dim].
      slots: what the optimiser remembers of each (`jaxmtl.tables.row_optim`).
    """

    rows: Array
    slots: Slots


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Table:
    """One stacked table and the state of its optimiser.

    Attributes:
      packed: float32 [vocabulary, width], in each line a row, then its slots, then
        zeros up to the layout's width.
      updates: int32 scalar, how often the table was updated.
      owner: int32 [vocabulary], scratch space of `repeats.touched`; never
        initialised again, as every step writes the entries that it reads. None where
        the layout has ids sorted.
      dim: width of a row; static.
      widths: name and width of each slot, in their order; static.
      layout: how lines lie in memory; static.
    """

    packed: Array
    updates: Array
    owner: Array | None
    dim: int = dataclasses.field(metadata={"static": True})
    widths: tuple[tuple[str, int], ...] = dataclasses.field(metadata={"static": True})
    layout: Layout = dataclasses.field(metadata={"static": True})

    @property
    def rows(self) -> Array:
        """float32 [vocabulary, dim], the embeddings alone; a copy."""
        # A slice that is the whole is no copy.
        is_part = self.dim < self.packed.shape[1]
        return self.packed[:, : self.dim] if is_part else jnp.copy(self.packed)

    @property
    def _spans(self) -> list[slice]:
        """Columns of the rows, then of each slot."""
        ends = np.cumsum([0, self.dim, *(width for _, width in self.widths)]).tolist()
        return [slice(*span) for span in itertools.pairwise(ends)]

    def cut(self, lines: Array | np.ndarray) -> Block:
        """Lines of the table, [n, width], as rows and slots."""
        return self._block(lines[:, span] for span in self._spans)

    def unpack(self, lines: Array) -> Block:
        """`cut` for arithmetic, as the layout has it."""
        if self.layout.whole:
            return self.cut(lines)
        # Gathered from place to same place.
        places = jnp.arange(len(lines))
        return self._block(
            lines.at[places, span].get(mode="promise_in_bounds") for span in self._spans
        )

    def lines(self, ids: Array) -> Array:
        """The lines of some ids, [n, width]; zeros where one is out of range."""
        lines = gather(self.packed, ids)
        return jax.lax.optimization_barrier(lines) if self.layout.whole else lines

    def put(self, ids: Array, block: Block) -> Table:
        """The table with rows and slots at some ids, where these are in range.

        Lines that are whole are put at distinct ids, ascending.
        """
        packed = self.packed
        parts = [block.rows, *(block.slots[name] for name, _ in self.widths)]
        if self.layout.whole:
            lines = jnp.concatenate(parts, axis=1)
            rest = packed.shape[1] - lines.shape[1]
            lines = jnp.pad(lines, ((0, 0), (0, rest)))
            packed = packed.at[ids].set(
                lines, mode="drop", indices_are_sorted=True, unique_indices=True
            )
        else:
            for span, part in zip(self._spans, parts, strict=True):
                packed = packed.at[ids, span].set(part, mode="drop")
        return dataclasses.replace(self, packed=packed)

    def _block(self, parts: Iterable[Array]) -> Block:
        rows, *slots = parts
        names = [name for name, _ in self.widths]
        return Block(rows, dict(zip(names, slots, strict=True)))


def vocabulary_rows(schema: Schema) -> int:
    """Rows of a stacked table."""
    return sum(v.size for v in schema.vocabularies)


def _first_rows(schema: Schema) -> dict[str, int]:
    first, at = {}, 0
    for vocabulary in schema.vocabularies:
        first[vocabulary.name] = at
        at += vocabulary.size
    return first


def init(
    key: Key,
    schema: Schema,
    dim: int,
    scale: float,
    optimiser: RowOptimiser,
    layout: Layout | None = None,
    devices: int = 1,
) -> Table:
    """Normal rows of deviation `scale`, and the optimiser's empty slots.

    The rows of unknown ids start at zero: a vocabulary may have none in training,
    and a random vector there would speak for whatever comes later.

    Args:
      key: of the rows; a row's values depend on it and its number alone.
      schema: what the rows stand for.
      dim: width.
      scale: standard deviation.
      optimiser: of the table.
      layout: of its lines; that of JAX's default devices by default.
      devices: that the lines are dealt out to, row i to device i mod `devices`: those
        of each stand together, filled up to equally many with rows that no id names.

    Raises:
      ValueError: the rows are more than int32 ids can name.
    """
    size = vocabulary_rows(schema)
    lines = -(-size // devices)
    if devices * lines > MOST_ROWS:
        raise ValueError(
            f"{size:,} rows of embeddings on {devices} devices, but ids are int32, and"
            f" {MOST_ROWS:,} are the most; train with smaller vocabularies"
        )
    # Drawn as they are dealt, so that each device of a mesh draws its own alone.
    rows = scale * jax.random.normal(key, (lines, devices, dim))
    unknown = np.asarray(list(_first_rows(schema).values())) + UNKNOWN
    rows = rows.at[unknown // devices, unknown % devices].set(0)
    rows = rows.swapaxes(0, 1).reshape(devices * lines, dim)
    return make_table(optimiser, rows, layout)


def make_table(
    optimiser: RowOptimiser, rows: Array, layout: Layout | None = None
) -> Table:
    """A table of some rows [vocabulary, dim], never updated."""
    dim, layout = rows.shape[1], layout or layouts.layout_of(None)
    widths = in_order(optimiser.widths(dim))
    width = layout.width(dim + sum(widths.values()))
    return Table(
        packed=jnp.pad(rows, ((0, 0), (0, width - dim))),
        updates=jnp.zeros((), jnp.int32),
        owner=make_owner(len(rows), layout),
        dim=dim,
        widths=tuple(widths.items()),
        layout=layout,
    )


def in_order(widths: Mapping[str, int]) -> dict[str, int]:
    """Slots as they lie in a line, the widest first: wide ones may be aligned there."""
    return dict(sorted(widths.items(), key=lambda slot: (-slot[1], slot[0])))


def make_owner(vocabulary: int, layout: Layout) -> Array | None:
    """The scratch space of a table."""
    return None if layout.whole else jnp.zeros(vocabulary, jnp.int32)


@functools.partial(jax.jit, donate_argnums=0)
def with_rows(table: Table, rows: Array) -> Table:
    """The table with other rows [vocabulary, dim] and the same slots; donates it."""
    packed = table.packed.at[:, : table.dim].set(rows)
    return dataclasses.replace(table, packed=packed)


def stacked_ids(schema: Schema, ids: Array) -> Array:
    """Row numbers in the stacked table; padding becomes `NOWHERE`.

    Args:
      schema: fields and vocabularies.
      ids: int32 [batch, slots], local to each field's vocabulary, -1 = padding.
    """
    first = _first_rows(schema)
    offsets = [first[f.vocabulary] for f in schema.fields for _ in range(f.slots)]
    shifted = ids + jnp.asarray(np.asarray(offsets, np.int32))
    return jnp.where(ids == PADDING, NOWHERE, shifted)


def gather(rows: Array, ids: Array) -> Array:
    """The rows of some ids, shaped as ids are; zeros where one is out of range."""
    return rows.at[ids].get(mode="fill", fill_value=0)


def read(
    optimiser: RowOptimiser, table: Table, ids: Array, learning_rate: Array | float
) -> Block:
    """The rows and slots of some ids, caught up with the updates that skipped them.

    Args:
      optimiser: of the table.
      table: rows and state.
      ids: int32 [n] from `stacked_ids`, repeated at will.
      learning_rate: step size of the updates to catch up with.

    Returns:
      Rows [n, dim] and slots [n, …]; zeros where an id is out of range.
    """
    block = table.unpack(table.lines(ids))
    return _catch_up(optimiser, block, table.updates, learning_rate)


def update(
    optimiser: RowOptimiser,
    table: Table,
    ids: Array,
    block: Block,
    gradients: Array,
    learning_rate: Array | float,
) -> Table:
    """One step of an optimiser on the rows a batch touched; all others keep their bits.

    A batch without any id is no update.

    Args:
      optimiser: of the table.
      table: rows and state; donate it, or the scatter copies the table.
      ids: int32 [n] from `stacked_ids`, repeated at will.
      block: what `read` gave for these ids.
      gradients: float32 [n, dim] with respect to the block's rows.
      learning_rate: step size.
    """
    now = table.updates + jnp.any(ids < len(table.packed))
    table = apply(optimiser, table, ids, block, gradients, learning_rate, now)
    return dataclasses.replace(table, updates=now)


def apply(
    optimiser: RowOptimiser,
    table: Table,
    ids: Array,
    block: Block | None,
    gradients: Array,
    learning_rate: Array | float,
    now: Array,
) -> Table:
    """`update` as a part of the table's update `now`, which other rows may share.

    Where `block` is None, it is read.
    """
    size, owner = len(table.packed), table.owner
    if owner is None:
        found = distinct(ids, size)
        # Lines are read again: kept from the lookup, in the order of the batch, they
        # would have to be gathered in this one.
        ids, summed, block = found.ids, found.total(gradients), None
    elif size <= len(ids):
        # Of so small a table every row is taken for a distinct id: fewer lines than
        # there are places are then read, computed and put.
        nothing = jnp.zeros((size, gradients.shape[1]), gradients.dtype)
        summed = nothing.at[ids].add(gradients, mode="drop")
        is_named = jnp.zeros(size, bool).at[ids].set(True, mode="drop")
        ids, block = jnp.where(is_named, jnp.arange(size), size), None
    else:
        owner, owners, owns = touched(owner, ids)
        ids = jnp.where(owns, ids, size)
        summed = jnp.zeros_like(gradients).at[owners].add(gradients, mode="drop")
    block = block or read(optimiser, table, ids, learning_rate)
    directions, slots = optimiser.update(summed, block.slots, now)
    # What is put depends on what was gathered from the same array: that is what lets
    # XLA update it in place inside a scan.
    block = Block(block.rows - learning_rate * directions, slots)
    return dataclasses.replace(table.put(ids, block), owner=owner)


def settle(
    optimiser: RowOptimiser, table: Table, learning_rate: Array | float
) -> Table:
    """The table with all rows caught up, at the cost of a pass over the vocabulary.

    In place where the table is donated, some thousand rows at a time.
    """
    if optimiser.catch_up is None:
        return table
    vocabulary = len(table.packed)
    size = min(vocabulary, table.layout.pass_rows)

    def settle_some(number: Array, table: Table) -> Table:
        ids = number * size + jnp.arange(size, dtype=jnp.int32)
        return table.put(ids, read(optimiser, table, ids, learning_rate))

    return jax.lax.fori_loop(0, -(-vocabulary // size), settle_some, table)


def _catch_up(
    optimiser: RowOptimiser, block: Block, now: Array, learning_rate: Array | float
) -> Block:
    if optimiser.catch_up is None:
        return block
    directions, slots = optimiser.catch_up(block.slots, now)
    return Block(block.rows - learning_rate * directions, slots)
