"""Row-sparse optimisers against the dense ones that they stand for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close, assert_same_bits, make_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.tables import embedding, row_optim

SCHEMA = make_schema()
SIZE, DIM, PLACES = 60, 3, 24
SEEN = 50
"""Rows from here on are never drawn."""
B1, B2 = 0.9, 0.999
EPS = 1e-8
NAMES = ("sgd", "adagrad", "rowwise_adagrad", "lazy_adam", "adam")
RATES = {"sgd": 0.3, "adagrad": 0.1, "rowwise_adagrad": 0.1}
few = settings(max_examples=25, deadline=None)


def make(name, eps=EPS):
    return row_optim.make(name, b1=B1, b2=B2, eps=eps)


def dense_rowwise_adagrad(rate):
    """As `optax.adagrad` without an initial sum, with the rows' mean squares."""

    def update(gradients, sums, params=None):
        sums = sums + jnp.mean(gradients**2, axis=1, keepdims=True)
        return -rate * gradients / jnp.sqrt(sums + (sums == 0)), sums

    return optax.GradientTransformation(lambda rows: jnp.zeros((SIZE, 1)), update)


DENSE = {
    "sgd": optax.sgd,
    "adagrad": functools.partial(optax.adagrad, initial_accumulator_value=0, eps=1e-16),
    "rowwise_adagrad": dense_rowwise_adagrad,
    "lazy_adam": functools.partial(optax.adam, eps=EPS),
    "adam": functools.partial(optax.adam, eps=EPS),
}


@functools.cache
def step_of(name):
    optimiser = make(name)

    @jax.jit
    def step(table, ids, gradients, rate):
        block = embedding.read(optimiser, table, ids, rate)
        return embedding.update(optimiser, table, ids, block, gradients, rate)

    return step


def make_table(name):
    return embedding.init(jax.random.key(0), SCHEMA, DIM, 0.5, make(name))


def settled(name, table, rate):
    return embedding.settle(make(name), table, rate)


