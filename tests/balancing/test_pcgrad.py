"""PCGrad against Algorithm 1 in plain NumPy, its hand cases and its limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from balancing_toys import (
    TASKS,
    combine,
    draw,
    flat,
    jitted,
    others,
    seen,
    shared,
    start,
    tasks_of,
)

from jaxmtl.balancing.methods.pcgrad import PCGrad, project
from jaxmtl.sparsity import masks


def orders_of(state, names, step):
    """What the balancer draws: an order for each task."""
    keys = jax.random.split(jax.random.fold_in(state.key, step), len(names))
    return [np.asarray(jax.random.permutation(key, len(names))) for key in keys]


def oracle(gradients, masks, orders):
    """The sum of the projected gradients, float64 [P].

    Args:
      gradients: [T, P], in the order of the tasks' names.
      masks: [T, P] of 0 and 1, what each sees.
      orders: for each task, a permutation.
    """
    total = np.zeros(gradients.shape[1])
    for i, order in enumerate(orders):
        g = gradients[i].copy()
        for j in order:
            if j == i:
                continue
            other = gradients[j] * masks[i] * masks[j]
            if g @ other < 0:
                g -= g @ other / (other @ other) * other
        total += g
    return total


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("absent", [[], ["click"]])
def test_equals_the_oracle_over_several_steps(number, masked, absent):
    tasks, given, changed = tasks_of(number), {"click": 0.5}, 0
    state, names = start(PCGrad(), tasks, given), sorted(tasks)
    for seed in range(10):
        step = draw(tasks, seed, masked=masked, absent=absent)
        gradients, state, used = jitted(PCGrad(), state, step, seed)
        each = [given.get(n, 1.0) * shared(step.gradients[n]) for n in names]
        bits = [seen(step.masks[name]) for name in names]
        orders = orders_of(state, names, seed)
        expected = oracle(np.stack(each), np.stack(bits), orders)
        changed += not np.allclose(expected, sum(each))
        np.testing.assert_allclose(
            shared(gradients), expected + shared(step.rest), atol=2e-5
        )
        plain = step.pull({name: given.get(name, 1.0) for name in names})
        np.testing.assert_allclose(others(gradients), others(plain), atol=1e-5)
        assert used == {name: given.get(name, 1.0) for name in names}
    assert bool(changed) == (number - len(absent) > 1)  # some of them do oppose


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_turn_projects_on_the_gradient_as_it_was_pulled_back(order):
    """Three vectors of a plane that oppose each other, by hand in every order."""
    angles = np.deg2rad([0, 100, 220])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for i in range(3):
        amounts = project(jnp.asarray(vectors @ vectors.T), i, jnp.asarray(order))
        g = vectors[i].copy()
        for j in order:
            if j != i and g @ vectors[j] < 0:
                g -= (g @ vectors[j]) * vectors[j]
        np.testing.assert_allclose(amounts @ vectors, g, atol=1e-6)


def two_tasks(first, second):
    """A step of two tasks with these shared gradients, in their first two numbers."""
    tasks = tasks_of(2)
    step = draw(tasks, 0)
    step.rest = jax.tree.map(jnp.zeros_like, step.rest)
    for name, numbers in (("click", first), ("watch", second)):
        net, rows = step.gradients[name]
        part = jax.tree.map(jnp.zeros_like, net["shared"])
        bias = part["layer"]["bias"].at[:2].set(jnp.asarray(numbers, jnp.float32))
        part = part | {"layer": part["layer"] | {"bias": bias}}
        step.gradients[name] = {**net, "shared": part}, rows
    gradients, _, _ = jitted(PCGrad(), start(PCGrad(), tasks), step)
    found = gradients[0]["shared"]["layer"]["bias"][:2]
    np.testing.assert_array_equal(flat(gradients[0]["shared"]).sum(), found.sum())
    return np.asarray(found)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1, 0), (0, 2), (1, 2)),  # orthogonal: the plain sum
        ((1, 1), (2, 0), (3, 1)),  # they agree: the plain sum
        ((1, 0), (-1, 0), (0, 0)),  # opposite: nothing is left
        ((1, 0), (-3, 0), (0, 0)),  # of either
        ((1, 0), (2, 0), (3, 0)),  # parallel
        ((1, 0), (-1, 1), (0.5, 1.5)),  # (1, 0) + (-1, 1) / 2, and (0, 1)
        ((1, 0), (0, 0), (1, 0)),  # a norm of zero divides nothing
        ((0, 0), (0, 0), (0, 0)),
    ],
)
def test_hand_cases(first, second, expected):
    np.testing.assert_allclose(two_tasks(first, second), expected, atol=1e-6)


def test_tasks_that_are_alike_get_the_plain_sum():
    step = draw(TASKS, 0)
    step.gradients = dict.fromkeys(TASKS, step.gradients["click"])
    gradients, _, _ = jitted(PCGrad(), start(PCGrad(), TASKS), step)
    expected = flat(step.rest) + 3 * flat(step.gradients["click"])
    np.testing.assert_allclose(flat(gradients), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_surgery_moves_what_both_see_alone(seed):
    """Two gradients that are opposite wherever they meet: of this nothing is left, and
    of the weights that one task sees each keeps its gradient to the bit."""
    tasks = tasks_of(2)
    step = draw(tasks, seed, masked=True)
    step.rest = jax.tree.map(jnp.zeros_like, step.rest)
    first, (net, rows) = step.gradients["click"][0]["shared"], step.gradients["watch"]
    meet = lambda a, b: jnp.where((a != 0) & (b != 0), -a, b)
    second = jax.tree.map(meet, first, net["shared"])
    step.gradients["watch"] = {**net, "shared": second}, rows
    gradients, _, _ = jitted(PCGrad(), start(PCGrad(), tasks), step)
    number = sum(seen(step.masks[name]) for name in tasks)
    assert set(number) == {0, 1, 2}
    np.testing.assert_allclose(shared(gradients)[number == 2], 0, atol=1e-6)
    plain = flat(first) + flat(second)
    np.testing.assert_array_equal(shared(gradients)[number < 2], plain[number < 2])


def test_masks_that_do_not_meet_leave_the_plain_sum():
    tasks = tasks_of(2)
    step = draw(tasks, 0, masked=True)
    mask = step.masks["click"]
    step.masks["watch"] = mask | {
        "shared": jax.tree.map(jnp.logical_not, mask["shared"])
    }
    for name, gradients in step.gradients.items():
        zero = lambda path, g: g * (path[-1].key == "kernel")
        part = jax.tree_util.tree_map_with_path(zero, gradients[0]["shared"])
        part = masks.apply(part, step.masks[name]["shared"])
        step.gradients[name] = {**gradients[0], "shared": part}, gradients[1]
    gradients, _, _ = jitted(PCGrad(), start(PCGrad(), tasks), step)
    expected = step.pull(dict.fromkeys(tasks, 1.0))
    np.testing.assert_allclose(flat(gradients), flat(expected), atol=1e-6)


def test_orders_follow_from_key_and_step():
    """Over some steps every order is drawn, and other ones under another key."""
    state = start(PCGrad(), TASKS)
    other = state._replace(key=jax.random.key(4))
    draws = lambda s: [tuple(map(tuple, orders_of(s, TASKS, at))) for at in range(40)]
    assert {order for orders in draws(state) for order in orders} == set(
        itertools.permutations(range(3))
    )
    assert draws(state) != draws(other)
    step = draw(TASKS, 1)
    results = {flat(combine(PCGrad(), state, step, at)[0]).tobytes() for at in range(8)}
    assert len(results) > 1
