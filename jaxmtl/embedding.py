"""Embedding tables whose step costs the batch and not the vocabulary.

All vocabularies stand below each other in one stacked array, so a batch needs
one gather and one scatter whatever its number of fields. A loss is
differentiated with respect to the gathered rows; repeated ids are summed; only
rows the batch touched, and their moments, move (lazy Adam). A second stack of
another width can hold one task's own view (LT4REC, multi-view).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import PADDING, UNKNOWN, Array, Key, Schema


class Table(NamedTuple):
    """One stacked table and its row-wise Adam state.

    Attributes:
      rows: float32 [vocabulary, dim].
      mean: first moments, like `rows`.
      square: second moments, like `rows`.
      count: int32 [vocabulary], how often a row was touched: bias correction
        per row, so that a rare id's first step is as long as a frequent one's.
      owner: int32 [vocabulary], scratch space of `touched`; never initialised
        again, as every step writes the entries that it reads.
    """

    rows: Array
    mean: Array
    square: Array
    count: Array
    owner: Array


def vocabulary_rows(schema: Schema) -> int:
    """Rows of a stacked table."""
    return sum(v.size for v in schema.vocabularies)


def _first_rows(schema: Schema) -> dict[str, int]:
    first, at = {}, 0
    for vocabulary in schema.vocabularies:
        first[vocabulary.name] = at
        at += vocabulary.size
    return first


def init(key: Key, schema: Schema, dim: int, scale: float) -> Table:
    """Normal rows of deviation `scale`, and empty moments.

    The rows of unknown ids start at zero: a vocabulary may have none in training,
    and a random vector there would speak for whatever comes later.
    """
    size = vocabulary_rows(schema)
    rows = scale * jax.random.normal(key, (size, dim))
    unknown = jnp.asarray(list(_first_rows(schema).values()), jnp.int32) + UNKNOWN
    rows = rows.at[unknown].set(0)
    zeros, none = jnp.zeros((size, dim)), jnp.zeros(size, jnp.int32)
    return Table(rows, zeros, jnp.zeros_like(zeros), none, jnp.zeros_like(none))


def stacked_ids(schema: Schema, ids: Array) -> Array:
    """Row numbers in the stacked table; padding becomes its size, out of range.

    Args:
      schema: fields and vocabularies.
      ids: int32 [batch, slots], local to each field's vocabulary, -1 = padding.
    """
    first = _first_rows(schema)
    offsets = [first[f.vocabulary] for f in schema.fields for _ in range(f.slots)]
    shifted = ids + jnp.asarray(np.asarray(offsets, np.int32))
    return jnp.where(ids == PADDING, vocabulary_rows(schema), shifted)


def gather(rows: Array, ids: Array) -> Array:
    """float32 [batch, slots, dim]; zeros where `ids` is out of range."""
    return rows.at[ids].get(mode="fill", fill_value=0)


def pool(schema: Schema, gathered: Array, ids: Array) -> Array:
    """The mean over each field's filled slots: float32 [batch, fields, dim].

    Zeros for a field without any. Differentiate with respect to `gathered`.

    Args:
      schema: the fields, in the order of their slots.
      gathered: float32 [batch, slots, dim], zero at padding.
      ids: int32 [batch, slots], -1 = padding.
    """
    pooled, at = [], 0
    # Neighbours with as many slots are one part: a slice for each field would cost a
    # padded sum for each field backward, a tenth of MMoE's step with 20 fields.
    for slots, run in itertools.groupby(field.slots for field in schema.fields):
        fields = len(list(run))
        part = gathered[:, at : at + fields * slots]
        if slots > 1:
            shape = (len(part), fields, slots)
            filled = ids[:, at : at + fields * slots].reshape(shape) != PADDING
            share = 1.0 / jnp.maximum(jnp.sum(filled, axis=2), 1)
            summed = jnp.sum(part.reshape(*shape, part.shape[-1]), axis=2)
            part = summed * share[:, :, None]
        pooled.append(part)
        at += fields * slots
    return jnp.concatenate(pooled, axis=1)


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


def lazy_adam(
    table: Table,
    ids: Array,
    gradients: Array,
    *,
    learning_rate: Array | float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> Table:
    """One Adam step (Kingma and Ba, 2015) on the rows a batch touched.

    Rows out of the batch keep rows, moments and counts. On rows touched at
    every step it equals dense Adam.

    Args:
      table: rows and state; donate it, or the scatter copies the table.
      ids: int32 [n] from `stacked_ids`, repeated at will.
      gradients: float32 [n, dim] with respect to the gathered rows.
      learning_rate: step size.
      b1: decay of the first moments.
      b2: decay of the second moments.
      eps: added to the root of the second moments.
    """
    size = table.rows.shape[0]
    owner, owners, owns = touched(table.owner, ids)
    summed = jnp.zeros_like(gradients).at[owners].add(gradients, mode="drop")
    # Everything below depends on what was gathered from the same arrays: that is
    # what lets XLA update them in place inside a scan.
    target = jnp.where(owns, ids, size)
    count = table.count.at[target].get(mode="fill", fill_value=0) + 1
    mean = b1 * gather(table.mean, target) + (1 - b1) * summed
    square = b2 * gather(table.square, target) + (1 - b2) * jnp.square(summed)
    correction1 = 1 - jnp.power(b1, count.astype(mean.dtype))[:, None]
    correction2 = 1 - jnp.power(b2, count.astype(mean.dtype))[:, None]
    step = (mean / correction1) / (jnp.sqrt(square / correction2) + eps)
    rows = gather(table.rows, target) - learning_rate * step
    return Table(
        table.rows.at[target].set(rows, mode="drop"),
        table.mean.at[target].set(mean, mode="drop"),
        table.square.at[target].set(square, mode="drop"),
        table.count.at[target].set(count, mode="drop"),
        owner,
    )
