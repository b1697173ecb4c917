"""GradNorm against plain NumPy, its hand cases and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from balancing_toys import TASKS, Adam, draw, flat, jitted, shared, start, tasks_of

from jaxmtl.balancing.methods.gradnorm import SMALLEST, GradNorm


class Oracle:
    """Algorithm 1 of the paper in float64, with an Adam for each weight."""

    def __init__(self, tasks, alpha, given):
        self.alpha, self.given = alpha, {n: given.get(n, 1.0) for n in tasks}
        self.w, self.first = dict.fromkeys(tasks, 1.0), {}
        self.adams = {name: Adam() for name in tasks}

    def step(self, step, absent, rate):
        here = [name for name in self.w if name not in absent]
        gradient = flat(step.rest)
        for name in self.w:
            weight = self.given[name] * self.w[name]
            gradient = gradient + weight * flat(step.gradients[name])
        loss = {n: self.given[n] * float(step.losses[n]) for n in here}
        for name in here:
            self.first.setdefault(name, loss[name])
        norm = {
            n: self.given[n] * np.linalg.norm(shared(step.gradients[n])) for n in here
        }
        size = {n: self.w[n] * norm[n] for n in here}
        ratio = {n: loss[n] / self.first[n] for n in here}
        speed = np.mean(list(ratio.values()))
        mean = np.mean(list(size.values()))
        for n in here:
            target = mean * (ratio[n] / speed) ** self.alpha
            slope = np.sign(size[n] - target) * norm[n]
            self.w[n] = max(self.w[n] - rate * self.adams[n].direction(slope), SMALLEST)
        left = len(self.w) - sum(self.w[n] for n in self.w if n not in here)
        whole = sum(self.w[n] for n in here)
        for n in here:
            self.w[n] *= left / whole
        return gradient


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_equals_the_oracle_over_several_steps(number, masked, alpha):
    tasks, given = tasks_of(number), {"click": 0.5}
    options = GradNorm(alpha=alpha, rate=2.0)
    state, oracle = start(options, tasks, given), Oracle(tasks, alpha, given)
    for seed in range(8):
        absent = [["click"], [], [], ["click"], [], [], [], []][seed]
        absent = absent if number > 1 else []
        step = draw(tasks, seed, masked=masked, absent=absent)
        gradients, state, _ = jitted(options, state, step, seed, 0.05)
        expected = oracle.step(step, absent, 0.1)
        np.testing.assert_allclose(flat(gradients), expected, rtol=1e-4, atol=1e-5)
        for name in tasks:
            np.testing.assert_allclose(state.learned[name], oracle.w[name], rtol=1e-4)
    for name in tasks:
        np.testing.assert_allclose(state.first[name], oracle.first[name], rtol=1e-6)


def with_norms(tasks, norms, losses):
    """A step whose shared gradients have these norms, and these losses."""
    step = draw(tasks, 0)
    for name, size, loss in zip(tasks, norms, losses, strict=True):
        factor = size / np.linalg.norm(shared(step.gradients[name]))
        step.gradients[name] = jax.tree.map(
            lambda g, f=factor: (f * g).astype(jnp.float32), step.gradients[name]
        )
        step.losses[name] = jnp.asarray(loss, jnp.float32)
    return step


def test_hand_case_the_larger_norm_loses_weight():
    """Norms 3 and 1, mean 2: by Adam's first step w = 1 ∓ .1, which sum to 2."""
    tasks, options = tasks_of(2), GradNorm(alpha=0.0)
    step = with_norms(tasks, (3.0, 1.0), (0.5, 0.5))
    _, state, used = jitted(options, start(options, tasks), step, 0, 0.1)
    assert used == {"click": 1.0, "watch": 1.0}
    np.testing.assert_allclose(state.learned["click"], 0.9, rtol=1e-5)
    np.testing.assert_allclose(state.learned["watch"], 1.1, rtol=1e-5)


