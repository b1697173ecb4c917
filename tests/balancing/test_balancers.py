"""What every balancer must do, whatever its method; files are found in the folder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from balancing_toys import (
    METHODS,
    TASKS,
    Step,
    combine,
    draw,
    flat,
    jitted,
    make,
    options_of,
    others,
    seen,
    shared,
    start,
    tasks_of,
)
from conftest import assert_close, assert_same_bits

every_method = pytest.mark.parametrize("method", METHODS)
every_number = pytest.mark.parametrize("number", [1, 2, 3])
dense_and_masked = pytest.mark.parametrize("masked", [False, True])


def numbers_of(state):
    """The state without its keys, which NumPy cannot hold."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if not is_key(leaf)
    ]


def test_the_published_methods_are_found():
    assert {"fixed", "uncertainty", "gradnorm", "pcgrad"} <= set(METHODS)


@every_method
def test_it_says_which_schedules_it_serves(method):
    schedules = make(options_of(method)).schedules
    assert "sum" in schedules and set(schedules) <= {"sum", "alternate"}


@every_method
@every_number
def test_a_state_keeps_its_types_in_a_scan(method, number):
    tasks = tasks_of(number)
    options = options_of(method)
    state = start(options, tasks)
    steps = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(draw(tasks, seed) for seed in range(3))
    )

    def body(state, step):
        gradients, state, weights = combine(options, state, step)
        return state, (gradients, weights)

    after, (gradients, weights) = jax.jit(
        lambda state, steps: jax.lax.scan(body, state, steps)
    )(state, steps)
    is_weak = lambda leaf: getattr(leaf, "weak_type", False)  # a key has none
    kind = lambda leaf: (leaf.shape, leaf.dtype, is_weak(leaf))
    assert jax.tree.map(kind, after) == jax.tree.map(kind, state)
    assert not any(is_weak(leaf) for leaf in jax.tree.leaves(state))
    assert set(weights) == set(tasks)
    for leaf in weights.values():
        assert kind(leaf) == ((3,), jnp.float32, False)
    assert jax.tree.map(kind, gradients) == jax.tree.map(kind, steps.rest)


@every_method
@every_number
@dense_and_masked
def test_eager_and_compiled_agree(method, number, masked):
    tasks, options = tasks_of(number), options_of(method)
    eager = compiled = start(options, tasks)
    for seed in range(3):
        step = draw(tasks, seed, masked=masked)
        a, eager, _ = combine(options, eager, step, seed)
        b, compiled, _ = jitted(options, compiled, step, seed)
        assert_close(b, a)
    assert_close(dict(numbers_of(compiled)), dict(numbers_of(eager)))


@every_method
@every_number
def test_own_parts_and_rows_get_the_weighted_sum(method, number):
    """So does all there is where there is one task; auxiliary losses weigh 1."""
    tasks, options = tasks_of(number), options_of(method)
    state = start(options, tasks)
    for seed in range(3):
        step = draw(tasks, seed)
        gradients, state, weights = jitted(options, state, step, seed)
        expected = step.pull(weights)
        np.testing.assert_allclose(others(gradients), others(expected), atol=1e-5)
        if number == 1:
            np.testing.assert_allclose(shared(gradients), shared(expected), atol=1e-5)


@every_method
@dense_and_masked
def test_auxiliary_gradients_are_added_untouched(method, masked):
    options, step = options_of(method), draw(TASKS, 0, masked=masked)
    state = start(options, TASKS)
    without = dataclasses.replace(step, rest=jax.tree.map(jnp.zeros_like, step.rest))
    a, state_a, _ = jitted(options, state, step)
    b, state_b, _ = jitted(options, state, without)
    np.testing.assert_allclose(flat(a) - flat(b), flat(step.rest), atol=1e-5)
    assert_same_bits(numbers_of(state_a), numbers_of(state_b))


@every_method
@dense_and_masked
@pytest.mark.parametrize("absent", TASKS)
def test_a_task_without_rows_is_left_out(method, masked, absent):
    """All is as if there were only the others, and nothing kept for it moves."""
    options = options_of(method)
    rest = {name: loss for name, loss in TASKS.items() if name != absent}
    state, fewer = start(options, TASKS), start(options, rest)
    first = dict(numbers_of(state))
    for seed in range(3):
        step = draw(TASKS, seed, masked=masked, absent=[absent])
        a, state, _ = jitted(options, state, step, seed)
        b, fewer, _ = jitted(options, fewer, step.only(rest), seed)
        assert_close(a, b)
    after, expected = dict(numbers_of(state)), dict(numbers_of(fewer))
    for path, leaf in after.items():
        if f"'{absent}'" in path:
            assert_same_bits(leaf, first[path])
        else:
            assert_close(leaf, expected[path])


