"""Rows too many for memory: each once an epoch, from any step, whole, and ahead."""

import contextlib
import threading
import time

import jax
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_schema, make_setup
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.batches import EVERY, Plan, large_plan
from jaxmtl.data.batches.chunks import read_chunks
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.data.batches.prefetch import prefetch
from jaxmtl.data.batches.shuffle import shuffled
from jaxmtl.data.store.blocks import open_split, write_split
from jaxmtl.spaces import joint_task, with_joint
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import dense_masks, make_gates, make_init

few = settings(max_examples=40, deadline=None)
CLICK, WATCH, LIKE = make_schema().tasks


def named(*tasks):
    return {task.name: task for task in tasks}


def make_plan(rows, *tasks, batch_size=16, **options):
    return LargePlan(make_schema(), rows, named(*tasks), batch_size, **options)


def rows_of(order):
    return np.sort(order[order >= 0])


def prefetching():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


# The order


def oracle(n, key, block, window):
    """The whole order, block by block and window by window."""
    count = -(-n // block)
    edges = [n * b // count for b in range(count + 1)]
    blocks = [list(range(edges[b], edges[b + 1])) for b in range(count)]
    blocks = [blocks[b] for b in np.random.default_rng([*key, 0]).permutation(count)]
    windows, order = -(-count // window), []
    for w in range(windows):
        mixed = sum(blocks[count * w // windows : count * (w + 1) // windows], [])
        order += list(np.random.default_rng([*key, w + 1]).permutation(mixed))
    return order


@few
@given(st.data())
def test_any_part_of_an_order_is_that_part_of_the_whole(data):
    n, block, window = (data.draw(st.integers(1, high)) for high in (300, 40, 9))
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    whole = shuffled(n, (3, 1), 0, n, block=block, window=window)
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    part = shuffled(n, (3, 1), start, stop, block=block, window=window)
    assert part.dtype == np.int32
    np.testing.assert_array_equal(part, whole[start:stop])
    np.testing.assert_array_equal(whole, oracle(n, (3, 1), block, window))


def test_an_order_by_hand():
    """Eight rows: two windows of two blocks of two rows, whose rows mix."""
    orders = [shuffled(8, (seed,), 0, 8, block=2, window=2) for seed in range(50)]
    for order in orders:
        first, second = np.sort(order[:4] // 2), np.sort(order[4:] // 2)
        assert first[0] == first[1] < first[2] == first[3]  # whole blocks
        assert second[0] == second[1] < second[2] == second[3]
        assert not set(first) & set(second)
    assert any(order[0] // 2 == order[2] // 2 for order in orders)
    assert len({tuple(order) for order in orders}) > 40


def test_in_one_window_every_row_comes_equally_often_at_every_position():
    orders = np.stack([shuffled(5, (seed,), 0, 5, block=2) for seed in range(4000)])
    counts = np.stack([(orders == row).sum(axis=0) for row in range(5)])
    # 5 standard deviations of a binomial count
    assert np.abs(counts - 800).max() < 5 * np.sqrt(4000 * 0.2 * 0.8)


def test_rows_far_apart_meet_in_one_window():
    """Neighbours of a log sorted by time are spread over an epoch's batches."""
    order = shuffled(100_000, (0,), 0, 1000, block=100, window=50)
    assert np.ptp(order) > 80_000
    assert len(set(order // 100)) == 50


# The plan


@few
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 99), st.integers(0, 99))
def test_every_row_of_a_task_comes_once_an_epoch(n, batch_size, seed, epoch):
    rows = make_rows(n, seed)
    rows.labels["click"][0] = 1  # a task without rows is refused
    batch_size = min(n, batch_size)
    plan = make_plan(rows, CLICK, WATCH, batch_size=batch_size)
    resident = Plan(rows, named(CLICK, WATCH), batch_size)
    assert (plan.steps, plan.sizes) == (resident.steps, resident.sizes)
    for name, order in plan.orders(seed, epoch).items():
        assert order.shape == (plan.steps, plan.sizes[name])
        assert order.dtype == np.int32
        inside = np.flatnonzero(make_schema().task(name).inside(rows.labels))
        np.testing.assert_array_equal(rows_of(order), inside)
        filled = (order >= 0).sum(axis=1)
        assert filled.max() - filled.min() <= 1


def test_rows_are_found_across_the_parts_that_are_scanned(monkeypatch):
    rows = make_rows(100, seed=0)
    whole = make_plan(rows, CLICK, WATCH).orders(0, 1)
    monkeypatch.setattr(large_plan, "SCANNED", 7)
    assert_same_bits(make_plan(rows, CLICK, WATCH).orders(0, 1), whole)


def test_starting_at_a_step_gives_the_epochs_tail():
    plan = make_plan(make_rows(500, seed=0), CLICK, WATCH, passes={"watch": 2.6})
    whole = plan.orders(4, 2)
    for start, stop in ((0, 1), (3, 20), (31, None), (plan.steps, None)):
        part = plan.orders(4, 2, start, stop)
        assert_same_bits(part, {k: order[start:stop] for k, order in whole.items()})


def test_order_is_a_function_of_seed_and_epoch_alone():
    rows = make_rows(100, seed=0)
    plan = make_plan(rows, CLICK, WATCH)
    first = plan.orders(1, 2)
    plan.orders(5, 9)
    assert_same_bits(make_plan(rows, CLICK, WATCH).orders(1, 2), first)
    assert_same_bits(make_plan(rows, WATCH).orders(1, 2)["watch"], first["watch"])
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        order = plan.orders(seed, epoch)
        assert all((order[task] != first[task]).any() for task in first)


def test_passes_bring_a_tasks_rows_as_often_as_asked_each_time_in_another_order():
    rows = make_rows(200, seed=0)
    plan = make_plan(rows, WATCH, passes={"watch": 2.5})
    order = plan.orders(0, 1)["watch"]
    (inside,) = np.nonzero(WATCH.inside(rows.labels))
    n, drawn = len(inside), order[order >= 0]
    assert len(drawn) == round(2.5 * n)
    for part in (drawn[:n], drawn[n : 2 * n]):
        np.testing.assert_array_equal(np.sort(part), inside)
    assert (drawn[:n] != drawn[n : 2 * n]).any()
    assert len(set(drawn[2 * n :])) == len(drawn) - 2 * n


def test_summed_plan_has_one_kind_on_all_rows_any_task_labels():
    rows = make_rows(50, seed=0)
    rows.labels["click"][:10] = np.nan
    plan = make_plan(rows, CLICK, WATCH, summed=True)
    assert set(plan.sizes) == {EVERY}
    np.testing.assert_array_equal(rows_of(plan.orders(0, 1)[EVERY]), np.arange(10, 50))


@pytest.mark.parametrize("devices", [1, 6])
def test_batches_divide_over_the_devices(devices):
    rows = make_rows(200, seed=0)
    plan = make_plan(rows, CLICK, WATCH, batch_size=40, devices=devices)
    resident = Plan(rows, named(CLICK, WATCH), 40, devices=devices)
    assert plan.sizes == resident.sizes
    assert all(size % devices == size % 8 == 0 for size in plan.sizes.values())
    one = make_plan(rows, CLICK, WATCH, batch_size=40).orders(0, 1)
    for kind, order in plan.orders(0, 1).items():
        for split, whole in zip(order, one[kind], strict=True):
            np.testing.assert_array_equal(split[split >= 0], whole[whole >= 0])


def test_joint_tasks_rows_are_found_without_their_labels_being_stored():
    rows = make_rows(60, seed=0)
    rows.labels["click"][:10] = np.nan
    joint = joint_task(WATCH)
    plan = LargePlan(make_schema(), rows, {"watch": joint}, 16)
    labels = with_joint(make_schema(), rows.labels)
    expected = np.flatnonzero(joint.inside(labels))
    np.testing.assert_array_equal(rows_of(plan.orders(0, 1)["watch"]), expected)


@pytest.mark.parametrize("batch_size", [0, 101])
def test_batch_that_does_not_fit_the_log_is_refused(batch_size):
    message = f"batch size {batch_size} does not fit 100 training rows; use 1 … 100"
    with pytest.raises(ValueError, match=message):
        make_plan(make_rows(100, seed=0), CLICK, batch_size=batch_size)


@pytest.mark.parametrize("summed", [False, True])
def test_task_without_a_labelled_row_is_refused(summed):
    rows = make_rows(20, seed=0)
    rows.labels["click"][:] = 0
    with pytest.raises(ValueError, match="'watch' has no labelled training row"):
        make_plan(rows, CLICK, WATCH, summed=summed)


# The columns on disk


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A split of 300 rows on disk: its folder, and the rows that were written."""
    folder, rows = tmp_path_factory.mktemp("blocks") / "train", make_rows(300, seed=7)
    cut = lambda start, stop: jax.tree.map(lambda column: column[start:stop], rows)
    write_split(folder, 300, (cut(a, b) for a, b in ((0, 130), (130, 131), (131, 300))))
    return folder, rows


def test_mapped_rows_are_those_written(split):
    folder, rows = split
    mapped = open_split(folder, make_schema(), 300)
    assert_same_bits(mapped, rows)
    assert isinstance(mapped.ids, np.memmap)


@pytest.mark.parametrize("promised", [299, 301])
def test_blocks_of_another_number_of_rows_are_refused(tmp_path, promised):
    blocks = [make_rows(150, seed=0), make_rows(150, seed=1)]
    with pytest.raises(ValueError, match=f"300 rows.*promised {promised}"):
        write_split(tmp_path / "train", promised, blocks)


def test_truncated_file_is_named(tmp_path):
    write_split(tmp_path / "train", 50, [make_rows(50, seed=0)])
    path = tmp_path / "train" / "label.2.npy"  # of click, like, watch
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"label\.2\.npy: .*to prepare it again"):
        open_split(tmp_path / "train", make_schema(), 50)


# Chunks, gathered ahead


BOUNDS = ((0, 5), (5, 10), (10, 14), (14, 19))


def read(plan, train, bounds=BOUNDS, seed=3, epoch=1):
    return list(read_chunks(plan, train, seed, epoch, bounds))


def test_chunks_from_disk_hold_the_rows_of_the_orders_whole(split):
    folder, rows = split
    mapped = open_split(folder, make_schema(), 300)
    plan = make_plan(rows, CLICK, WATCH)
    assert plan.steps == BOUNDS[-1][1]
    for chunk, bounds in zip(read(plan, mapped), BOUNDS, strict=True):
        assert (chunk.start, chunk.stop) == bounds
        assert_same_bits(chunk.numbers, plan.orders(3, 1, *bounds))
        for kind, order in chunk.numbers.items():
            batches = jax.tree.map(np.asarray, chunk.steps[kind])
            np.testing.assert_array_equal(batches.valid, order >= 0)
            held = jax.tree.map(lambda c, at=order >= 0: c[at], batches.rows)
            wanted = order[order >= 0]
            assert_same_bits(held, jax.tree.map(lambda c, at=wanted: c[at], rows))


@pytest.mark.parametrize("place", [lambda rows: rows, jax.device_put])
def test_chunks_of_a_small_plan_number_the_same_rows_from_anywhere(split, place):
    rows = split[1]
    plan = Plan(rows, named(CLICK, WATCH), 16)
    chunks = read(plan, place(rows))
    whole = plan.orders(3, 1)
    for kind, order in whole.items():
        parts = [chunk.numbers[kind] for chunk in chunks]
        np.testing.assert_array_equal(np.concatenate(parts), order)


def test_batches_go_where_they_are_placed(split):
    """A mesh brings its own way of splitting them."""
    plan, rows = make_plan(split[1], CLICK), split[1]
    place = lambda given, orders: (given is rows, sorted(orders))
    chunks = list(read_chunks(plan, rows, 3, 1, BOUNDS, place))
    assert [chunk.steps for chunk in chunks] == [(True, ["click"])] * len(BOUNDS)


def test_chunks_of_equal_steps_have_equal_shapes(split):
    """Else every chunk would compile its own program."""
    plan = make_plan(split[1], CLICK, WATCH, batch_size=17)
    bounds = [(at, at + 3) for at in range(0, plan.steps - 2, 3)]
    shapes = {
        str(jax.tree.map(lambda column: column.shape, chunk.steps))
        for chunk in read(plan, split[1], bounds)
    }
    assert len(shapes) == 1


def test_training_from_disk_gives_the_bits_of_training_from_memory(split):
    folder, rows = split
    setup = make_setup()
    epoch, plan = make_epoch(setup), make_plan(rows, CLICK, WATCH)
    ends = []
    for train in (jax.device_put(rows), open_split(folder, make_schema(), 300)):
        state = make_init(setup)(jax.random.key(0))
        masks = dense_masks(setup, state.net)
        gates, losses = make_gates(setup, state.net, masks), []
        for chunk in read(plan, train, BOUNDS[:2]):  # of one length: one program each
            assert (chunk.rows is None) == isinstance(train.ids, np.memmap)
            state, means = epoch(state, masks, gates, chunk.rows, chunk.steps)
            losses.append(means)
        ends.append((state.tables, state.net, losses))
    assert_same_bits(ends[0], ends[1])
    assert all(np.isfinite(loss["click"]).all() for loss in ends[0][2])


# The thread


def test_items_come_in_order_and_the_next_is_made_while_one_is_used():
    made, two = [], threading.Event()

    def numbers():
        for number in range(5):
            made.append(number)
            if number == 1:
                two.set()
            yield number

    items = prefetch(numbers())
    assert next(items) == 0
    assert two.wait(10)  # made though nobody asked for it
    time.sleep(0.05)
    assert made == [0, 1]  # and no third
    assert list(items) == [1, 2, 3, 4]
    assert not prefetching()


def test_error_of_the_reader_reaches_the_caller_in_its_turn():
    def broken():
        yield 1
        yield 2
        raise OSError("block 3 is torn")

    items = prefetch(broken())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="block 3 is torn"):
        next(items)
    assert not prefetching()


def test_error_while_gathering_reaches_whoever_trains(split):
    plan = make_plan(split[1], CLICK)
    short = jax.tree.map(lambda column: column[:200], split[1])
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 200"):
        read(plan, short)
    assert not prefetching()


def test_stopping_early_leaves_no_thread_and_makes_nothing_more(split):
    made = []

    def forever():
        while True:
            made.append(len(made))
            yield made[-1]

    with contextlib.closing(prefetch(forever())) as items:
        assert next(items) == 0
        assert prefetching()
    assert not prefetching()
    assert made == [0, 1]
    plan = make_plan(split[1], CLICK)

    def stopped():
        with contextlib.closing(read_chunks(plan, split[1], 0, 1, BOUNDS)) as chunks:
            for _ in chunks:
                raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        stopped()
    assert not prefetching()


def test_nothing_to_read_starts_and_ends():
    assert list(prefetch([])) == []
    prefetch([1]).close()
    assert not prefetching()
