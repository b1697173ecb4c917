"""What balancers are made of: inner products, weights, an Adam for each task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from balancing_toys import TASKS, Adam, draw, flat, seen, shared
from conftest import assert_same_bits

from jaxmtl.balancing import balancer

STEP = draw(TASKS, 0, masked=True)


def test_inner_products_and_norms_are_those_of_one_long_vector():
    trees = [balancer.shared(g) for g in STEP.gradients.values()]
    vectors = np.stack([flat(tree) for tree in trees])
    np.testing.assert_allclose(
        balancer.gramian(trees), vectors @ vectors.T, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        balancer.norm(trees[0]), np.linalg.norm(vectors[0]), rtol=1e-6
    )


def test_a_net_that_shares_nothing_has_inner_product_zero():
    product = balancer.inner({}, {})
    assert product == 0 and product.dtype == jnp.float32
    assert balancer.gramian([{}, {}]).shape == (2, 2)


def test_a_gramian_has_equal_halves_to_the_bit():
    found = balancer.gramian([balancer.shared(g) for g in STEP.gradients.values()])
    assert_same_bits(found, found.T)


@pytest.mark.parametrize("task", TASKS)
def test_overlap_keeps_what_both_see(task):
    for name, gradients in STEP.gradients.items():
        found = flat(balancer.shared(gradients, STEP.masks[task]))
        np.testing.assert_array_equal(found, shared(gradients) * seen(STEP.masks[task]))
        assert np.all(found[seen(STEP.masks[name]) == 0] == 0)


def test_a_gradient_is_whole_without_a_mask():
    found = balancer.shared(STEP.rest, None)
    assert_same_bits(found, STEP.rest[0]["shared"])


def test_with_shared_replaces_that_part_alone():
    zeros = jax.tree.map(jnp.zeros_like, STEP.rest[0]["shared"])
    net, rows = balancer.with_shared(STEP.rest, zeros)
    assert_same_bits(net["shared"], zeros)
    assert_same_bits(net["tasks"], STEP.rest[0]["tasks"])
    assert_same_bits(rows, STEP.rest[1])


def test_weights_are_float32_and_one_where_none_is_given():
    found = balancer.task_weights(TASKS, {"watch": 2})
    assert {name: float(w) for name, w in found.items()} == {
        "click": 1.0,
        "watch": 2.0,
        "like": 1.0,
    }
    for weight in found.values():
        assert weight.dtype == jnp.float32 and weight.shape == ()


def test_scaling_keeps_the_type_of_an_array():
    tree = {"a": jnp.ones(2, jnp.bfloat16)}
    found = balancer.scaled(tree, jnp.asarray(3.0, jnp.float32))
    assert found["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["a"], 3)


def test_each_task_is_pulled_alone_and_auxiliary_losses_apart():
    asked = []

    def pull(cotangents, rest=1.0):
        asked.append((cotangents, rest))
        return STEP.pull(cotangents, rest)

    weights = balancer.filled(TASKS, 2.0)
    each, rest = balancer.pull_each(pull, weights)
    assert asked == [
        ({"click": 2.0}, 0.0),
        ({"like": 2.0}, 0.0),
        ({"watch": 2.0}, 0.0),
        ({}, 1.0),
    ]
    assert_same_bits(rest, STEP.rest)
    np.testing.assert_allclose(flat(each["like"]), 2 * flat(STEP.gradients["like"]))


def test_adam_counts_for_each_task_the_steps_that_moved_it():
    values = balancer.filled(TASKS, 0.5)
    state, rng = balancer.adam_init(values), np.random.default_rng(0)
    oracles, expected = {name: Adam() for name in TASKS}, dict.fromkeys(TASKS, 0.5)
    for number in range(6):
        moves = {"click": True, "watch": number % 2 == 1, "like": False}
        gradients = {name: rng.normal() for name in TASKS}
        as_arrays = lambda d: {name: jnp.asarray(value) for name, value in d.items()}
        values, state = balancer.adam_step(
            values, as_arrays(gradients), state, as_arrays(moves), jnp.asarray(0.1)
        )
        for name in TASKS:
            if moves[name]:
                expected[name] -= 0.1 * oracles[name].direction(gradients[name])
    for name in TASKS:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5)
    assert [int(state[name].count) for name in TASKS] == [6, 3, 0]
