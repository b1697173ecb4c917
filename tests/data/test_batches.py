"""Plans deal every row once an epoch, evenly, and the same in any company."""

import numpy as np
import pytest
from conftest import make_rows, make_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.batches import EVERY, Plan

CLICK, WATCH, LIKE = make_schema().tasks
few = settings(max_examples=25, deadline=None)


def named(*tasks):
    return {task.name: task for task in tasks}


def rows_of(order):
    return np.sort(order[order >= 0])


def inside(task, rows):
    return np.flatnonzero(task.inside(rows.labels))


def test_a_plan_by_hand():
    """Ten rows in batches of four: three steps of 4, 3 and 3 rows."""
    rows = make_rows(10, seed=0)
    plan = Plan(rows, named(CLICK), 4)
    assert plan.steps == 3
    assert plan.sizes == {"click": 8}
    order = plan.orders(seed=0, epoch=1)["click"]
    assert order.shape == (3, 8)
    assert order.dtype == np.int32
    assert [int((batch >= 0).sum()) for batch in order] == [4, 3, 3]
    np.testing.assert_array_equal(rows_of(order), np.arange(10))


@few
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 99), st.integers(0, 99))
def test_every_row_of_a_task_comes_once_an_epoch(n, batch_size, seed, epoch):
    rows = make_rows(n, seed)
    rows.labels["click"][0] = 1  # a task without rows is refused
    batch_size = min(n, batch_size)
    plan = Plan(rows, named(CLICK, WATCH), batch_size)
    assert plan.steps == -(-n // batch_size)
    for task in (CLICK, WATCH):
        order = plan.orders(seed, epoch)[task.name]
        assert order.shape == (plan.steps, plan.sizes[task.name])
        np.testing.assert_array_equal(rows_of(order), inside(task, rows))
        filled = (order >= 0).sum(axis=1)
        assert filled.max() - filled.min() <= 1
        assert order.shape[1] % 8 == 0
        assert order.shape[1] - filled.max() < 8


def test_order_is_a_function_of_seed_and_epoch_alone():
    rows = make_rows(100, seed=0)
    plan = Plan(rows, named(CLICK, WATCH), 20)
    first = plan.orders(seed=1, epoch=2)
    plan.orders(seed=5, epoch=9)
    for again in (plan, Plan(rows, named(CLICK, WATCH), 20)):
        order = again.orders(seed=1, epoch=2)
        for task, expected in first.items():
            np.testing.assert_array_equal(order[task], expected)
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        order = plan.orders(seed, epoch)
        assert all((order[task] != first[task]).any() for task in first)


def test_task_has_the_same_batches_alone_and_in_company():
    rows = make_rows(100, seed=0)
    together = Plan(rows, named(CLICK, WATCH, LIKE), 30)
    for task in (CLICK, WATCH, LIKE):
        alone = Plan(rows, named(task), 30)
        assert (alone.steps, alone.sizes[task.name]) == (4, together.sizes[task.name])
        order = alone.orders(seed=3, epoch=1)[task.name]
        np.testing.assert_array_equal(order, together.orders(3, 1)[task.name])


def test_tasks_on_the_same_rows_see_them_in_different_orders():
    orders = Plan(make_rows(100, seed=0), named(WATCH, LIKE), 30).orders(0, 1)
    np.testing.assert_array_equal(rows_of(orders["watch"]), rows_of(orders["like"]))
    assert (orders["watch"] != orders["like"]).any()


def test_two_passes_bring_every_row_twice_in_as_many_steps():
    rows = make_rows(100, seed=0)
    once = Plan(rows, named(CLICK, WATCH), 30)
    twice = Plan(rows, named(CLICK, WATCH), 30, passes={"watch": 2.0})
    assert twice.steps == once.steps
    assert twice.sizes["click"] == once.sizes["click"]
    orders, expected = twice.orders(0, 1), inside(WATCH, rows)
    np.testing.assert_array_equal(rows_of(orders["watch"]), np.repeat(expected, 2))
    np.testing.assert_array_equal(orders["click"], once.orders(0, 1)["click"])


def test_half_a_pass_brings_half_the_rows():
    rows = make_rows(100, seed=0)
    order = Plan(rows, named(WATCH), 30, passes={"watch": 0.5}).orders(0, 1)["watch"]
    assert len(rows_of(order)) == round(len(inside(WATCH, rows)) / 2)
    assert set(rows_of(order)) < set(inside(WATCH, rows))


def test_summed_plan_has_one_kind_on_all_rows_any_task_labels():
    rows = make_rows(50, seed=0)
    rows.labels["click"][:10] = np.nan
    plan = Plan(rows, named(CLICK, WATCH), 8, summed=True)
    assert set(plan.sizes) == {EVERY}
    np.testing.assert_array_equal(rows_of(plan.orders(0, 1)[EVERY]), np.arange(10, 50))


@pytest.mark.parametrize("batch_size", [0, 101])
def test_batch_that_does_not_fit_the_log_is_refused(batch_size):
    message = f"batch size {batch_size} does not fit 100 training rows; use 1 … 100"
    with pytest.raises(ValueError, match=message):
        Plan(make_rows(100, seed=0), named(CLICK), batch_size)


def test_task_without_a_labelled_row_is_refused():
    rows = make_rows(20, seed=0)
    rows.labels["click"][:] = 0
    with pytest.raises(ValueError, match="'watch' has no labelled training row"):
        Plan(rows, named(CLICK, WATCH), 5)
