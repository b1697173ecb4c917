"""Rates and weights are arguments of a program: a tuner's trials share it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, make_rows, make_setup

from jaxmtl.data.batches import Plan
from jaxmtl.training import feed, inference, train, train_state
from jaxmtl.training.spec import Conflict

KEY = jax.random.key(0)


def make(
    rate=0.02, decay=0.0, click=1.0, factor=5.0, positive=3.0, tables=None, **changes
):
    """A training with every number that there is."""
    settings = {
        "tasks": ("click", "like"),
        "task_losses": {"click": "log", "like": "log"},
        "learning_rate": rate,
        "weight_decay": decay,
        "table_learning_rate": tables,
        "task_weights": {"click": click},
        "positive_weights": {"click": positive, "like": 1.0},
        "conflict": Conflict("like", factor, 0.1),
        "summed": True,
        "masked": False,
    }
    return make_setup(**settings | changes)


CHANGES = {
    "learning rate": {"rate": 0.005},
    "table learning rate": {"tables": 0.3},
    "weight decay": {"decay": 0.1},
    "task weight": {"click": 4.0},
    "conflict": {"factor": 2.0},
    "positive weight": {"positive": 9.0},
}


def one_step(setup):
    """The state and losses after an epoch of one step, and the same without numbers."""
    rows = jax.tree.map(jnp.asarray, make_rows(40, seed=1))
    state = train_state.make_init(setup)(KEY)
    dense = train_state.dense_masks(setup, state.net)
    gates = train_state.make_gates(setup, state.net, dense)
    orders = Plan(rows, setup.learned, 40, summed=True).orders(0, 1)
    given = dense, gates, rows, orders
    return train.make_epoch(setup)(jax.tree.map(jnp.copy, state), *given), state, given


def test_setups_that_differ_in_numbers_train_and_predict_through_one_program():
    setups = [make(), *(make(**change) for change in CHANGES.values())]
    program = train.make_epoch(setups[0]).func.function
    before, ends = program._cache_size(), []
    for setup in setups:
        assert train.make_epoch(setup).func.function is program
        (state, _), _, (dense, _, rows, _) = one_step(setup)
        snapshot = train_state.snapshot_of(state)
        predicted = inference.predict_all(setup, snapshot, dense, rows, chunk=40)
        ends.append((jax.device_get(snapshot), predicted))
    assert program._cache_size() == before + 1
    spec = setups[0].spec
    assert inference.predict_program(spec.net, spec.output)._cache_size() == 1
    for name, (snapshot, predicted) in zip(CHANGES, ends[1:], strict=True):
        differs = jax.tree.map(lambda a, b: bool((a != b).any()), snapshot, ends[0][0])
        assert any(jax.tree.leaves(differs)), f"the {name} changes nothing"
        assert (predicted["click"] != ends[0][1]["click"]).any(), name


def test_a_program_with_numbers_as_arguments_equals_one_that_holds_them():
    setup = make(0.005, 0.1, 4.0, 2.0, 9.0, 0.3)
    (after, losses), state, (dense, gates, rows, orders) = one_step(setup)
    batch = feed.take(rows, orders["all"][0])
    step = jax.jit(
        lambda state: train.make_step(setup.spec, "all")(
            state, setup.numbers, dense, gates["all"], batch
        )
    )
    expected, expected_losses = step(state)
    assert_close(jax.tree.map(lambda x: x[0], losses), expected_losses, rtol=1e-6)
    assert_close(after, expected, rtol=1e-5, atol=1e-7)


def test_equal_specs_hash_alike_and_hold_no_number():
    setup, other = make(), make(0.005, 0.1, 4.0, 2.0, 9.0, 0.3)
    assert setup.spec == other.spec and hash(setup.spec) == hash(other.spec)
    assert setup.numbers != other.numbers and setup.start != other.start


@pytest.mark.parametrize(
    "change",
    [
        {"positive_weights": (("click", 1.0),)},
        {"conflict": None},
        {"conflict": Conflict("like", 5.0, 0.5)},
        {"tables": "sgd"},
        {"precision": "bfloat16"},
    ],
)
def test_what_changes_the_program_is_part_of_its_spec(change):
    others = {} if "tables" in change else change
    other = make(**others) if others else make().with_step(**change)
    assert other.spec != make().spec


def test_tables_follow_the_nets_rate_unless_they_have_their_own():
    assert make(0.02).start.table_learning_rate == 0.02
    assert make(0.02, tables=0.3).start.table_learning_rate == 0.3
    frozen = make(0.02, tables=0.0)
    (after, _), state, _ = one_step(frozen)
    before, after = (s.tables["shared"].rows for s in (state, after))
    np.testing.assert_array_equal(before, after)
