"""DCN's cross layers and CIN against their equations and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    BATCH,
    DIM,
    FIELDS,
    NUMERICS,
    draw_features,
    draw_like,
    flattened,
    float64,
)

from jaxmtl.layers.cin import cin
from jaxmtl.layers.dcn import dcn
from jaxmtl.types import Features

WIDTH, MAPS = FIELDS * DIM + NUMERICS, 2
LAYERS = {"dcn": dcn(3), "cin": cin(3, MAPS)}


def make(name):
    layer, features = LAYERS[name], draw_features()
    return layer, features, draw_like(layer.init, features)


def dcn_oracle(parameters, features):
    x0 = x = flattened(features)
    for _, part in sorted(parameters["dcn"].items()):
        rows = zip(x0, x, strict=True)
        crossed = [np.outer(row0, row) @ part["weight"] for row0, row in rows]
        x = np.array(crossed) + part["bias"] + x
    return x


def cin_oracle(parameters, features):
    """Equation 6 as it is written, one product of two vectors at a time."""
    x0 = np.asarray(features.shared, np.float64)
    x, pooled = x0, []
    for _, part in sorted(parameters["cin"].items()):
        weight = part["weight"]
        before, fields, maps = weight.shape
        made = np.zeros((BATCH, maps, DIM))
        for h in range(maps):
            for i in range(before):
                for j in range(fields):
                    made[:, h] += weight[i, j, h] * x[:, i] * x0[:, j]
        x = made
        pooled.append(x.sum(axis=2))
    flat = x0.reshape(BATCH, -1)
    return np.concatenate([flat, *pooled, np.asarray(features.numeric)], axis=1)


@pytest.mark.parametrize(
    ("name", "oracle", "width"),
    [("dcn", dcn_oracle, WIDTH), ("cin", cin_oracle, WIDTH + 3 * MAPS)],
)
def test_agrees_with_the_equation(name, oracle, width):
    layer, features, parameters = make(name)
    made = layer.apply(parameters, features)
    assert made.shape == (BATCH, width)
    expected = oracle(float64(parameters), features)
    assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert_close(jax.jit(layer.apply)(parameters, features), made, atol=1e-5)
    assert {w.dtype for w in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


def test_dcn_by_hand():
    features = Features(jnp.array([[[1.0, 2.0]]]), {}, jnp.array([[3.0]]))
    layer = {"weight": jnp.array([1.0, 0.0, 2.0]), "bias": jnp.array([0.0, 1.0, 0.0])}
    # x0 = (1, 2, 3) and x0·w = 7: x1 = 7·x0 + b + x0.
    made = dcn(1).apply({"dcn": {"layer00": layer}}, features)
    np.testing.assert_array_equal(made, [[8.0, 17.0, 24.0]])


def test_cin_by_hand():
    features = Features(jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), {}, jnp.array([[9.0]]))
    weight = jnp.array([[[1.0], [2.0]], [[0.0], [0.0]]])
    # x_1 ∘ x_1 + 2 x_1 ∘ x_2 = (1, 4) + 2 (3, 8), which sums to 27.
    made = cin(1, 1).apply({"cin": {"layer00": {"weight": weight}}}, features)
    np.testing.assert_array_equal(made, [[1.0, 2.0, 3.0, 4.0, 27.0, 9.0]])


def test_dcn_without_weights_passes_its_input_on():
    layer, features, parameters = make("dcn")
    nothing = jax.tree.map(jnp.zeros_like, parameters)
    passed = layer.apply(nothing, features)
    assert_same_bits(passed, flattened(features).astype(np.float32))


def test_dcn_without_biases_only_scales_each_row_of_its_input():
    """The weakness that xDeepFM and the DCRNN paper hold against it."""
    layer, features, parameters = make("dcn")
    for part in parameters["dcn"].values():
        part["bias"] *= 0
    x0 = flattened(features)
    ratio = np.asarray(layer.apply(parameters, features), np.float64) / x0
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(WIDTH, 1), rtol=1e-3)


@given(st.floats(-2, 2, width=32))
@settings(max_examples=10, deadline=None)
def test_layer_k_of_cin_is_of_degree_k_plus_one(scale):
    layer, features, parameters = make("cin")
    pooled = lambda f: layer.apply(parameters, f)[:, FIELDS * DIM : -NUMERICS]
    scaled = pooled(features._replace(shared=scale * features.shared))
    degrees = np.repeat([2, 3, 4], MAPS)
    assert_close(scaled, pooled(features) * scale**degrees, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dcn(0), "dcn of depth 0; at least 1"),
        (lambda: cin(0, 3), "cin of depth 0 and 3 maps; at least 1 of each"),
        (lambda: cin(2, 0), "cin of depth 2 and 0 maps"),
    ],
)
def test_layer_without_depth_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