def draws(steps, everyone):
    """Of each step ids with repeats and padding, and gradients of uneven size."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        ids = rng.integers(0, SEEN, PLACES)
        if everyone:
            ids = rng.permutation(np.append(ids, np.arange(SIZE)))
        ids[rng.random(len(ids)) < 0.1 * (not everyone)] = SIZE
        scale = 10.0 ** rng.integers(-3, 2)
        yield ids, scale * rng.normal(size=(len(ids), DIM))


def train_both(name, steps, everyone=False):
    """The rows after some steps: ours, and those of the dense optimiser."""
    rate = RATES.get(name, 0.05)
    table, dense = make_table(name), DENSE[name](rate)
    rows, state = table.rows, dense.init(table.rows)
    update = jax.jit(dense.update)
    for ids, gradients in draws(steps, everyone):
        table = step_of(name)(table, ids, jnp.asarray(gradients), rate)
        summed = np.zeros((SIZE + 1, DIM))
        np.add.at(summed, ids, gradients)
        moves, state = update(jnp.asarray(summed[:SIZE], rows.dtype), state, rows)
        rows = rows + moves
    return settled(name, table, rate).rows, rows


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [n for n in NAMES if n != "lazy_adam"])
def test_equals_the_dense_optimiser_with_repeated_and_never_seen_ids(name):
    rows, expected = train_both(name, 100)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(rows[SEEN:], make_table(name).rows[SEEN:])


@pytest.mark.parametrize("name", [n for n in NAMES if n != "lazy_adam"])
def test_equals_the_dense_optimiser_in_single_precision(name):
    rows, expected = train_both(name, 20)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["lazy_adam", "adam"])
def test_both_adams_equal_dense_adam_on_rows_touched_at_every_step(name):
    rows, expected = train_both(name, 25, everyone=True)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_lazy_adam_parts_from_dense_adam_on_rows_that_steps_skip():
    rows, expected = train_both("lazy_adam", 20)
    assert np.abs(rows - expected)[:SEEN].max() > 0.01


@pytest.mark.parametrize("name", ["rowwise_adagrad", "adam"])
def test_eager_and_compiled_steps_agree(name):
    optimiser, rate = make(name), RATES.get(name, 0.05)
    eager = compiled = make_table(name)
    for ids, gradients in draws(3, everyone=False):
        gradients = jnp.asarray(gradients, jnp.float32)
        block = embedding.read(optimiser, eager, ids, rate)
        eager = embedding.update(optimiser, eager, ids, block, gradients, rate)
        compiled = step_of(name)(compiled, ids, gradients, rate)
    assert_close(compiled, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_ids_is_no_update(name):
    table = make_table(name)
    for ids, gradients in draws(2, everyone=False):
        table = step_of(name)(table, ids, gradients, 0.1)
    after = step_of(name)(table, np.full(PLACES, SIZE), gradients, 0.1)
    assert_same_bits(after, table)


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("sgd", 0),
        ("adagrad", SIZE * DIM),
        ("rowwise_adagrad", SIZE),
        ("lazy_adam", 2 * SIZE * DIM + SIZE),
        ("adam", 2 * SIZE * DIM + SIZE),
    ],
)
def test_a_table_keeps_what_its_optimiser_needs_and_no_more(name, slots):
    table = make_table(name)
    assert table.rows.size == SIZE * DIM
    assert table.packed.size == SIZE * DIM + slots


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_of_steps_copies_no_table(name):
    """A step on 16 of a million rows, and the pass over all of them at the end.

    Not one number a row: a copied count would cost milliseconds a step.
    """
    optimiser, size, dim, n = make(name), 1_000_000, 4, 16
    table = embedding.make_table(optimiser, jnp.zeros((size, dim)))

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(table, batches, rate):
        def body(table, ids):
            block = embedding.read(optimiser, table, ids, rate)
            slopes = jnp.cos(block.rows)
            new = embedding.update(optimiser, table, ids, block, slopes, rate)
            return new, jnp.sum(block.rows)

        table, losses = jax.lax.scan(body, table, batches)
        return embedding.settle(optimiser, table, rate), losses

    batches = jnp.zeros((5, n), jnp.int32)
    memory = epoch.lower(table, batches, 0.1).compile().memory_analysis()
    assert memory.temp_size_in_bytes < size


def empty(optimiser, rows):
    """The slots of rows that never had a gradient."""
    n, dim = rows.shape
    widths = optimiser.widths(dim).items()
    return {name: jnp.zeros((n, width), rows.dtype) for name, width in widths}


def test_first_steps_by_hand():
    """Of gradients 3 and 4; rows of Adagrad divide by their root mean square."""
    rows, gradients = jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])
    rms = np.sqrt(12.5)
    expected = {
        "sgd": [3, 4],
        "adagrad": [1, 1],
        "rowwise_adagrad": [3 / rms, 4 / rms],
        "lazy_adam": [1, 1],
        "adam": [1, 1],
    }
    for name in NAMES:
        optimiser = make(name)
        found, _ = optimiser.update(gradients, empty(optimiser, rows), jnp.array(1))
        np.testing.assert_allclose(found[0], expected[name], rtol=1e-4, err_msg=name)


def test_a_row_without_a_gradient_yet_divides_nothing_by_zero():
    rows = jnp.zeros((2, 3))
    with jax.debug_nans(True):
        for name in NAMES:
            optimiser = make(name)
            never = empty(optimiser, rows)
            found, slots = optimiser.update(rows, never, jnp.array(1))
            assert not found.any(), name
            if optimiser.catch_up:
                assert not optimiser.catch_up(slots, jnp.array(9))[0].any()
                assert not optimiser.catch_up(never, jnp.array(9))[0].any()


# Adam that catches up


def skipped_oracle(mean, square, last, now, eps):
    """Dense Adam's directions over updates without a gradient, one after another."""
    total = np.zeros_like(mean)
    for time in range(last + 1, now + 1):
        mean, square = B1 * mean, B2 * square
        scale = np.sqrt(square / (1 - B2**time)) + eps
        total += mean / (1 - B1**time) / scale
    return total, mean, square


def adam_slots(mean, square, last):
    """Of a single row of width 1."""
    slots = {"mean": mean, "square": square, "last": last}
    return {name: jnp.full((1, 1), slot, jnp.float32) for name, slot in slots.items()}


exact_catch_up = jax.jit(make("adam", eps=0.0).catch_up)


