"""How far two tasks' gradients agree: their cosine, in a part of the shared weights.

Gradients conflict where the cosine is negative (Yu et al., "Gradient Surgery for
Multi-Task Learning", 2020, definition 1). LT4REC (Chen et al., 2022) argues that
masks keep tasks out of each other's way, and measures no gradient; this does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmtl import discovery
from jaxmtl.sparsity import masks
from jaxmtl.tables import embedding
from jaxmtl.training import outputs
from jaxmtl.training.feed import take
from jaxmtl.training.spec import Setup, TrainSpec
from jaxmtl.training.train_state import features_of
from jaxmtl.types import SHARED, Array, Batch, Mask, Schema

EMBEDDINGS = "embeddings"
"""The region of the shared tables, which no mask prunes."""


def make_alignment(setup: Setup, pair: tuple[str, str]) -> Callable[..., dict]:
    """measure(snapshot, masks, regions, rows, index) -> region -> cosines.

    A gradient is taken with respect to the weights as the task sees them, behind its
    mask. At a weight the task keeps that is its true gradient; at one that its mask
    leaves out it is what the gradient would be if the task saw that weight, at 0.

    Args of the returned function:
      snapshot: the parameters.
      masks: task -> its mask; None without masks.
      regions: name -> a tree over the net, bool where a weight may count, None where
        none does.
      rows: of a split, on the device.
      index: int32 [batches, size], the rows of each batch; -1 is an empty slot.

    Returns:
      float32 [batches] for each region, and for `embeddings`, the shared tables' rows;
      NaN where a gradient is zero in it.

    Raises:
      ValueError: a task is not one of the setup's, or learns a product.
    """
    unknown = set(pair) - set(setup.tasks)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not among the tasks {setup.tasks}")
    if setup.needs_funnel:
        raise ValueError(
            f"{discovery.name_of(setup.architecture)} learns a task through those"
            " before it: its tasks have no gradient each; compare another architecture"
        )
    return functools.partial(_make_measure(setup.spec, pair), setup.numbers)


@functools.lru_cache(maxsize=16)
def _make_measure(spec: TrainSpec, pair: tuple[str, str]) -> Callable[..., dict]:
    net = spec.net
    apply = outputs.in_precision(spec.output, net.model.apply)

    def loss(name: str, numbers, seen, gathered, batch: Batch) -> Array:
        raw = apply(seen, features_of(net, gathered, batch.rows)).logits
        return outputs.mean_loss(spec, numbers, name, raw[name], batch)

    def cosines(numbers, snapshot, task_masks, regions: dict[str, Mask], rows, index):
        batch = outputs.with_joint(spec, take(rows, index))
        stacked = embedding.stacked_ids(net.schema, batch.rows.ids)
        gathered = {
            stack: embedding.gather(table, stacked)
            for stack, table in snapshot.tables.items()
        }
        nets, rows_moved = [], []
        for name in pair:
            seen = masks.apply(snapshot.net, task_masks[name])
            slope = jax.grad(loss, argnums=(2, 3))(name, numbers, seen, gathered, batch)
            nets.append(slope[0])
            rows_moved.append(_by_id(net.schema, stacked, slope[1][SHARED]))
        found = {name: _cosine(*_inside(nets, part)) for name, part in regions.items()}
        return found | {EMBEDDINGS: _cosine(*rows_moved)}

    @jax.jit
    def measure(numbers, snapshot, task_masks, regions, rows, index):
        one = lambda at: cosines(numbers, snapshot, task_masks, regions, rows, at)
        return jax.lax.map(one, index)

    return measure


def _inside(nets: list, region: Mask) -> list:
    """Both gradients, zero outside of a region."""
    part = lambda mark, slope: None if mark is None else jnp.where(mark, slope, 0)
    is_none = lambda leaf: leaf is None
    return [jax.tree.map(part, region, net, is_leaf=is_none) for net in nets]


def _by_id(schema: Schema, stacked: Array, slopes: Array) -> Array:
    """Gradients of gathered rows, summed where they are of one row of the table."""
    ids, n = stacked.reshape(-1), stacked.size
    # A pool's gradient reaches padding too, which is no row.
    is_row = ids < embedding.vocabulary_rows(schema)
    slopes = jnp.where(is_row[:, None], slopes.reshape(n, -1), 0)
    _, places = jnp.unique(ids, return_inverse=True, size=n)
    return jnp.zeros_like(slopes).at[places].add(slopes)


def _cosine(a, b) -> Array:
    dot = lambda x, y: sum(
        jnp.vdot(u, v)
        for u, v in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    )
    size = jnp.sqrt(dot(a, a)) * jnp.sqrt(dot(b, b))
    return jnp.where(size > 0, dot(a, b) / jnp.where(size > 0, size, 1), jnp.nan)
