"""Uncertainty weighting against plain NumPy, and where it must end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from balancing_toys import TASKS, Adam, combine, draw, flat, jitted, start, tasks_of

from jaxmtl.balancing.methods import uncertainty as module
from jaxmtl.balancing.methods.uncertainty import Uncertainty

HALF = {"click": 1.0, "watch": 0.5, "like": 1.0}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_oracle_over_several_steps(number, masked):
    tasks, given = tasks_of(number), {"click": 0.5}
    options = Uncertainty(rate=2.0)
    state = start(options, tasks, given)
    s, adams = dict.fromkeys(tasks, 0.0), {name: Adam() for name in tasks}
    for seed in range(8):
        absent = ["click"] if seed in (2, 3) else []
        step = draw(tasks, seed, masked=masked, absent=absent)
        gradients, state, used = jitted(options, state, step, seed, 0.05)
        expected = flat(step.rest)
        for name in tasks:
            weight = given.get(name, 1.0) * HALF[name] * np.exp(-s[name])
            np.testing.assert_allclose(used[name], weight, rtol=1e-5)
            expected = expected + weight * flat(step.gradients[name])
            if name not in absent:
                slope = 0.5 - weight * float(step.losses[name])
                s[name] -= 2.0 * 0.05 * adams[name].direction(slope)
        np.testing.assert_allclose(flat(gradients), expected, rtol=1e-4, atol=1e-5)
        for name in tasks:
            np.testing.assert_allclose(
                state.log_variances[name], s[name], rtol=1e-4, atol=1e-5
            )


def test_slopes_are_those_of_the_papers_objective():
    """One step of Adam goes against the sign of the derivative by s at s = 0."""
    for loss in (0.1, 0.4, 0.6, 0.9, 1.1, 3.0):
        step = draw(TASKS, 0)
        step.losses = dict.fromkeys(TASKS, jnp.asarray(loss, jnp.float32))
        _, state, _ = combine(Uncertainty(), start(Uncertainty(), TASKS), step)
        objective = {
            "click": lambda s, x=loss: jnp.exp(-s) * x + s / 2,
            "like": lambda s, x=loss: jnp.exp(-s) * x + s / 2,
            "watch": lambda s, x=loss: jnp.exp(-s) * x / 2 + s / 2,
        }
        for name, function in objective.items():
            slope = jax.grad(function)(0.0)
            np.testing.assert_allclose(
                state.log_variances[name], -0.1 * np.sign(slope), rtol=1e-4
            )


def test_it_starts_from_equal_trust_and_halves_a_squared_loss():
    _, _, used = combine(Uncertainty(), start(Uncertainty(), TASKS), draw(TASKS, 0))
    assert used == HALF


def test_a_steady_loss_leads_to_its_own_variance():
    """e^s = L for a squared loss, 2 L for a cross-entropy."""
    step, state = draw(TASKS, 0), start(Uncertainty(), TASKS)
    for _ in range(600):
        _, state, _ = jitted(Uncertainty(), state, step, 0, 0.02)
    for name, half in HALF.items():
        variance = np.exp(float(state.log_variances[name]))
        expected = float(step.losses[name]) * 2 * half
        np.testing.assert_allclose(variance, expected, rtol=1e-2)


def test_without_a_rate_it_is_fixed_weighting():
    options = Uncertainty(rate=0.0)
    state, step = start(options, TASKS), draw(TASKS, 0)
    for _ in range(3):
        _, state, used = jitted(options, state, step)
        assert used == HALF


def test_a_loss_of_zero_drives_no_weight_to_infinity():
    step, state = draw(TASKS, 0), start(Uncertainty(), TASKS)
    step.losses = dict.fromkeys(TASKS, jnp.zeros(()))
    for _ in range(30):
        _, state, used = jitted(Uncertainty(), state, step, 0, 5.0)
    for name in TASKS:
        assert state.log_variances[name] == -module.LIMIT
        assert np.isfinite(used[name])


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match=f"uncertainty: rate is {rate}"):
        Uncertainty(rate=rate)
