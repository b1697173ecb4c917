"""A step whose numbers go wrong moves nothing and is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup
from trainings import step_of

from jaxmtl.data.batches import EVERY
from jaxmtl.training import feed, guard, train_state


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_one_number_that_is_not_finite_makes_a_step_unsound(number, where):
    loss, gradient = jnp.asarray(0.5), jnp.ones((3, 4))
    assert guard.is_sound({"click": loss}, [gradient, loss])
    if where == "loss":
        loss = jnp.asarray(number)
    else:
        gradient = gradient.at[2, 3].set(number)
    assert not guard.is_sound({"like": 0.1, "click": loss}, [jnp.ones(2), gradient])


def test_a_gradient_is_unsound_from_where_its_squares_overflow():
    assert guard.is_sound({"click": 0.0}, jnp.asarray([1e19]))
    assert not guard.is_sound({"click": 0.0}, jnp.asarray([2e19]))


def test_an_unsound_step_is_told_by_its_losses():
    """The one that is not finite, or all where it was a gradient."""
    loss = {"click": jnp.asarray(0.5), "watch": jnp.asarray(np.inf)}
    assert guard.flagged(loss, jnp.asarray(False)) == loss
    loss["watch"] = jnp.asarray(0.25)
    assert guard.flagged(loss, jnp.asarray(True)) == loss
    flagged = guard.flagged(loss, jnp.asarray(False))
    assert all(np.isnan(value) for value in flagged.values())


def test_bad_steps_come_in_the_order_they_were_taken():
    """Tasks alternate as the setup names them, whatever their alphabet."""
    losses = {"a": np.array([1, np.nan, 1]), "b": np.array([1, np.inf, np.nan])}
    kinds = {"b": ("b",), "a": ("a",)}
    found = guard.bad_steps(losses, kinds)
    assert found == [(1, "b", "b"), (1, "a", "a"), (2, "b", "b")]
    assert guard.bad_steps(losses, {EVERY: ("a", "b")}) == [
        (1, EVERY, "a"),
        (2, EVERY, "b"),
    ]


@pytest.mark.parametrize(
    "changes",
    [{"moving": "per_task"}, {"moving": "leaky", "summed": True}],
    ids=["per_task", "leaky sum"],
)
def test_a_step_on_a_bad_batch_moves_nothing_to_the_bit(changes):
    """Good, bad, good ends as good, good does, moments and bias corrections too."""
    setup = make_setup(**changes)
    setup = setup.with_start(weight_decay=0.1)
    kind = next(iter(setup.kinds))
    state = train_state.make_init(setup)(jax.random.key(0))
    dense = train_state.dense_masks(setup, state.net)
    gates = train_state.make_gates(setup, state.net, dense)[kind]
    rows = jax.tree.map(jnp.asarray, make_rows(48, seed=1))
    good = [feed.take(rows, jnp.arange(at, at + 16)) for at in (0, 16)]
    bad = feed.take(rows, jnp.arange(32, 48))
    numeric = bad.rows.numeric.at[3].set(jnp.nan)
    bad = bad._replace(rows=bad.rows._replace(numeric=numeric))
    step = jax.jit(step_of(setup, kind))

    def run(batches):
        now, losses = state, []
        for batch in batches:
            now, loss = step(now, dense, gates, batch)
            losses.append(np.stack(list(loss.values())))
        return now, losses

    expected, _ = run(good)
    got, losses = run([good[0], bad, good[1]])
    assert int(got.step) == 3  # the position in the data goes on
    assert_same_bits(got._replace(step=expected.step), expected)
    assert [bool(np.isfinite(loss).all()) for loss in losses] == [True, False, True]
    assert (got.net["shared"]["layer00"]["bias"] != 0).any()
