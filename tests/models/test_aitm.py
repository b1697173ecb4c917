"""AITM against its equations: transfer along the funnel, and the calibrator."""

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from oracles import (
    FUNNEL,
    dense,
    draw_features,
    draw_like,
    flattened,
    float64,
    mlp,
    sigmoid,
    softmax,
)

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models.aitm import Transfer
from jaxmtl.types import Task

BRANCHING = (
    Task("click"),
    Task("like", space="click"),
    Task("buy", space="click"),
    Task("return", space="buy"),
    Task("hide"),
)


def make(tasks=FUNNEL, weight=0.6):
    options = models.Aitm(hidden=(5, 3), calibrator_weight=weight)
    model, features = models.make(options, tasks, Crossing("none")), draw_features()
    return model, features, draw_like(model.init, features)


def transfer_oracle(parts, before, own):
    """z of one row: attention over what is passed on and what the tower says."""
    inputs = [np.maximum(dense(before, parts["info"]), 0), own]
    scores = [
        dense(u, parts["h2"]) @ dense(u, parts["h3"]) / np.sqrt(len(own))
        for u in inputs
    ]
    weights = softmax(np.array(scores))
    return sum(w * dense(u, parts["h1"]) for w, u in zip(weights, inputs, strict=True))


def oracle(net, x, tasks, weight):
    """Logits and the calibrator; a task stands behind the one its space names."""
    z, logits, rises = {}, {}, 0.0
    for task in tasks:
        parts = net["shared"]["towers"][task.name]
        z[task.name] = mlp(x, parts)
        if task.space in z:
            pairs = zip(z[task.space], z[task.name], strict=True)
            z[task.name] = np.array([transfer_oracle(parts, p, q) for p, q in pairs])
        head = net["tasks"][task.name]["head"]
        logits[task.name] = dense(z[task.name], head)[:, 0]
        if task.space in z:
            rise = sigmoid(logits[task.name]) - sigmoid(logits[task.space])
            rises += np.mean(np.maximum(rise, 0))
    return logits, weight * rises


@pytest.mark.parametrize("tasks", [FUNNEL[:1], FUNNEL, BRANCHING])
def test_agrees_with_the_equations(tasks):
    model, features, net = make(tasks)
    logits = model.apply(net, features).logits
    charged = model.aux_loss(logits, np.ones(len(flattened(features)), bool))
    expected = oracle(float64(net), flattened(features), tasks, 0.6)
    assert_close((logits, charged), expected, rtol=1e-4, atol=1e-5)
    assert len(tasks) == 1 or charged > 0
    assert models.Aitm.spaces == "impression"


def test_transfer_by_hand():
    one = lambda value: {"kernel": jnp.array([[value]])}
    parts = {"info": one(2.0) | {"bias": jnp.array([-1.0])}, "h1": one(10.0)}
    parts |= {"h2": one(1.0), "h3": one(np.log(3.0) / 5)}
    # p = relu(2 · 2 − 1) = 3 and q = 2 score 9 and 4 fifths of log 3: 3 to 1.
    z = Transfer().apply({"params": parts}, jnp.array([[2.0]]), jnp.array([[2.0]]))
    np.testing.assert_allclose(z, [[10 * (3 * 3 + 2) / 4]], rtol=1e-5)


def test_tasks_may_come_in_any_order():
    model, features, net = make(FUNNEL)
    turned, _, _ = make(FUNNEL[::-1])
    assert_close(tuple(turned.apply(net, features)), tuple(model.apply(net, features)))


def test_later_tasks_hear_of_earlier_ones_and_never_the_other_way_round():
    model, features, net = make(BRANCHING)
    before = model.apply(net, features).logits
    net["shared"]["towers"]["buy"]["layer01"]["bias"] += 1
    after = model.apply(net, features).logits
    for name in ("click", "like", "hide"):
        assert_same_bits(after[name], before[name])
    for name in ("buy", "return"):
        assert (after[name] != before[name]).any()


def test_calibrator_charges_a_chance_that_rises_along_the_funnel():
    model, _, _ = make(FUNNEL[:2], weight=0.5)
    third = jnp.full(2, np.log(3.0))
    valid = np.array([True, True])
    charged = model.aux_loss({"click": -third, "watch": third}, valid)
    assert_close(charged, 0.5 * (0.75 - 0.25))
    assert model.aux_loss({"click": third, "watch": -third}, valid) == 0


def test_calibrator_sees_no_slot_without_a_row():
    model, _, _ = make(FUNNEL[:2], weight=0.5)
    logits = {"click": jnp.zeros(3), "watch": jnp.array([np.log(3.0), -1.0, 9.0])}
    two = np.array([True, True, False])
    assert_close(model.aux_loss(logits, two), 0.5 * (0.75 - 0.5) / 2)
    assert model.aux_loss(logits, np.zeros(3, bool)) == 0


def test_spaces_in_a_circle_are_refused():
    tasks = (Task("a", space="b"), Task("b", space="a"))
    with pytest.raises(ValueError, match="cycle"):
        make(tasks)
