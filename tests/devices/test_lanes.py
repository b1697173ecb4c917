"""Trainings that share one program give what each gives alone."""

import functools
import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, make_rows, make_setup

from jaxmtl.data.batches import Plan
from jaxmtl.devices import lanes
from jaxmtl.training import train_state
from jaxmtl.training.fit import fit

LIMIT = 60
"""Seconds after which lanes that wait for each other count as stuck."""


@pytest.fixture
def watched():
    """A program that adds a lane's number to common ones, and its calls' shapes."""
    shapes = []

    @jax.jit
    def add(own, common):
        return {"sum": own + common}

    def call(own, common):
        found = program(own, common)
        shapes.append(np.shape(found["sum"]))
        return found["sum"]

    program = lanes.Program(add, (lanes.OWN, lanes.SHARED))
    return call, shapes


def in_time(jobs, **options):
    """What `lanes.run` returns or raises; a failure where it hangs."""
    ended = []

    def run():
        try:
            ended.append((lanes.run(jobs, **options), None))
        except Exception as error:
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert ended, "the lanes wait for each other"
    result, error = ended[0]
    if error is not None:
        raise error
    return result


def test_results_come_in_the_order_of_the_jobs(watched):
    call, _ = watched
    common = jnp.arange(3.0)
    jobs = [functools.partial(call, float(n), common) for n in range(4)]
    for n, result in enumerate(in_time(jobs)):
        np.testing.assert_array_equal(result, np.arange(3) + n)


def test_lanes_that_meet_are_computed_by_one_call(monkeypatch):
    groups = []
    compute = lanes._Meeting._compute

    def watch(meeting, group):
        groups.append(len(group))
        return compute(meeting, group)

    monkeypatch.setattr(lanes._Meeting, "_compute", watch)
    program = lanes.Program(jax.jit(lambda x: 2 * x), (lanes.OWN,))

    def job(times):
        value = jnp.ones(2)
        for _ in range(times):
            value = program(value)
        return value

    found = in_time([functools.partial(job, times) for times in (1, 2, 4)])
    assert [float(value[0]) for value in found] == [2, 4, 16]
    assert groups == [3, 2, 1, 1]


def test_a_lane_that_has_ended_costs_no_new_program():
    traced = []

    @jax.jit
    def double(x):
        traced.append(1)
        return 2 * x

    program = lanes.Program(double, (lanes.OWN,))

    def job(times):
        return functools.reduce(lambda x, _: program(x), range(times), jnp.ones(2))

    in_time([functools.partial(job, times) for times in (1, 2, 3)])
    assert len(traced) == 1


def test_lanes_at_different_programs_do_not_wait_for_ever():
    double = lanes.Program(jax.jit(lambda x: 2 * x), (lanes.OWN,))
    negate = lanes.Program(jax.jit(lambda x: -x), (lanes.OWN,))
    jobs = [
        lambda: double(double(jnp.ones(1))),
        lambda: negate(double(jnp.ones(1))),
        lambda: double(jnp.ones(3))[:1],  # another shape
    ]
    assert [float(x[0]) for x in in_time(jobs)] == [4, -2, 2]


def test_outside_of_lanes_a_program_is_just_called(watched):
    call, shapes = watched
    np.testing.assert_array_equal(call(1.0, jnp.zeros(2)), [1, 1])
    assert shapes == [(2,)]


def test_one_lane_s_error_ends_all_and_is_the_one_raised():
    program = lanes.Program(jax.jit(lambda x: 2 * x), (lanes.OWN,))

    def fails():
        program(jnp.ones(1))
        raise ValueError("this one")

    def goes_on():
        for _ in range(1000):
            program(jnp.ones(1))

    with pytest.raises(ValueError, match="this one"):
        in_time([goes_on, fails, goes_on])


def test_an_error_of_its_own_leaves_the_other_lanes_to_their_end():
    program, ended = lanes.Program(jax.jit(lambda x: 2 * x), (lanes.OWN,)), []

    def stops():
        program(jnp.ones(1))
        raise InterruptedError("saved")

    def goes_on():
        for _ in range(3):
            program(jnp.ones(1))
        ended.append(1)

    with pytest.raises(InterruptedError, match="saved"):
        in_time([stops, goes_on], alone=(InterruptedError,))
    assert ended == [1]


def test_a_program_that_fails_fails_in_its_lanes():
    program = lanes.Program(jax.jit(lambda x: x.no_such_attribute), (lanes.OWN,))
    with pytest.raises(AttributeError, match="no_such_attribute"):
        in_time([lambda: program(jnp.ones(1))] * 2)


def train_seed(setup, rows, validation, seed):
    state = train_state.make_init(setup)(jax.random.key(seed))
    return fit(
        setup,
        state,
        train_state.dense_masks(setup, state.net),
        plan=Plan(make_rows(64, seed=1), setup.learned, 32),
        train=rows,
        validation=validation,
        seed=seed,
        epochs=7,
        patience=1,
    )


@pytest.mark.parametrize("moving", ["gated", "per_task"])
def test_seeds_trained_together_are_those_trained_alone(moving):
    setup = make_setup(moving=moving)
    rows = jax.tree.map(jnp.asarray, make_rows(64, seed=1))
    validation = jax.tree.map(jnp.asarray, make_rows(60, seed=2))
    job = functools.partial(train_seed, setup, rows, validation)
    alone = [job(seed) for seed in range(3)]
    together = in_time([functools.partial(job, seed) for seed in range(3)])
    assert len({len(fit.history) for fit in alone}) > 1  # some stop before others
    for one, other in zip(alone, together, strict=True):
        assert one.best_epoch == other.best_epoch
        assert len(one.history) == len(other.history)
        assert_close(one.best, other.best, rtol=1e-4, atol=1e-6)


ON_FOUR_DEVICES = """
    import functools, jax, jax.numpy as jnp, numpy as np
    from jaxmtl.devices import lanes

    assert jax.device_count() == 4
    compiled = jax.jit(lambda x, w: {"y": jnp.sin(x) @ w})
    program = lanes.Program(compiled, (lanes.OWN, lanes.SHARED))
    w = jnp.arange(6.0).reshape(3, 2)

    def job(n):
        first = program(jnp.full((2, 3), float(n)), w)["y"]
        assert first.devices() == {jax.devices()[0]}
        return first

    found = lanes.run([functools.partial(job, n) for n in range(6)])
    for n, y in enumerate(found):
        np.testing.assert_allclose(y, np.sin(np.full((2, 3), n)) @ w, rtol=1e-6)
    mapped = lanes._mapped(program)
    many = jax.device_put(
        jnp.zeros((8, 2, 3)),
        jax.sharding.NamedSharding(lanes._mesh(jax.devices()), jax.P(lanes.AXIS)),
    )
    text = mapped.lower(many, w).compile().as_text()
    assert "all-gather" not in text and "all-reduce" not in text
    print("done")
"""


def test_lanes_are_dealt_out_over_devices_and_exchange_nothing():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ON_FOUR_DEVICES)],
        env={**os.environ, **flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.stdout.strip() == "done", ended.stderr
