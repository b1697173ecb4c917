"""A net computed in bfloat16 over weights, moments, tables and losses in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_rows, make_setup
from nets import NETS
from trainings import forward

from jaxmtl import metrics
from jaxmtl.data.batches import Plan
from jaxmtl.layers.crossing import Crossing
from jaxmtl.training import inference, train, train_state

KEY = jax.random.key(0)
CROSSES = ("elementwise", "inner", "none", "dcn", "cin", "crnn")


def make(precision, architecture="shared_trunk", cross="inner"):
    options = NETS[architecture]
    return make_setup(
        tasks=("click", "like"),
        task_losses={"click": "log", "like": "log"},
        architecture=options,
        crossing=Crossing(cross, depth=2, maps=2, hidden=3),
        spaces=getattr(options, "spaces", "own"),
        summed=True,
        masked=False,
        precision=precision,
    )


EVERY = [(name, "inner") for name in NETS]
EVERY += [("shared_trunk", cross) for cross in CROSSES if cross != "inner"]


def products(setup) -> list[str]:
    """The products of forward and backward pass, as the compiler is given them."""
    features = train_state.features_like(setup, rows=7)
    net = jax.eval_shape(lambda: train_state.init_net(setup, KEY))

    def total(net, features):
        found = forward(setup, net, {}, features, setup.tasks)
        dtypes = [jnp.asarray(x).dtype for x in jax.tree.leaves(found)]
        assert set(dtypes) == {jnp.dtype("float32")}
        return sum(jnp.sum(x) for x in jax.tree.leaves(found))

    gradient = jax.grad(total, argnums=(0, 1))
    slopes = jax.eval_shape(gradient, net, features)
    assert {x.dtype for x in jax.tree.leaves(slopes)} == {jnp.dtype("float32")}
    program = jax.jit(gradient).lower(net, features).as_text()
    found = [line for line in program.splitlines() if "dot_general" in line]
    assert found
    return found


@pytest.mark.parametrize(("architecture", "cross"), EVERY)
def test_every_product_is_in_bfloat16_and_what_comes_out_in_float32(
    architecture, cross
):
    lines = products(make("bfloat16", architecture, cross))
    assert all("xbf16>" in line and "f32" not in line for line in lines)


@pytest.mark.parametrize(("architecture", "cross"), EVERY)
def test_no_product_in_float32_is_left_to_an_accelerators_default(architecture, cross):
    lines = products(make("float32", architecture, cross))
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in lines)


@functools.cache
def trained(precision, epochs=6):
    """State, losses and predictions for fresh rows after some epochs."""
    setup, rows = make(precision), make_rows(2_000, seed=1)
    state = train_state.make_init(setup)(KEY)
    dense = train_state.dense_masks(setup, state.net)
    gates = train_state.make_gates(setup, state.net, dense)
    plan = Plan(rows, setup.learned, 100, summed=True)
    on_device = jax.tree.map(jnp.asarray, rows)
    for epoch in range(1, epochs + 1):
        state, losses = train.make_epoch(setup)(
            state, dense, gates, on_device, plan.orders(0, epoch)
        )
    fresh = jax.tree.map(jnp.asarray, make_rows(4_000, seed=2))
    snapshot = train_state.snapshot_of(state)
    predicted = inference.predict_all(setup, snapshot, dense, fresh, chunk=4_000)
    return state, losses, predicted, fresh, snapshot


def test_whatever_training_keeps_stays_in_float32():
    state, losses, predicted, _, _ = trained("bfloat16")
    fresh = train_state.make_init(make("bfloat16"))(KEY)
    kinds = lambda tree: jax.tree.map(lambda x: x.dtype, tree)
    assert kinds(state) == kinds(fresh)
    assert {x.dtype for x in losses.values()} == {jnp.dtype("float32")}
    assert {x.dtype for x in predicted.values()} == {np.dtype("float32")}
    for x in (*jax.tree.leaves(state.net), state.tables["shared"].rows):
        rounded = x.astype(jnp.bfloat16).astype(jnp.float32)
        assert (x != rounded).mean() > 0.5  # updates below bfloat16's steps survive


def test_predictions_in_bfloat16_are_those_in_float32_to_its_rounding():
    """Eight bits of a number: half a step is 2^-9 of it, and there are two layers."""
    _, _, expected, rows, snapshot = trained("float32")
    setup = make("bfloat16")
    dense = dict.fromkeys(setup.tasks)
    found = inference.predict_all(setup, snapshot, dense, rows, chunk=4_000)
    logit = lambda p: np.log(p) - np.log1p(-p)
    off = logit(found["click"]) - logit(expected["click"])
    assert 0 < np.abs(off).max() < 2**-5 * np.abs(logit(expected["click"])).max()
    assert np.sqrt(np.mean(off**2)) < 2**-7 * np.std(logit(expected["click"]))


def test_training_in_bfloat16_learns_as_much():
    scores = {}
    for precision in ("float32", "bfloat16"):
        _, _, predicted, rows, _ = trained(precision)
        click = np.asarray(rows.labels["click"])
        scores[precision] = metrics.auc(click, predicted["click"]).value
    best = metrics.auc(click, np.asarray(rows.extras["truth.click"])).value
    assert scores["float32"] > 0.8 * best + 0.2 * 0.5
    assert abs(scores["bfloat16"] - scores["float32"]) < 0.01