@every_method
def test_a_task_without_rows_has_no_say_whatever_its_loss(method):
    """Of a loss that is no mean over rows, say."""
    options = options_of(method)
    state = start(options, TASKS)
    step = draw(TASKS, 0, absent=["watch"])
    other = draw(TASKS, 0)
    step.losses["watch"] = other.losses["watch"]
    loud = dataclasses.replace(
        step, gradients=step.gradients | {"watch": other.gradients["watch"]}
    )
    assert_same_bits(jitted(options, state, loud)[0], jitted(options, state, step)[0])


@every_method
def test_a_batch_without_rows_moves_nothing(method):
    options = options_of(method)
    state = start(options, TASKS)
    step = draw(TASKS, 0, absent=TASKS)
    gradients, after, _ = jitted(options, state, step)
    np.testing.assert_allclose(flat(gradients), flat(step.rest))
    assert_same_bits(numbers_of(after), numbers_of(state))


def zero(step: Step) -> None:
    for name in step.gradients:
        step.gradients[name] = jax.tree.map(jnp.zeros_like, step.gradients[name])


def zero_losses(step: Step) -> None:
    zero(step)
    step.losses = {name: 0 * loss for name, loss in step.losses.items()}


def one_zero(step: Step) -> None:
    first = next(iter(step.gradients))
    step.gradients[first] = jax.tree.map(jnp.zeros_like, step.gradients[first])


def parallel(step: Step) -> None:
    first = step.gradients[next(iter(step.gradients))]
    for factor, name in enumerate(step.gradients, start=1):
        step.gradients[name] = jax.tree.map(lambda g, f=factor: f * g, first)


def opposite(step: Step) -> None:
    first = step.gradients[next(iter(step.gradients))]
    for number, name in enumerate(step.gradients):
        factor = (-1.0) ** number
        step.gradients[name] = jax.tree.map(lambda g, f=factor: f * g, first)


def tiny(step: Step) -> None:
    """Squares of such gradients are no numbers that float32 holds."""
    for name in step.gradients:
        step.gradients[name] = jax.tree.map(lambda g: 1e-25 * g, step.gradients[name])


@every_method
@every_number
@pytest.mark.parametrize(
    "change", [zero, zero_losses, one_zero, parallel, opposite, tiny]
)
def test_degenerate_gradients_and_losses_stay_finite(method, number, change):
    tasks, options = tasks_of(number), options_of(method)
    state = start(options, tasks)
    for seed in range(3):
        step = draw(tasks, seed)
        change(step)
        gradients, state, weights = jitted(options, state, step, seed)
        for leaf in jax.tree.leaves((gradients, weights, dict(numbers_of(state)))):
            assert np.all(np.isfinite(leaf))


@every_method
def test_degenerate_numbers_are_not_hidden_by_a_choice_between_them(method):
    """No division by zero on the side that is thrown away."""
    options = options_of(method)
    step = draw(TASKS, 0, absent=["like"])
    one_zero(step)
    with jax.debug_nans(True), jax.debug_infs(True):
        combine(options, start(options, TASKS), step)


@every_method
def test_a_step_can_be_repeated_to_the_bit(method):
    options, step = options_of(method), draw(TASKS, 0, masked=True)
    state = start(options, TASKS)
    first = jitted(options, state, step, 7)
    again = jitted(options, start(options, TASKS), step, 7)
    assert_same_bits(again[0], first[0])
    assert_same_bits(numbers_of(again[1]), numbers_of(first[1]))


@every_method
def test_the_order_in_which_tasks_are_declared_is_of_no_account(method):
    """Compiled code sorts the keys of a dict."""
    options, step = options_of(method), draw(TASKS, 0, masked=True)
    turned = step.only(reversed(TASKS))
    reverse = dict(reversed(TASKS.items()))
    for at in range(3):
        a = combine(options, start(options, TASKS), step, at)
        b = combine(options, start(options, reverse), turned, at)
        assert_same_bits(a[0], b[0])