def test_without_alpha_norms_become_equal_whatever_the_losses_do():
    tasks, options = tasks_of(3), GradNorm(alpha=0.0)
    state, norms = start(options, tasks), (3.0, 1.0, 2.0)
    for number in range(600):
        step = with_norms(tasks, norms, (0.5, 0.5 / (1 + number), 2.0))
        _, state, _ = jitted(options, state, step, 0, 0.005)
    sizes = [float(state.learned[n]) * g for n, g in zip(tasks, norms, strict=True)]
    np.testing.assert_allclose(sizes, np.mean(sizes), rtol=0.03)
    np.testing.assert_allclose(sum(map(float, state.learned.values())), 3, rtol=1e-6)


def test_a_task_that_learns_slowly_gains_weight():
    """Equal norms; the loss of one halves and that of the other stays."""
    tasks, options = tasks_of(2), GradNorm(alpha=1.0)
    state = start(options, tasks)
    _, state, _ = jitted(options, state, with_norms(tasks, (1, 1), (0.8, 0.5)), 0, 0.0)
    _, state, _ = jitted(options, state, with_norms(tasks, (1, 1), (0.4, 0.5)), 0, 0.1)
    assert state.learned["click"] < 1 < state.learned["watch"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_tasks_that_are_alike_keep_equal_weights(number):
    tasks, options = tasks_of(number), GradNorm()
    state = start(options, tasks)
    for seed in range(20):
        step = draw(tasks, seed)
        step.gradients = dict.fromkeys(tasks, step.gradients["click"])
        step.losses = dict.fromkeys(tasks, step.losses["click"])
        gradients, state, _ = jitted(options, state, step, seed)
        np.testing.assert_allclose(
            flat(gradients),
            flat(step.rest) + number * flat(step.gradients["click"]),
            rtol=1e-4,
            atol=1e-5,
        )
    for weight in state.learned.values():
        np.testing.assert_allclose(weight, 1, rtol=1e-6)


def test_weights_stay_positive_however_large_the_step():
    options = GradNorm(rate=100.0)
    state = start(options, TASKS)
    for seed in range(10):
        _, state, _ = jitted(options, state, draw(TASKS, seed), seed)
        learned = [float(w) for w in state.learned.values()]
        assert min(learned) > 0
        np.testing.assert_allclose(sum(learned), 3, rtol=1e-6)


def test_the_sum_does_not_drift():
    options = GradNorm()
    state = start(options, TASKS)
    for seed in range(300):
        absent = [list(TASKS)[seed % 3]] if seed % 2 else []
        step = draw(TASKS, seed % 20, absent=absent)
        _, state, _ = jitted(options, state, step, seed, 0.03)
    np.testing.assert_allclose(sum(map(float, state.learned.values())), 3, rtol=1e-6)


@pytest.mark.parametrize("first", [0.0, -0.5])
def test_a_first_loss_that_is_not_positive_is_waited_out(first):
    """Nothing can be compared with it; a later one takes its place, if it was 0."""
    tasks, options = tasks_of(2), GradNorm()
    state = start(options, tasks)
    step = with_norms(tasks, (3.0, 1.0), (first, 0.5))
    _, state, _ = jitted(options, state, step)
    np.testing.assert_allclose(state.learned["click"], 1)
    step = with_norms(tasks, (3.0, 1.0), (0.25, 0.5))
    _, state, _ = jitted(options, state, step)
    _, state, _ = jitted(options, state, step)
    assert np.all(np.isfinite(list(state.learned.values())))
    assert (state.learned["click"] != 1) == (first == 0)


def test_a_first_loss_of_next_to_nothing_keeps_weights_finite():
    tasks, options = tasks_of(2), GradNorm()
    state = start(options, tasks)
    for loss in (2e-38, 50.0, 0.0):
        step = with_norms(tasks, (3.0, 1.0), (loss, 0.5))
        _, state, _ = jitted(options, state, step)
    assert np.all(np.isfinite(list(state.learned.values())))


@pytest.mark.parametrize("name", ["alpha", "rate"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"gradnorm: {name} is {value}"):
        GradNorm(**{name: value})
