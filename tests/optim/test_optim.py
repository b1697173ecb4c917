"""Gated Adam is Adam where the gate is open, and nothing at all where it is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl import optim

SHAPES = {"kernel": (4, 3), "bias": (3,)}
PLAIN = optim.Adam(0.05)
DECAYED = optim.Adam(0.05, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.1)
update = jax.jit(optim.update, static_argnums=0)


def draw(rng):
    return {"layer": {k: jnp.asarray(rng.normal(size=s)) for k, s in SHAPES.items()}}


def open_gates():
    return {"layer": {"kernel": jnp.ones((4, 3), bool), "bias": jnp.asarray(True)}}


def only_kernels(net):
    return jax.tree_util.tree_map_with_path(lambda p, _: p[-1].key == "kernel", net)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("adam", "reference"),
    [
        (PLAIN, optax.adam(0.05)),
        (
            DECAYED,
            optax.adamw(
                0.05, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.1, mask=only_kernels
            ),
        ),
    ],
    ids=["adam", "adamw"],
)
def test_equals_optax_behind_open_gates(adam, reference):
    rng = np.random.default_rng(0)
    net = expected = draw(rng)
    moments, state = optim.init(net, open_gates()), reference.init(net)
    for _ in range(50):
        gradients = draw(rng)
        net, moments = update(adam, net, moments, gradients, open_gates())
        updates, state = reference.update(gradients, state, expected)
        expected = optax.apply_updates(expected, updates)
    assert_close(net, expected, rtol=0, atol=1e-12)


@functools.cache
def after_three_steps():
    rng = np.random.default_rng(1)
    net = draw(rng)
    moments = optim.init(net, open_gates())
    for _ in range(3):
        net, moments = update(DECAYED, net, moments, draw(rng), open_gates())
    return net, moments, draw(rng)


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(bool, (4, 3)), st.booleans())
def test_closed_gate_keeps_weight_moments_and_decays(kernel, bias):
    net, moments, gradients = after_three_steps()
    gates = {"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    before = (net, *moments)
    after = update(DECAYED, net, moments, gradients, gates)
    after = (after[0], *after[1])
    for old, new in zip(before, after, strict=True):
        for name, gate in (("kernel", kernel), ("bias", bias)):
            moved = np.asarray(old["layer"][name] != new["layer"][name])
            np.testing.assert_array_equal(moved, np.broadcast_to(gate, moved.shape))


def test_never_opened_weight_divides_nothing_by_zero():
    """Not even on the side that is thrown away, where `debug_nans` would stop."""
    net, _, gradients = after_three_steps()
    closed = jax.tree.map(jnp.zeros_like, open_gates())
    moments = optim.init(net, open_gates())
    with jax.debug_nans(True):
        after = optim.update(PLAIN, net, moments, gradients, closed)
    assert_same_bits(after, (net, moments))


def test_eager_and_compiled_updates_agree():
    net, moments, gradients = after_three_steps()
    half = open_gates()
    half["layer"]["kernel"] = half["layer"]["kernel"].at[::2].set(False)
    eager = optim.update(DECAYED, net, moments, gradients, half)
    assert_close(update(DECAYED, net, moments, gradients, half), eager, atol=1e-7)


def adam_oracle(weights, gradients, gates):
    """Kingma and Ba's Algorithm 1 for each weight alone, on its own count."""
    weights = weights.copy()
    for i in np.ndindex(weights.shape):
        mean = square = count = 0
        for gradient, gate in zip(gradients, gates, strict=True):
            if gate[i]:
                count += 1
                mean = 0.9 * mean + 0.1 * gradient[i]
                square = 0.999 * square + 0.001 * gradient[i] ** 2
                unbiased, scale = mean / (1 - 0.9**count), square / (1 - 0.999**count)
                weights[i] -= 0.05 * unbiased / (np.sqrt(scale) + 1e-8)
    return weights


@pytest.mark.usefixtures("float64")
def test_weight_has_the_bias_correction_of_its_own_updates():
    """One open at every step, one at every other, one late, one never."""
    rng, steps = np.random.default_rng(2), 20
    patterns = np.stack([np.ones(steps), np.arange(steps) % 2, np.arange(steps) > 14])
    patterns = np.concatenate([patterns, np.zeros((1, steps))]).astype(bool)
    weights = rng.normal(size=(4, 1))
    gradients = rng.normal(size=(steps, 4, 1))
    net, gates = {"kernel": jnp.asarray(weights)}, patterns.T[:, :, None]
    moments = optim.init(net, {"kernel": jnp.asarray(gates[0])})
    for pair in zip(gradients, gates, strict=True):
        gradient, gate = ({"kernel": jnp.asarray(part)} for part in pair)
        net, moments = update(PLAIN, net, moments, gradient, gate)
    expected = adam_oracle(weights, gradients, gates)
    np.testing.assert_allclose(net["kernel"], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(net["kernel"][3], weights[3])
