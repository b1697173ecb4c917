"""Own embeddings for any task, read by any: a stack learns from its own task alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from stem import Stem

from jaxmtl.data.batches import Plan
from jaxmtl.layers.crossing import Crossing
from jaxmtl.optim.optimisers.sgd import Sgd
from jaxmtl.training import feed, inference, resume, train, train_state
from jaxmtl.training.fit import fit

KEY = jax.random.key(0)
NUMPY_ROWS = make_rows(48, seed=1)
ROWS = jax.tree.map(jnp.asarray, NUMPY_ROWS)
BATCH = feed.take(ROWS, jnp.arange(24))
TASKS = ("click", "watch", "like")
DIMS = {"click": 3, "watch": 2, "like": 1}
SOME = {"click": 3, "like": 1}
"""Watching has none, and reads theirs."""


def make(options=None, **changes):
    """Plain descent by 1: what moved is minus the gradient."""
    settings = {
        "architecture": options or Stem(),
        "crossing": Crossing("none"),
        "dim": 2,
        "tasks": TASKS,
        "own_dims": DIMS,
        "masked": False,
        "optimiser": Sgd(),
        "tables": "sgd",
        "learning_rate": 1.0,
        "task_losses": {"click": "log", "watch": "squared", "like": "log"},
    }
    return make_setup(**settings | changes)


def start(setup):
    return train_state.make_init(setup)(KEY)


@functools.cache
def program(spec, kind):
    return jax.jit(train.make_step(spec, kind))


def step(setup, state, kind="all", batch=BATCH):
    dense = dict.fromkeys(setup.tasks)
    gates = train_state.make_gates(setup, state.net, dense)[kind]
    return program(setup.spec, kind)(state, setup.numbers, dense, gates, batch)


def rows_of(state):
    return {stack: np.asarray(table.rows) for stack, table in state.tables.items()}


def fields(rows, ids):
    """Pooled embeddings of a stack [batch, fields · width], a field at a time."""
    pick = lambda column, first: rows[ids[:, column] + first]
    tags = ids[:, 2:5]
    found = jnp.where((tags >= 0)[..., None], rows[tags + 52], 0).sum(1)
    mean = found / jnp.maximum((tags >= 0).sum(1), 1)[:, None]
    parts = [pick(0, 0), pick(1, 21), mean, pick(5, 21)]
    return jnp.stack(parts, 1).reshape(len(ids), -1)


def own_loss(tables, net, task):
    """The mean loss of a task over its rows, written out over whole tables."""
    ids, label = BATCH.rows.ids, BATCH.rows.labels[task]
    stacks = ["shared", *sorted(set(tables) - {"shared"})]
    vector = jnp.concatenate([fields(tables[stack], ids) for stack in stacks], 1)
    logit = (vector @ net["tasks"][task]["head"]["kernel"])[:, 0]
    p = jax.nn.sigmoid(logit * net["shared"]["scale"]["bias"])
    log_loss = -jnp.log(jnp.where(label > 0, p, 1 - p))
    each = jnp.square(p - label) if task == "watch" else log_loss
    clicked = BATCH.rows.labels["click"]
    inside = jnp.ones_like(label) if task == "click" else clicked
    return jnp.sum(each * inside) / jnp.sum(inside)


def gradients(state):
    """Task -> the gradient of its own loss by all tables, whoever may follow it."""
    tables = {stack: table.rows for stack, table in state.tables.items()}
    of = lambda task: jax.grad(own_loss)(tables, state.net, task)
    return jax.jit(lambda: {task: of(task) for task in TASKS})()


@pytest.mark.parametrize("dims", [DIMS, SOME], ids=["all", "some"])
def test_a_stack_moves_by_its_own_tasks_loss_and_the_shared_one_by_all(dims):
    """In a weighted sum; every task reads every stack."""
    weights = {"click": 2.0, "watch": 3.0, "like": 5.0}
    setup = make(summed=True, task_weights=weights, own_dims=dims)
    before = start(setup)
    after, _ = step(setup, before)
    assert set(after.tables) == {"shared", *dims}
    each = gradients(before)
    moved = {s: rows_of(before)[s] - rows_of(after)[s] for s in before.tables}
    total = sum(weights[task] * each[task]["shared"] for task in TASKS)
    np.testing.assert_allclose(moved["shared"], total, rtol=1e-3, atol=1e-5)
    for task in dims:
        expected = weights[task] * each[task][task]
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(moved[task], expected, rtol=1e-3, atol=1e-5)
        others = [each[other][task] for other in TASKS if other != task]
        assert all(np.abs(g).max() > 1e-4 for g in others)  # what the stop keeps out


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_step_of_one_task_moves_its_own_stack_and_the_shared_one(task, stops):
    """By turns the stacks of others stay to the bit, also where nothing stops."""
    setup = make(Stem(stops=stops))
    before = start(setup)
    after, _ = step(setup, before, task)
    expected = gradients(before)[task]
    for stack in before.tables:
        old, new = rows_of(before)[stack], rows_of(after)[stack]
        if stack in ("shared", task):
            np.testing.assert_allclose(old - new, expected[stack], rtol=1e-3, atol=1e-5)
            assert (old != new).any()
        else:
            assert np.abs(expected[stack]).max() > 1e-4
            np.testing.assert_array_equal(old, new)


def met(ids):
    """Rows of a stack that some ids of the planted log name."""
    first = np.array([0, 21, 52, 52, 52, 21])
    return np.unique((ids + first)[ids >= 0])


@pytest.mark.parametrize("stops", [True, False])
def test_a_stack_moves_and_ages_on_its_own_tasks_rows_alone(stops):
    """Rows that were not clicked are of no account to liking and watching."""
    setup = make(Stem(stops=stops), summed=True, tables="lazy_adam")
    before, ids = start(setup), np.asarray(BATCH.rows.ids)
    after, _ = step(setup, before)
    clicked = ids[np.asarray(BATCH.rows.labels["click"]) > 0]
    assert 0 < len(met(clicked)) < len(met(ids))
    for stack, seen in {
        "shared": ids,
        "click": ids,
        "watch": clicked,
        "like": clicked,
    }.items():
        table = after.tables[stack]
        _, slots = table.unpack(jnp.asarray(table.packed))
        np.testing.assert_array_equal(np.flatnonzero(slots["count"]), met(seen))
        moved = np.any(rows_of(before)[stack] != rows_of(after)[stack], axis=1)
        assert set(np.flatnonzero(moved)) <= set(met(seen))


def test_where_nothing_stops_a_stack_learns_from_all_that_read_it():
    setup = make(Stem(stops=False), summed=True)
    before = start(setup)
    after, _ = step(setup, before)
    total = sum(g["click"] for g in gradients(before).values())
    moved = rows_of(before)["click"] - rows_of(after)["click"]
    np.testing.assert_allclose(moved, total, rtol=1e-3, atol=1e-5)


def test_an_auxiliary_loss_reaches_net_and_stacks_with_weight_one():
    """Twice the weight of the mean square, twice what it adds to a step."""
    ends = []
    for weight in (0.0, 0.5, 1.0):
        setup = make(Stem(auxiliary=weight), summed=True)
        after, losses = step(setup, start(setup))
        ends.append((after.net, rows_of(after)))
        assert set(losses) == set(TASKS)  # it is no task's
    plain, half, full = ends
    added = [
        jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), end, plain)
        for end in (half, full)
    ]
    assert all(np.any(leaf) for leaf in jax.tree.leaves(added[0]))
    twice = jax.tree.map(lambda x: 2 * x, added[0])
    assert_close(added[1], twice, rtol=1e-2, atol=1e-5)


def test_predictions_read_all_stacks():
    setup = make(own_dims=SOME)
    state, dense = start(setup), dict.fromkeys(TASKS)
    snapshot = train_state.snapshot_of(state)
    before = inference.predict_all(setup, snapshot, dense, ROWS)
    tables = snapshot.tables | {"like": snapshot.tables["like"] + 1}
    after = inference.predict_all(setup, snapshot._replace(tables=tables), dense, ROWS)
    assert all((before[task] != after[task]).any() for task in TASKS)


def test_a_training_with_stacks_for_all_tasks_resumes_to_the_same_bits(tmp_path):
    setup = make(tables="lazy_adam", learning_rate=0.02)

    def run(keeper=None):
        return fit(
            setup,
            start(setup),
            dict.fromkeys(TASKS),
            plan=Plan(NUMPY_ROWS, setup.learned, 24),
            train=ROWS,
            validation=ROWS,
            seed=0,
            epochs=2,
            patience=2,
            keeper=keeper,
            chunk=1,
        )

    expected, said = run(), []
    for _ in range(4):
        keeper = resume.Folder(
            tmp_path / "kept", setup, wants_stop=lambda: True, say=said.append
        )
        with pytest.raises(resume.Stopped):
            run(keeper)
    result = run(resume.Folder(tmp_path / "kept", setup, say=said.append))
    assert not said and result.history == expected.history
    assert_same_bits(result.best, expected.best)
    assert set(result.best.tables) == {"shared", *TASKS}


def test_a_net_that_depends_on_its_tasks_is_not_restarted_from_another():
    """Alone, a task reads its own stack: its head is shorter than among the others."""
    snapshot = train_state.snapshot_of(start(make()))
    alone = make(tasks=("watch",), own_dims={"watch": 2})
    with pytest.raises(
        ValueError, match=r"tasks/watch/head/kernel .*\(32, 1\).*\(16, "
    ):
        train_state.restart(alone, KEY, snapshot)