@every_method
def test_equal_options_hash_alike_and_compile_once(method):
    options, traced = options_of(method), []

    def counted(options, state, step, at):
        traced.append(at)
        return combine(options, state, step, at)

    run = jax.jit(counted, static_argnums=0)
    twin = dataclasses.replace(options)
    assert twin is not options and twin == options and hash(twin) == hash(options)
    for at, chosen in enumerate((options, twin)):
        for weight in (1.0, 1.5):  # a number: another one compiles nothing
            state = start(chosen, TASKS, {"watch": weight})
            run(chosen, state, draw(TASKS, at), jnp.asarray(at))
    assert len(traced) == 1


@every_method
@dense_and_masked
def test_a_given_weight_scales_a_loss(method, masked):
    options = options_of(method)
    weighted, plain = start(options, TASKS, {"watch": 1.5}), start(options, TASKS)
    for seed in range(3):
        step = draw(TASKS, seed, masked=masked)
        larger = jax.tree.map(lambda g: 1.5 * g, step.gradients["watch"])
        scaled = dataclasses.replace(
            step,
            losses=step.losses | {"watch": 1.5 * step.losses["watch"]},
            gradients=step.gradients | {"watch": larger},
        )
        a, weighted, used = jitted(options, weighted, step, seed)
        b, plain, expected = jitted(options, plain, scaled, seed)
        assert_close(a, b)
        for name, factor in (("click", 1), ("watch", 1.5), ("like", 1)):
            np.testing.assert_allclose(used[name], factor * expected[name], rtol=1e-5)


@every_method
def test_a_weight_of_no_task_is_refused_with_the_nearest(method):
    with pytest.raises(ValueError, match="'wacth'.*did you mean 'watch'.*click"):
        start(options_of(method), TASKS, {"wacth": 2.0})


@every_method
def test_what_no_task_sees_gets_no_gradient_of_their_losses(method):
    options, state, found = options_of(method), start(options_of(method), TASKS), 0
    for seed in range(5):
        step = draw(TASKS, seed, masked=True)
        step.rest = jax.tree.map(jnp.zeros_like, step.rest)
        gradients, state, _ = jitted(options, state, step, seed)
        dark = sum(seen(mask) for mask in step.masks.values()) == 0
        found += np.sum(dark)
        np.testing.assert_array_equal(shared(gradients)[dark], 0)
    assert found


@every_method
def test_a_step_that_is_skipped_can_keep_the_state(method):
    options, step = options_of(method), draw(TASKS, 0)

    @jax.jit
    def run(state, sound):
        _, after, _ = combine(options, state, step)
        return jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)

    state = start(options, TASKS)
    assert_same_bits(numbers_of(run(state, False)), numbers_of(state))


@every_method
def test_it_follows_real_losses_through_one_pull_back(method):
    """`jax.vjp` of a vector of losses, as a training step has it."""
    options = options_of(method)
    rng = np.random.default_rng(0)
    like = draw(TASKS, 0)
    net, rows = like.rest
    target = {name: jnp.asarray(rng.normal(size=5), jnp.float32) for name in TASKS}

    def losses_of(net, rows):
        x = rows["shared"] @ jnp.ones((2, 4)) @ net["shared"]["layer"]["kernel"]
        x = jnp.tanh(x + net["shared"]["layer"]["bias"])
        x = x @ net["shared"]["next"]["kernel"]
        score = lambda name: (x @ net["tasks"][name]["head"]["kernel"])[:, 0]
        means = {n: jnp.mean(jnp.square(score(n) - target[n])) for n in TASKS}
        return means, jnp.mean(jnp.square(rows["click"]))

    losses, vjp = jax.vjp(losses_of, net, rows)

    def pull(cotangents, rest=1.0):
        full = {n: jnp.asarray(cotangents.get(n, 0.0), jnp.float32) for n in TASKS}
        return vjp((full, jnp.asarray(rest, jnp.float32)))

    gradient = lambda name: jax.grad(lambda *at: losses_of(*at)[0][name], (0, 1))
    step = dataclasses.replace(
        like,
        losses=losses[0],
        gradients={name: gradient(name)(net, rows) for name in TASKS},
        rest=jax.grad(lambda *at: losses_of(*at)[1], (0, 1))(net, rows),
    )
    expected, _, _ = combine(options, start(options, TASKS), step)
    found, _, _ = make(options).combine(
        losses[0],
        pull,
        start(options, TASKS),
        masks=step.masks,
        counts=step.counts,
        step=jnp.asarray(0),
        learning_rate=jnp.asarray(0.1, jnp.float32),
    )
    assert_close(found, expected)
