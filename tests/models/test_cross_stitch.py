"""Cross-stitch networks against their equation, and what they are without stitches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from oracles import FUNNEL, dense, draw_features, draw_like, flattened, float64

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing

LAYERS = ("layer00", "layer01")


def make(tasks=FUNNEL, own=0.9):
    options = models.CrossStitch(hidden=(5, 3), own=own)
    model, features = models.make(options, tasks, Crossing("none")), draw_features()
    return model, features, draw_like(model.init, features)


def oracle(net, x, tasks):
    names = [task.name for task in tasks]
    x = dict.fromkeys(names, x)
    for layer in LAYERS:
        columns = net["shared"]["columns"]
        alpha = net["shared"]["stitch"][layer]["weight"]
        active = [np.maximum(dense(x[n], columns[n][layer]), 0) for n in names]
        x = {
            n: sum(alpha[a, b] * column for b, column in enumerate(active))
            for a, n in enumerate(names)
        }
    return {n: dense(x[n], net["tasks"][n]["head"])[:, 0] for n in names}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_agrees_with_the_equation(count):
    model, features, net = make(FUNNEL[:count])
    expected = oracle(float64(net), flattened(features), FUNNEL[:count])
    assert_close(model.apply(net, features).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "own", "expected"),
    [
        (1, 0.9, [[1.0]]),
        (2, 0.9, [[0.9, 0.1], [0.1, 0.9]]),
        (3, 0.5, [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]),
    ],
)
def test_stitches_start_as_stated(count, own, expected):
    model, features, _ = make(FUNNEL[:count], own)
    net = model.init(jax.random.key(0), features)
    for layer in LAYERS:
        weight = net["shared"]["stitch"][layer]["weight"]
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_without_stitches_it_is_an_mlp_for_each_task():
    model, features, net = make()
    for layer in LAYERS:
        net["shared"]["stitch"][layer]["weight"] = jnp.eye(3)
    hard = models.make(models.HardSharing((5, 3)), FUNNEL, Crossing("none"))
    columns = net["shared"]["columns"]
    tasks = {n: own | {"mlp": columns[n]} for n, own in net["tasks"].items()}
    expected = hard.apply({"shared": {}, "tasks": tasks}, features)
    assert_close(model.apply(net, features).logits, expected.logits)


def test_a_stitch_of_zero_keeps_that_column_from_that_task():
    model, features, net = make()
    for layer in LAYERS:
        weight = net["shared"]["stitch"][layer]["weight"]
        net["shared"]["stitch"][layer]["weight"] = weight.at[0, 1].set(0.0)
    net["shared"]["stitch"]["layer00"]["weight"] = jnp.eye(3)
    before = model.apply(net, features).logits
    net["shared"]["columns"]["watch"]["layer00"]["bias"] += 1
    after = model.apply(net, features).logits
    assert_same_bits(after["click"], before["click"])
    assert (after["share"] != before["share"]).any()
