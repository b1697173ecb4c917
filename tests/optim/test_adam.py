"""Adam behind gates against optax's, and against its paper in NumPy."""

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

from jaxmtl.optim import chain
from jaxmtl.optim.optimisers.adam import Adam, adam

SHAPES = {"kernel": (4, 3), "bias": (3,)}
COUNTED = {"layer": {"kernel": True, "bias": False}}
PLAIN, DECAYED = Adam(), Adam(b1=0.8, b2=0.99, eps=1e-6)


def make_step(options: Adam, weight_decay: float, counted=COUNTED):
    """(net, state, gradients, gates) -> (net, state), and the first state."""
    optimiser = chain.make(adam(options), counted)

    def step(net, state, gradients, gates):
        updates, state = optimiser.update(
            gradients,
            state,
            net,
            gates=gates,
            learning_rate=0.05,
            weight_decay=weight_decay,
        )
        return chain.apply_updates(net, updates, gates), state

    return step, optimiser.init


def draw(rng):
    return {"layer": {k: jnp.asarray(rng.normal(size=s)) for k, s in SHAPES.items()}}


def open_gates():
    return {"layer": {"kernel": jnp.ones((4, 3), bool), "bias": jnp.asarray(True)}}


def only_kernels(net):
    return jax.tree_util.tree_map_with_path(lambda p, _: p[-1].key == "kernel", net)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("options", "weight_decay", "reference"),
    [
        (PLAIN, 0.0, optax.adam(0.05)),
        (
            DECAYED,
            0.1,
            optax.adamw(
                0.05, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.1, mask=only_kernels
            ),
        ),
    ],
    ids=["adam", "adamw"],
)
def test_equals_optax_behind_open_gates(options, weight_decay, reference):
    rng = np.random.default_rng(0)
    net = expected = draw(rng)
    step, init = make_step(options, weight_decay)
    step, state, other = jax.jit(step), init(net), reference.init(net)
    for _ in range(50):
        gradients = draw(rng)
        net, state = step(net, state, gradients, open_gates())
        updates, other = reference.update(gradients, other, expected)
        expected = optax.apply_updates(expected, updates)
    assert_close(net, expected, rtol=0, atol=1e-12)


@functools.cache
def after_three_steps():
    rng = np.random.default_rng(1)
    net = draw(rng)
    step, init = make_step(DECAYED, 0.1)
    step, state = jax.jit(step), init(net)
    for _ in range(3):
        net, state = step(net, state, draw(rng), open_gates())
    return step, net, state, draw(rng)


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(bool, (4, 3)), st.booleans())
def test_open_weights_move_with_moments_and_decays_and_no_others(kernel, bias):
    step, net, state, gradients = after_three_steps()
    gates = {"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    after_net, after_state = step(net, state, gradients, gates)
    moments, after = state[2], after_state[2]
    for old, new in zip((net, *moments), (after_net, *after), strict=True):
        for name, gate in (("kernel", kernel), ("bias", bias)):
            moved = np.asarray(old["layer"][name] != new["layer"][name])
            np.testing.assert_array_equal(moved, np.broadcast_to(gate, moved.shape))


def test_decays_are_one_for_a_leaf_that_is_not_counted():
    decays = after_three_steps()[2][2].decay1["layer"]
    assert decays["kernel"].shape == (4, 3) and decays["bias"].shape == ()
    np.testing.assert_allclose(decays["bias"], 0.8**3, rtol=1e-6)


def test_never_opened_weight_divides_nothing_by_zero():
    """Not even on the side that is thrown away, where `debug_nans` would stop."""
    _, net, _, gradients = after_three_steps()
    closed = jax.tree.map(jnp.zeros_like, open_gates())
    step, init = make_step(PLAIN, 0.0)
    with jax.debug_nans(True):
        after = step(net, init(net), gradients, closed)
    assert_same_bits(after, (net, init(net)))


@pytest.mark.parametrize("options", [Adam(b1=0.0), Adam(b2=0.0), Adam(0.0, 0.0)])
def test_without_a_memory_it_is_still_a_number(options):
    step, init = make_step(options, 0.0)
    net = jax.tree.map(jnp.zeros_like, draw(np.random.default_rng(3)))
    after, _ = step(net, init(net), net, open_gates())
    assert_same_bits(after, net)


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
    step, init = make_step(PLAIN, 0.0, {"kernel": True})
    step, state = jax.jit(step), init(net)
    for pair in zip(gradients, gates, strict=True):
        gradient, gate = ({"kernel": jnp.asarray(part)} for part in pair)
        net, state = step(net, state, gradient, gate)
    expected = adam_oracle(weights, gradients, gates)
    np.testing.assert_allclose(net["kernel"], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(net["kernel"][3], weights[3])


def test_two_hundred_steps_in_float32_stay_near_the_paper():
    """As near as 1 - b2, of which float32 keeps five digits, lets them."""
    rng, steps = np.random.default_rng(4), 200
    weights = rng.normal(size=(6, 5)).astype(np.float32)
    gradients = rng.normal(size=(steps, 6, 5)).astype(np.float32)
    gates = rng.random((steps, 6, 5)) < 0.5
    net = {"kernel": jnp.asarray(weights)}
    step, init = make_step(PLAIN, 0.0, {"kernel": True})
    step, state = jax.jit(step), init(net)
    for gradient, gate in zip(gradients, gates, strict=True):
        net, state = step(net, state, {"kernel": gradient}, {"kernel": gate})
    expected = adam_oracle(np.float64(weights), np.float64(gradients), gates)
    np.testing.assert_allclose(net["kernel"], expected, rtol=0, atol=5e-5)
