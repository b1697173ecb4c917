"""Pooling of a field's slots against a plain mean in float64, and its gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_schema

from jaxmtl.layers.pooling import pool
from jaxmtl.types import Field

BATCH, DIM = 5, 3
LAYOUTS = [(1, 1, 1), (1, 4), (1, 2, 2), (1, 3, 3, 1, 2), (1, 3, 1, 3)]


def make(slots, seed=0):
    """A schema, rows that are zero at padding, and ids; a field's mean by hand."""
    fields = tuple(Field(f"f{i}", "items", n) for i, n in enumerate(slots))
    names = {"user": "f0", "item": "f0"}
    schema = dataclasses.replace(make_schema(), fields=fields, **names)
    rng, width = np.random.default_rng(seed), sum(slots)
    ids = rng.integers(0, 9, (BATCH, width), np.int32)
    ids[rng.random(ids.shape) < 0.3] = -1
    ids[0], ids[1] = -1, 7  # fields without any id, and full ones
    rows = rng.normal(size=(BATCH, width, DIM))
    rows[ids == -1] = 0
    ends = np.cumsum(slots)
    spans = [slice(end - n, end) for n, end in zip(slots, ends, strict=True)]
    return schema, rows, ids, spans


@pytest.mark.parametrize("slots", LAYOUTS)
def test_pools_the_mean_of_the_filled_slots(slots):
    schema, rows, ids, spans = make(slots)
    filled = lambda span: np.maximum((ids[:, span] >= 0).sum(axis=1), 1)[:, None]
    expected = np.stack([rows[:, s].sum(axis=1) / filled(s) for s in spans], axis=1)
    given = jnp.asarray(rows, jnp.float32), jnp.asarray(ids)
    found = pool(schema, *given)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert not found[0].any()
    compiled = jax.jit(pool, static_argnums=0)(schema, *given)
    np.testing.assert_allclose(compiled, found, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("slots", LAYOUTS)
def test_a_filled_slot_s_gradient_is_its_share_of_its_field_s(slots):
    schema, rows, ids, spans = make(slots)
    weight = np.random.default_rng(1).normal(size=(BATCH, len(slots), DIM))
    expected = np.zeros(rows.shape)
    for field, span in enumerate(spans):
        filled = ids[:, span] >= 0
        share = filled / np.maximum(filled.sum(axis=1, keepdims=True), 1)
        expected[:, span] = share[:, :, None] * weight[:, field, None]
    loss = lambda rows: jnp.sum(weight.astype(np.float32) * pool(schema, rows, ids))
    found = np.array(jax.grad(loss)(jnp.asarray(rows, jnp.float32)))
    found[ids == -1] = 0  # of padding: no row is there to move
    np.testing.assert_allclose(found, expected, rtol=1e-6)
