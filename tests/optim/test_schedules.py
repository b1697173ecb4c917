"""Schedules against their equations in Python, first and last steps, and optax's."""

import functools
import importlib
import math
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmtl.optim import schedules
from jaxmtl.optim.schedules.constant import Constant
from jaxmtl.optim.schedules.cosine import Cosine
from jaxmtl.optim.schedules.exponential import Exponential
from jaxmtl.optim.schedules.warmup import Warmup

COUNTS = (0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 19, 20, 21, 29, 30, 31, 1000, 2**31 - 1)


def schedule_of(options) -> optax.Schedule:
    module = importlib.import_module(type(options).__module__)
    return getattr(module, module.__name__.rpartition(".")[2])(options)


def warmup_oracle(o, t):
    return 1.0 if t >= o.steps else o.start + (1 - o.start) * t / o.steps


def cosine_oracle(o, t):
    if t < o.warmup:
        return t / o.warmup
    fraction = min((t - o.warmup) / (o.steps - o.warmup), 1)
    return o.end + (1 - o.end) * (1 + math.cos(math.pi * fraction)) / 2


def exponential_oracle(o, t):
    if t < o.warmup:
        return t / o.warmup
    times = (t - o.warmup) / o.every
    return max(o.rate ** (math.floor(times) if o.staircase else times), o.end)


ORACLES = {
    Constant: lambda o, t: 1.0,
    Warmup: warmup_oracle,
    Cosine: cosine_oracle,
    Exponential: exponential_oracle,
}
OPTIONS = [
    Constant(),
    Warmup(10),
    Warmup(10, start=0.3),
    Warmup(0),
    Warmup(1),
    Cosine(30),
    Cosine(30, warmup=10),
    Cosine(30, warmup=29, end=0.2),
    Cosine(1, end=0.1),
    Exponential(0.5, 10),
    Exponential(0.5, 10, staircase=True),
    Exponential(0.9, 3, staircase=True, warmup=11, end=0.05),
    Exponential(0.9, 7, warmup=1),
    Exponential(1.0, 1),
]
each = pytest.mark.parametrize("options", OPTIONS, ids=repr)


@each
def test_factors_are_those_of_the_equation(options):
    schedule, oracle = schedule_of(options), ORACLES[type(options)]
    for count in COUNTS:
        got = schedule(jnp.int32(count))
        np.testing.assert_allclose(got, oracle(options, count), rtol=2e-5, atol=1e-7)


@each
def test_a_factor_is_strong_float32_however_it_is_asked_for(options):
    """Python's, NumPy's and traced counts give the same number of the same type."""
    schedule = schedule_of(options)
    compiled = jax.jit(schedule)
    for count in (0, 7, 40):
        one = schedule(count)
        others = (
            schedule(np.int64(count)),
            schedule(jnp.int32(count)),
            compiled(count),
        )
        for got in (one, *others):
            assert got.dtype == jnp.float32 and got.shape == () and not got.weak_type
            np.testing.assert_allclose(got, one, rtol=1e-6, atol=1e-7)


@each
@pytest.mark.usefixtures("float64")
def test_a_factor_is_float32_in_a_program_of_float64(options):
    assert schedule_of(options)(jnp.int64(5)).dtype == jnp.float32


@each
def test_counts_may_be_many(options):
    schedule = schedule_of(options)
    many = schedule(jnp.arange(40))
    one = [schedule(count) for count in range(40)]
    np.testing.assert_allclose(many, one, rtol=1e-6, atol=1e-7)


@each
def test_equal_options_share_a_program(options):
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def factor(options, count):
        traced.append(options)
        return schedule_of(options)(count)

    for count in (1, 2):
        factor(type(options)(**vars(options)), count)
    assert len(traced) == 1


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.iter_modules(schedules.__path__)]
)
def test_every_schedule_stays_within_zero_and_one(name):
    module = importlib.import_module(f"{schedules.__name__}.{name}")
    wanted = name.replace("_", "")
    (options,) = (v() for k, v in vars(module).items() if k.lower() == wanted != k)
    factors = schedule_of(options)(jnp.arange(0, 20_000, 7))
    assert factors.dtype == jnp.float32
    assert np.all((factors >= 0) & (factors <= 1))


def test_first_and_last_steps():
    """By hand: a warm-up of 2 steps, then a cosine of 4."""
    schedule = schedule_of(Cosine(6, warmup=2))
    half = math.sqrt(0.5) / 2
    expected = [0, 0.5, 1, 0.5 + half, 0.5, 0.5 - half, 0, 0]
    np.testing.assert_allclose([schedule(t) for t in range(8)], expected, atol=1e-6)


@pytest.mark.parametrize("every", [3, 7, 10, 41, 47, 49, 1000, 12_345])
def test_a_staircase_falls_in_the_very_step(every):
    schedule = schedule_of(Exponential(0.5, every, staircase=True))
    for times in (1, 2, 5, 30):
        before, after = (schedule(times * every - d) for d in (1, 0))
        assert before == 0.5 ** (times - 1) and after == 0.5**times


def test_they_are_those_of_optax():
    pairs = [
        (Warmup(10, 0.2), optax.linear_schedule(0.2, 1, 10)),
        (
            Cosine(30, 10, 0.1),
            optax.warmup_cosine_decay_schedule(0, 1, 10, 30, end_value=0.1),
        ),
        (
            Exponential(0.8, 5, warmup=4, end=0.1),
            optax.warmup_exponential_decay_schedule(0, 1, 4, 5, 0.8, end_value=0.1),
        ),
        (
            Exponential(0.8, 5, staircase=True),
            optax.exponential_decay(1.0, 5, 0.8, staircase=True),
        ),
    ]
    for options, expected in pairs:
        schedule = schedule_of(options)
        for count in range(50):
            got, wanted = schedule(count), expected(count)
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