@few
@given(
    st.integers(1, 60_000),
    st.integers(0, 600),
    st.floats(0.001, 3),
    st.floats(1e-12, 9),
)
def test_catching_up_is_the_skipped_updates_of_dense_adam(last, skipped, mean, square):
    slots = adam_slots(mean, square, last)
    now = last + skipped
    path, after = exact_catch_up(slots, jnp.array(now))
    expected = skipped_oracle(
        np.full((1, 1), mean), np.full((1, 1), square), last, now, 0.0
    )
    size = mean / np.sqrt(square)
    np.testing.assert_allclose(path, expected[0], rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(after["mean"], expected[1], rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(after["square"], expected[2], rtol=1e-4)
    np.testing.assert_array_equal(after["last"], now)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("size", "error"), [(1e-4, 2e-8), (1e-6, 2e-4), (1e-8, 0.2)])
def test_eps_costs_accuracy_where_gradients_are_as_small_as_it(size, error):
    """A row met at update 5 alone, which 200 updates then skip."""
    optimiser, eps = make("adam", eps=1e-8), 1e-8
    gradient = np.full((1, 1), size)
    slots = optimiser.catch_up(empty(optimiser, gradient), jnp.array(4))[1]
    _, slots = optimiser.update(gradient, slots, jnp.array(5))
    path, _ = optimiser.catch_up(slots, jnp.array(205))
    moments = (np.asarray(slots[name]) for name in ("mean", "square"))
    expected, *_ = skipped_oracle(*moments, 5, 205, eps)
    np.testing.assert_allclose(path, expected, rtol=error)


catch_up = jax.jit(make("adam").catch_up)


@few
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_catching_up_by_and_by_ends_where_one_leap_does(leaps):
    rate = 0.1
    start = adam_slots(0.3, 0.5, 7)
    rows, slots, now = 0.0, start, 7
    for leap in leaps:
        now += leap
        path, slots = catch_up(slots, jnp.array(now))
        rows = rows - rate * path
    path, leapt = catch_up(start, jnp.array(now))
    np.testing.assert_allclose(rows, -rate * path, rtol=1e-4, atol=1e-6)
    assert_close(slots, leapt, rtol=1e-4)


def test_settling_reaches_every_row_of_a_table_cut_into_slices():
    size, step, rate = 9_000, make("adam"), 0.1
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(size, 2)), jnp.float32)
    last = jnp.asarray(rng.integers(1, 50, (size, 1)), jnp.float32)
    slots = {"mean": jnp.ones_like(rows), "square": rows**2, "last": last}
    now, table = jnp.array(60), embedding.make_table(step, rows)
    table = table.put(jnp.arange(size), embedding.Block(rows, slots))
    table = dataclasses.replace(table, updates=now)
    found = embedding.settle(step, table, rate)
    path, caught_up = step.catch_up(slots, now)
    assert_close(found.rows, rows - rate * path, rtol=1e-5, atol=1e-6)
    assert_close(found.unpack(found.packed).slots, caught_up)


def test_settling_a_settled_table_changes_nothing():
    table = make_table("adam")
    for ids, gradients in draws(4, everyone=False):
        table = step_of("adam")(table, ids, gradients, 0.05)
    once = settled("adam", table, 0.05)
    assert (once.rows != table.rows).any()
    assert_same_bits(settled("adam", once, 0.05), once)


# Lazy Adam


def test_rarely_touched_row_has_a_bias_correction_of_its_own():
    """A row met every third step walks like one met every step of a third as many."""
    step, rng = step_of("lazy_adam"), np.random.default_rng(0)
    rare, often = make_table("lazy_adam"), make_table("lazy_adam")
    for number in range(12):
        if number % 3:
            other = step(rare, np.array([8]), np.ones((1, DIM)), 0.1)
            assert (other.rows[8] != rare.rows[8]).all()
            rare = other
        else:
            gradient = rng.normal(size=(1, DIM))
            rare = step(rare, np.array([5]), gradient, 0.1)
            often = step(often, np.array([5]), gradient, 0.1)
    assert_same_bits(rare.packed[5], often.packed[5])


def test_first_step_is_as_long_as_the_learning_rate_for_rare_ids_too():
    step, gradients = step_of("lazy_adam"), jnp.array([[1e-3, -5.0, 100.0]])
    first = make_table("lazy_adam")
    for before in (first, step(first, jnp.array([8]), gradients, 0.1)):
        after = step(before, jnp.array([5]), gradients, 0.1)
        moved = after.rows[5] - before.rows[5]
        np.testing.assert_allclose(moved, [-0.1, 0.1, -0.1], rtol=1e-4)


def test_a_count_that_a_float_cannot_raise_any_more_changes_no_step():
    """Beyond 2**24 touches; bias correction is over long before."""
    optimiser, gradients = make("lazy_adam"), jnp.array([[0.5, -2.0]])
    slots = {"mean": gradients, "square": gradients**2}
    found = [
        optimiser.update(gradients, slots | {"count": jnp.array([[count]])}, None)
        for count in (2.0**23, 2.0**24)
    ]
    assert_same_bits(found[1][0], found[0][0])
    assert found[1][1]["count"] == 2**24
    np.testing.assert_allclose(found[1][0], jnp.sign(gradients), rtol=1e-6)


# What is refused


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="tables 'adamw' is none of.*'lazy_adam'"):
        make("adamw")


def test_decays_under_which_a_row_would_never_rest_are_refused():
    with pytest.raises(ValueError, match="b1 = 0.99 is not below b2 = 0.9"):
        row_optim.adam(b1=0.99, b2=0.9)
