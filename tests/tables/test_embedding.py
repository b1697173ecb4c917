"""Row-sparse tables: one gather, one scatter, and nothing moves but what is touched."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl.layers import pooling
from jaxmtl.tables import embedding, row_optim

SCHEMA = make_schema()
SIZE = 21 + 31 + 8
FIRST = {"user": 0, "item": 21, "tags": 52, "last_item": 21}
few = settings(max_examples=25, deadline=None)


ADAM = row_optim.lazy_adam()


def eager_step(table, ids, gradients):
    block = embedding.read(ADAM, table, ids, 0.1)
    return embedding.update(ADAM, table, ids, block, gradients, 0.1)


step = jax.jit(eager_step)


def make_table(dim=3, seed=0):
    return embedding.init(jax.random.key(seed), SCHEMA, dim, 0.5, ADAM)


def arrays(table):
    """What a step may change of a table, by name; the scratch space is none of it."""
    rows, slots = table.unpack(jnp.asarray(table.packed))
    return jax.device_get({"rows": rows, **slots})


def test_ids_of_a_row_by_hand():
    ids = jnp.array([[3, 5, 7, 1, -1, 5]], jnp.int32)
    stacked = embedding.stacked_ids(SCHEMA, ids)
    nowhere = embedding.NOWHERE
    np.testing.assert_array_equal(stacked, [[3, 26, 59, 53, nowhere, 26]])


def test_stacked_ids_never_leave_their_vocabulary():
    for field in SCHEMA.fields:
        size = {v.name: v.size for v in SCHEMA.vocabularies}[field.vocabulary]
        ids = np.full((size, SCHEMA.slots), -1, np.int32)
        at = SCHEMA.column(field.name)
        ids[:, at] = np.arange(size)
        stacked = np.array(embedding.stacked_ids(SCHEMA, ids))
        first = FIRST[field.name]
        np.testing.assert_array_equal(stacked[:, at], np.arange(first, first + size))
        stacked[:, at] = embedding.NOWHERE
        assert (stacked == embedding.NOWHERE).all()


def test_initial_rows_have_the_scale_asked_for_and_unknown_ids_zeros():
    table = make_table(dim=200)
    for first in (0, 21, 52):
        assert not table.rows[first].any()
    known = np.delete(np.asarray(table.rows), [0, 21, 52], axis=0)
    assert 0.48 < known.std() < 0.52
    assert abs(known.mean()) < 0.02
    assert table.rows.shape == (SIZE, 200)
    assert not any(np.any(slot) for slot in table.unpack(table.packed).slots.values())
    assert table.updates == 0


@pytest.mark.parametrize("devices", [2, 7, 8])
def test_initial_rows_are_those_of_their_ids_however_they_are_dealt_out(devices):
    """Row i is line i // D of device i mod D."""
    dealt = embedding.init(
        jax.random.key(0), SCHEMA, 3, 0.5, ADAM, devices=devices
    ).rows
    lines = -(-SIZE // devices)
    assert dealt.shape == (lines * devices, 3)
    ids = np.arange(SIZE)
    found = dealt[ids % devices * lines + ids // devices]
    np.testing.assert_array_equal(found, make_table().rows)


def test_initial_rows_depend_on_no_other_vocabulary_behind_them():
    """As where a log that goes on has more ids, in the last vocabulary."""
    *others, last = SCHEMA.vocabularies
    larger = (*others, dataclasses.replace(last, size=last.size + 100))
    schema = dataclasses.replace(SCHEMA, vocabularies=larger)
    more = embedding.init(jax.random.key(0), schema, 3, 0.5, ADAM).rows
    np.testing.assert_array_equal(more[:SIZE], make_table().rows)


def test_more_rows_than_int32_can_number_are_refused():
    first, *others = SCHEMA.vocabularies
    vocabularies = (dataclasses.replace(first, size=2**31 - 42), *others)
    schema = dataclasses.replace(SCHEMA, vocabularies=vocabularies)
    with pytest.raises(
        ValueError, match="2,147,483,645 rows.*int32.*2,080,374,784.*smaller"
    ):
        embedding.init(jax.random.key(0), schema, 3, 0.5, ADAM, devices=8)


def pooled_oracle(rows, ids):
    """Field by field and row by row in float64."""
    pooled = np.zeros((len(ids), 4, rows.shape[1]))
    for r, row in enumerate(ids):
        slots = {"user": row[:1], "item": row[1:2], "tags": row[2:5]}
        slots["last_item"] = row[5:]
        for f, (name, locals_) in enumerate(slots.items()):
            filled = [FIRST[name] + i for i in locals_ if i >= 0]
            if filled:
                pooled[r, f] = rows[filled].mean(axis=0)
    return pooled


def look_up(rows, ids):
    gathered = embedding.gather(rows, embedding.stacked_ids(SCHEMA, ids))
    return pooling.pool(SCHEMA, gathered, ids)


@few
@given(st.integers(0, 2**32 - 1))
def test_pools_the_mean_of_the_filled_slots(seed):
    ids, rows = make_rows(9, seed).ids, np.asarray(make_table().rows)
    ids[0, 2:5] = -1  # a field without any id pools to zeros
    expected = pooled_oracle(rows.astype(np.float64), ids)
    got = look_up(jnp.asarray(rows), jnp.asarray(ids))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    assert not got[0, 2].any()
    np.testing.assert_allclose(jax.jit(look_up)(rows, ids), got, rtol=1e-6, atol=1e-8)


def test_every_field_with_several_slots_is_pooled():
    """Of a width that is no field's number of slots."""
    slots = {"user": 1, "item": 1, "tags": 2, "last_item": 4}
    fields = tuple(dataclasses.replace(f, slots=slots[f.name]) for f in SCHEMA.fields)
    schema = dataclasses.replace(SCHEMA, fields=fields)
    ids = jnp.array([[3, 5, 7, -1, 1, 2, 4, -1], [2, 6, 0, 5, -1, -1, -1, -1]])
    gathered = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)
    gathered[np.asarray(ids) == -1] = 0  # as they are gathered
    pooled = pooling.pool(schema, jnp.asarray(gathered), ids)
    expected = [
        [row[0], row[1], row[2:4].sum(axis=0) / n, row[4:].sum(axis=0) / m]
        for row, n, m in zip(gathered, (1, 2), (3, 1), strict=True)
    ]
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


def test_other_rows_take_the_place_of_a_table_s_and_stay_the_caller_s():
    table, rows = make_table(), jnp.ones((SIZE, 3))
    changed = embedding.with_rows(table, rows)
    np.testing.assert_array_equal(changed.rows, rows)
    assert table.packed.is_deleted() and not rows.is_deleted()


def test_two_fields_on_one_vocabulary_read_the_same_row():
    ids = jnp.array([[1, 4, -1, -1, -1, 4]], jnp.int32)
    pooled = look_up(make_table().rows, ids)
    np.testing.assert_array_equal(pooled[0, 1], pooled[0, 3])
    assert pooled[0, 1].any()


@functools.cache
def moving_table():
    """Every row has momentum."""
    return jax.device_get(step(make_table(), np.arange(SIZE), np.ones((SIZE, 3))))


@few
@given(
    hnp.arrays(np.int32, 12, elements=st.integers(0, SIZE)),
    hnp.arrays(np.float32, (12, 3), elements=st.floats(0, 1, width=32)),
)
def test_only_touched_rows_their_moments_and_counts_move(ids, gradients):
    before = moving_table()
    after = jax.device_get(step(before, ids, gradients))
    old, new = arrays(before), arrays(after)
    untouched = np.setdiff1d(np.arange(SIZE), ids)
    for name in old:
        kept = [table[name][untouched] for table in (old, new)]
        np.testing.assert_array_equal(*kept, err_msg=name)
    met = np.intersect1d(np.arange(SIZE), ids)
    np.testing.assert_array_equal(new["count"][met], old["count"][met] + 1)
    assert after.updates == before.updates + (len(met) > 0)
    assert (new["rows"][met] != old["rows"][met]).all()  # on momentum at the least


def test_padding_touches_nothing():
    table = make_table()
    ids = jnp.full(5, SIZE)
    assert_same_bits(step(table, ids, jnp.ones((5, 3))), table)


def test_repeated_ids_are_summed():
    gradients = jnp.array([[1.0, 0, 0], [0, 2.0, 0], [3.0, 0, 0], [9.0, 9.0, 9.0]])
    ids = jnp.array([7, 7, 7, SIZE])
    summed = step(make_table(), ids, gradients)
    once = jnp.array([[4.0, 2.0, 0]])
    alone = step(make_table(), jnp.array([7]), once)
    assert_same_bits(dataclasses.replace(summed, owner=alone.owner), alone)
    assert arrays(summed)["count"][7] == 1


def test_eager_and_compiled_steps_agree():
    ids, rng = jnp.array([7, 9, 7, SIZE, 0, 59]), np.random.default_rng(0)
    eager = compiled = make_table()
    for _ in range(3):
        gradients = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
        eager = eager_step(eager, ids, gradients)
        compiled = step(compiled, ids, gradients)
    assert_close(compiled, eager, rtol=1e-5, atol=1e-7)


def test_a_table_smaller_than_the_batch_moves_as_any_other():
    """The batch is made longer than the table by padding, which names no row."""
    ids, rng = jnp.array([7, 9, 7, SIZE, 0, 59]), np.random.default_rng(0)
    padded = jnp.pad(ids, (0, SIZE), constant_values=embedding.NOWHERE)
    short = long = make_table()
    for _ in range(3):
        gradients = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
        short = step(short, ids, gradients)
        long = step(long, padded, jnp.pad(gradients, ((0, SIZE), (0, 0))))
    assert_close(arrays(long), arrays(short), rtol=1e-6, atol=1e-7)
    assert long.updates == short.updates == 3


def test_fields_that_share_a_vocabulary_move_the_same_row():
    """The gradient of a row is that of all its fields together."""
    table, ids = make_table(), jnp.array([[1, 4, -1, -1, -1, 4]], jnp.int32)
    stacked = embedding.stacked_ids(SCHEMA, ids)
    weight = jnp.arange(12.0).reshape(1, 4, 3)

    def loss(gathered):
        return jnp.sum(weight * pooling.pool(SCHEMA, gathered, ids))

    gradient = jax.grad(loss)(embedding.gather(table.rows, stacked))
    flat = stacked.reshape(-1), gradient.reshape(-1, 3)
    after = step(table, *flat)
    np.testing.assert_allclose(
        arrays(after)["mean"][FIRST["item"] + 4],
        0.1 * (weight[0, 1] + weight[0, 3]),
        rtol=1e-6,
    )
    np.testing.assert_array_equal(np.flatnonzero(arrays(after)["count"]), [1, 25])
