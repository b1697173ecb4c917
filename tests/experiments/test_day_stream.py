"""A log day by day: what was known then, and batches of one shape in time order."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import make_rows, make_schema, make_setup
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.daily.day_stream import DayPlans, DayStream, ids_known_before
from experiments.settings.config import Config, TrainingConfig
from jaxmtl.data.store import Dataset
from jaxmtl.types import Field, Schema, Task, Vocabulary

ROWS_OF_DAYS = (90, 100, 80, 70, 60)
CONFIG = Config(training=TrainingConfig(batch_size=32))


def make_data(day=None) -> Dataset:
    """The planted log with days: three to train on, one each to validate and test."""
    counts = (sum(ROWS_OF_DAYS[:3]), *ROWS_OF_DAYS[3:])
    day = np.repeat(np.arange(5), ROWS_OF_DAYS) if day is None else day
    schema = make_schema()
    schema = dataclasses.replace(schema, extras=(*schema.extras, "day"))
    splits, at = {}, 0
    for number, (name, n) in enumerate(
        zip(("train", "validation", "test"), counts, strict=True)
    ):
        rows = make_rows(n, seed=number)
        days = day[at : at + n].astype(np.float32)
        splits[name] = rows._replace(extras={**rows.extras, "day": days})
        at += n
    return Dataset(schema, splits, {}, (), "planted")


@pytest.fixture(scope="module")
def stream():
    return DayStream(make_data())


@pytest.fixture(scope="module")
def plans(stream):
    return DayPlans(stream, CONFIG, make_setup(schema=stream.data.schema))


PAIR = Schema(
    name="pair",
    fields=(Field("user", "users"), Field("seen", "items", 2), Field("item", "items")),
    vocabularies=(Vocabulary("users", 5), Vocabulary("items", 7)),
    tasks=(Task("click"), Task("buy", space="click")),
    ctr="click",
    cvr="buy",
    user="user",
    item="item",
)


def test_an_id_is_unknown_until_the_day_after_its_first():
    ids = np.array([[1, 2, -1, 3], [1, 3, -1, 4], [2, 4, 5, 2], [1, -1, -1, 5]])
    known = ids_known_before(PAIR, ids.astype(np.int32), np.array([0, 0, 1, 2]))
    # Of day 0 nothing is known; 3 and 4 as items make them known as videos seen.
    expected = [[0, 0, -1, 0], [0, 0, -1, 0], [0, 4, 0, 2], [1, -1, -1, 5]]
    np.testing.assert_array_equal(known, expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_what_is_known_agrees_with_looking_through_all_earlier_rows(seed, n):
    rng = np.random.default_rng(seed)
    ids = np.column_stack([rng.integers(0, 5, n), rng.integers(-1, 7, (n, 3))])
    ids[:, 3] = np.maximum(ids[:, 3], 0)
    day = np.sort(rng.integers(0, 4, n))
    given_ids = ids.astype(np.int32)
    known = ids_known_before(PAIR, given_ids, day)
    for row in range(n):
        users = set(ids[day < day[row], 0])
        items = set(ids[day < day[row], 1:].ravel())
        for column in range(4):
            x, seen = ids[row, column], users if column == 0 else items
            assert known[row, column] == (x if x == -1 or x in seen else 0)
    np.testing.assert_array_equal(given_ids, ids)  # what was given is as it was


def test_the_days_are_the_splits_in_their_order(stream):
    data, whole = stream.data, stream.on_device
    assert stream.days == (0, 1, 2, 3, 4)
    assert whole.num_rows == sum(ROWS_OF_DAYS)
    np.testing.assert_array_equal(
        whole.ids[stream.span([3])], data.splits["validation"].ids
    )
    np.testing.assert_array_equal(
        stream.labels(4)["click"], data.splits["test"].labels["click"]
    )
    part = stream.until([1, 2])
    assert part.splits["train"].num_rows == 180 and part.fingerprint != data.fingerprint
    np.testing.assert_array_equal(
        part.splits["train"].ids, data.splits["train"].ids[90:]
    )


def test_a_day_is_shown_as_the_days_before_it_knew_it(stream):
    assert (np.asarray(stream.before(0).ids) <= 0).all()
    raw = np.asarray(stream.on_device.ids[stream.span([1])])
    shown = np.asarray(stream.before(1).ids)
    assert ((shown == raw) | (shown == 0)).all()
    unseen, user = stream.unseen(1), stream.data.schema.column("user")
    assert unseen["user"] == pytest.approx((shown[:, user] == 0).mean())
    assert stream.unseen(0)["any"] == 1
    assert unseen["any"] >= max(unseen["user"], unseen["item"])


def test_every_row_of_a_day_is_dealt_once_and_all_days_alike(stream, plans):
    shapes = set()
    for day in stream.days:
        orders = plans.orders(day, seed=0, epoch=1)
        shapes.add(tuple((kind, order.shape) for kind, order in orders.items()))
        at = stream.span([day])
        click = np.sort(orders["click"][orders["click"] >= 0])
        np.testing.assert_array_equal(click, np.arange(at.start, at.stop))
        watched = np.flatnonzero(stream.labels(day)["click"]) + at.start
        watch = np.sort(orders["watch"][orders["watch"] >= 0])
        np.testing.assert_array_equal(watch, watched)
    assert len(shapes) == 1


def test_a_window_goes_through_its_days_in_time_order(stream, plans):
    window = plans.window([1, 2])
    order = window.orders(0, 1)["click"]
    assert order.shape[0] == window.steps == 2 * plans.steps
    day = np.asarray(stream.on_device.extras["day"])
    days = [set(day[step[step >= 0]]) for step in order]
    assert set.union(*days[: plans.steps]) == {1}
    assert set.union(*days[plans.steps :]) == {2}
    assert window.rows["click"] == 180
    other = window.orders(0, 2)["click"]
    assert (other != order).any()


def test_a_log_without_days_or_out_of_order_is_refused():
    data = make_data()
    schema = dataclasses.replace(data.schema, extras=("duration", "truth.click"))
    with pytest.raises(ValueError, match="does not say on which day"):
        DayStream(dataclasses.replace(data, schema=schema))
    mixed = np.random.default_rng(0).permutation(np.repeat(np.arange(5), ROWS_OF_DAYS))
    with pytest.raises(ValueError, match="not in the order of their days"):
        DayStream(make_data(mixed))


def test_a_part_leaves_the_log_as_it_was(stream):
    before = jax.tree.map(np.array, stream.data.splits["train"])
    stream.until([0])
    jax.tree.map(np.testing.assert_array_equal, before, stream.data.splits["train"])


def test_the_first_days_are_all_that_their_log_holds(stream):
    first = stream.first(3)
    assert set(first.splits) == {"train", "validation"}  # and no test
    days = {name: set(rows.extras["day"]) for name, rows in first.splits.items()}
    assert days == {"train": {0, 1}, "validation": {2}}
    shown = np.asarray(stream.before(2).ids)
    np.testing.assert_array_equal(first.splits["validation"].ids, shown)
    assert first.fingerprint not in (stream.data.fingerprint, stream.first(2))


def test_nothing_of_the_first_days_depends_on_a_later_one(stream):
    data, first = stream.data, stream.first(3)
    ruin = lambda column: np.full_like(column, -1 if column.dtype == np.int32 else 9)
    later = {name: data.splits[name] for name in ("validation", "test")}
    later = {
        name: jax.tree.map(ruin, rows)._replace(extras=rows.extras)
        for name, rows in later.items()
    }
    ruined = dataclasses.replace(data, splits=data.splits | later)
    found = DayStream(ruined).first(3)
    jax.tree.map(np.testing.assert_array_equal, found.splits, first.splits)
    assert found.rates == first.rates
