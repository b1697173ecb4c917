"""Every file in `jaxmtl/optim/optimisers` stops at gates; a new one is tested as well.

A net in which gates are one for a leaf and one for each weight is trained in one scan,
by each direction with its default options and with each yes or no of them turned.
"""

import dataclasses
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close

from jaxmtl import discovery
from jaxmtl.optim import chain, optimisers

STEPS = 12
NUMBERS = {"learning_rate": 0.05, "weight_decay": 0.1}
SHAPES = {
    "shared": {
        "layer": {"kernel": (5, 4), "bias": (4,)},
        "cross": {"kernel": (2, 3, 2), "bias": (2,)},
    },
    "tasks": {"click": {"head": {"kernel": (4, 1), "bias": ()}}},
}
COUNTED = {
    "shared": {
        "layer": {"kernel": True, "bias": False},
        "cross": {"kernel": True, "bias": True},
    },
    "tasks": {"click": {"head": {"kernel": False, "bias": False}}},
}
is_shape = lambda leaf: isinstance(leaf, tuple)
NAMES = [module.name for module in pkgutil.iter_modules(optimisers.__path__)]
OPTAX = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "lion": functools.partial(optax.lion, weight_decay=0.0),
    "nadam": optax.nadam,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "yogi": optax.yogi,
}
"""Known optimisers by the name of the direction whose default options are theirs."""


def direction_of(options) -> optax.GradientTransformation:
    name = type(options).__module__.rpartition(".")[2]
    return getattr(importlib.import_module(type(options).__module__), name)(options)


def class_of(name: str) -> type:
    module = importlib.import_module(f"{optimisers.__name__}.{name}")
    wanted = name.replace("_", "")
    (found,) = (c for key, c in vars(module).items() if key.lower() == wanted != key)
    return found


def variants() -> list:
    """Default options, then with momentum and with each yes or no turned."""
    found = []
    for name in NAMES:
        options = [class_of(name)()]
        fields = dataclasses.fields(options[0])
        if any(field.name == "momentum" for field in fields):
            options.append(dataclasses.replace(options[0], momentum=0.8))
        for field in fields:
            if isinstance(value := getattr(options[0], field.name), bool):
                options.append(
                    dataclasses.replace(options[-1], **{field.name: not value})
                )
        found += options
    return found


each = pytest.mark.parametrize("options", variants(), ids=repr)


def draw(rng, of, steps: int | None = None):
    """A tree over the net, with a leading axis of steps if there are any."""
    front = () if steps is None else (steps,)
    leaf = lambda shape: jnp.asarray(of(rng, (*front, *shape)))
    return jax.tree.map(leaf, SHAPES, is_leaf=is_shape)


def draw_gates(rng, steps: int, chance: float = 0.5):
    """Gates [steps, …] that change at every step."""

    def leaf(is_counted, shape):
        return jnp.asarray(rng.random((steps, *shape * is_counted)) < chance)

    return jax.tree.map(leaf, COUNTED, SHAPES)


normal = lambda rng, shape: rng.normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def train(options, net, gradients, gates):
    """The nets and states before each step and after the last: [steps + 1, …]."""
    optimiser = chain.make(direction_of(options), COUNTED)

    def step(carry, given):
        net, state = carry
        gradient, gate = given
        updates, state = optimiser.update(gradient, state, net, gates=gate, **NUMBERS)
        after = chain.apply_updates(net, updates, gate), state
        return after, carry

    start = net, optimiser.init(net)
    last, before = jax.lax.scan(step, start, (gradients, gates))
    join = lambda many, one: jnp.concatenate([many, one[None]])
    return jax.tree.map(join, before, last)


def kernels(net):
    return jax.tree_util.tree_map_with_path(lambda path, _: is_kernel(path), net)


def is_kernel(path) -> bool:
    return path[-1].key == "kernel"


@functools.partial(jax.jit, static_argnums=0)
def plain_step(options, net, state, gradient):
    """A step of optax alone, which knows no gates."""
    updates, state = plain(options).update(gradient, state, net)
    return optax.apply_updates(net, updates), state


def plain(options) -> optax.GradientTransformation:
    return optax.chain(
        direction_of(options),
        optax.add_decayed_weights(NUMBERS["weight_decay"], mask=kernels),
        optax.scale_by_learning_rate(NUMBERS["learning_rate"]),
    )


def plain_after(options, net, gradients, steps):
    """The net after the steps `steps` of optax alone."""
    state = plain(options).init(net)
    for t in steps:
        gradient = jax.tree.map(lambda g, t=t: g[t], gradients)
        net, state = plain_step(options, net, state, gradient)
    return net


def bits(array) -> np.ndarray:
    """Its bits, in which -0.0 and 0.0 differ, and one NaN is itself."""
    array = np.asarray(array)
    return array if array.dtype == bool else array.view(f"u{array.dtype.itemsize}")


def assert_closed_keep_their_bits(trajectory, gates) -> None:
    """No leaf of net or state changes in a step where its gate is closed."""
    gate_of = dict(jax.tree_util.tree_leaves_with_path(gates))
    for path, values in jax.tree_util.tree_leaves_with_path(trajectory):
        gate = next(g for p, g in gate_of.items() if path[-len(p) :] == p)
        gate = np.reshape(gate, gate.shape + (1,) * (values.ndim - gate.ndim))
        before, after = bits(values[:-1]), bits(values[1:])
        changed = np.any((before != after) & ~gate)
        assert not changed, jax.tree_util.keystr(path)


@each
def test_closed_weights_keep_value_moments_and_counts_to_the_bit(options):
    rng = np.random.default_rng(0)
    gates = draw_gates(rng, STEPS)
    net, gradients = draw(rng, normal), draw(rng, normal, STEPS)
    nets, states = train(options, net, gradients, gates)
    assert_closed_keep_their_bits((nets, states), gates)

    closed = jax.tree.map(jnp.zeros_like, gates)
    nets, states = train(options, net, gradients, closed)
    for leaf in jax.tree.leaves((nets, states)):
        assert np.all(bits(leaf) == bits(leaf)[:1])


@each
def test_closed_weights_keep_signed_zeros_and_what_float32_flushes(options):
    """Whatever stands in the net and in the gradients, open ones' overflow included."""
    rng = np.random.default_rng(1)
    pick = lambda *values: lambda rng, shape: rng.choice(np.float32(values), shape)
    net = draw(rng, pick(-0.0, 0.0, 1e-40, -1e-45, 3e38, -1.5))
    gradients = draw(rng, pick(-0.0, 1e-40, 1e-20, 1e30, -3e38, 1), STEPS)
    gates = draw_gates(rng, STEPS)
    # Behind closed gates, what is no number.
    gradients = jax.tree.map(
        lambda g, gate: jnp.where(
            gate.reshape(gate.shape + (1,) * (g.ndim - gate.ndim)), g, jnp.nan
        ),
        gradients,
        gates,
    )
    assert_closed_keep_their_bits(train(options, net, gradients, gates), gates)


@each
def test_optax_adds_nothing_to_closed_weights_either(options):
    """`optax.apply_updates` serves wherever float32 flushes no weight."""
    rng = np.random.default_rng(2)
    net = draw(rng, lambda rng, shape: rng.choice(np.float32([-0.0, 0.0, 2]), shape))
    optimiser = chain.make(direction_of(options), COUNTED)
    closed = jax.tree.map(lambda gate: gate[0], draw_gates(rng, 1, chance=0))
    updates, _ = optimiser.update(
        draw(rng, normal), optimiser.init(net), net, gates=closed, **NUMBERS
    )
    after = optax.apply_updates(net, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), after, net
    )


@each
def test_behind_open_gates_it_is_the_plain_optimiser(options):
    rng = np.random.default_rng(3)
    net, gradients = draw(rng, normal), draw(rng, normal, STEPS)
    nets, _ = train(options, net, gradients, draw_gates(rng, STEPS, chance=1))
    for t in (1, STEPS):
        expected = plain_after(options, net, gradients, range(t))
        got = jax.tree.map(lambda w, t=t: w[t], nets)
        assert_close(got, expected, rtol=2e-6, atol=2e-6)


@each
def test_a_weight_has_seen_only_the_steps_that_moved_it(options):
    """It stands where a plain optimiser would that was given those gradients alone."""
    rng = np.random.default_rng(4)
    patterns = np.zeros((5, STEPS), bool)
    patterns[0, ::2] = patterns[1, 1::3] = patterns[2, 9:] = patterns[3] = True
    net, gradients = draw(rng, normal), draw(rng, normal, STEPS)
    choice = jax.tree.map(
        lambda counted, shape: rng.integers(5, size=shape * counted), COUNTED, SHAPES
    )
    gates = jax.tree.map(
        lambda which: jnp.asarray(np.moveaxis(patterns[which], -1, 0)), choice
    )
    nets, _ = train(options, net, gradients, gates)
    for number, pattern in enumerate(patterns):
        expected = plain_after(options, net, gradients, np.flatnonzero(pattern))

        def compare(got, expected, which, number=number):
            chosen = np.broadcast_to(which == number, expected.shape)
            got, expected = np.asarray(got[-1])[chosen], np.asarray(expected)[chosen]
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)

        jax.tree.map(compare, nets, expected, choice)


@each
def test_eager_and_compiled_agree(options):
    rng = np.random.default_rng(5)
    net, gradients, gates = draw(rng, normal), draw(rng, normal, 2), draw_gates(rng, 2)
    nets, states = train(options, net, gradients, gates)
    optimiser = chain.make(direction_of(options), COUNTED)
    state = optimiser.init(net)
    for t in range(2):
        gradient, gate = jax.tree.map(lambda x, t=t: x[t], (gradients, gates))
        updates, state = optimiser.update(gradient, state, net, gates=gate, **NUMBERS)
        net = chain.apply_updates(net, updates, gate)
    last = jax.tree.map(lambda x: x[2], (nets, states))
    assert_close((net, state), last, rtol=1e-5, atol=1e-6)


@each
def test_it_chains_with_parts_of_optax(options):
    """Clipping before, decay, a trace and the rate after: by hand as in `make`."""
    rng = np.random.default_rng(6)
    net, gradients = draw(rng, normal), draw(rng, normal, 2)
    gates = jax.tree.map(lambda gate: gate[0], draw_gates(rng, 1))
    optimiser = optax.chain(
        chain.mask_gradients(),
        optax.clip_by_global_norm(0.7),
        chain.per_weight(direction_of(options), COUNTED),
        optax.add_decayed_weights(NUMBERS["weight_decay"], mask=kernels),
        chain.per_weight(optax.trace(0.5), COUNTED),
        optax.scale_by_learning_rate(NUMBERS["learning_rate"]),
        chain.gate_updates(),
    )
    made = chain.make(direction_of(options), COUNTED, clip=0.7)
    state, other = optimiser.init(net), made.init(net)
    expected = jax.tree.map(jnp.zeros_like, net)
    for t in range(2):
        gradient = jax.tree.map(lambda g, t=t: g[t], gradients)
        updates, state = optimiser.update(gradient, state, net, gates=gates)
        alone, other = made.update(gradient, other, net, gates=gates, **NUMBERS)
        expected = jax.tree.map(lambda past, u: 0.5 * past + u, expected, alone)
        assert_close(updates, expected, rtol=2e-6, atol=1e-7)


@each
def test_types_stay_what_they_are(options):
    """A step returns what it got: a scan would refuse another type of its carry."""
    rng = np.random.default_rng(7)
    net, gradient = draw(rng, normal), draw(rng, normal)
    gates = jax.tree.map(lambda gate: gate[0], draw_gates(rng, 1))
    optimiser = chain.make(direction_of(options), COUNTED, clip=1.0)
    state = optimiser.init(net)
    strong = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(0.1)}
    for numbers in (NUMBERS, strong):
        updates, after = jax.eval_shape(
            functools.partial(optimiser.update, gates=gates, **numbers),
            gradient,
            state,
            net,
        )
        assert jax.tree.structure(after) == jax.tree.structure(state)
        pairs = zip(
            jax.tree.leaves((state, net)),
            jax.tree.leaves((after, updates)),
            strict=True,
        )
        for old, new in pairs:
            assert (old.shape, old.dtype) == (new.shape, new.dtype)
            assert old.dtype in (jnp.float32, jnp.int32)
            assert not (old.weak_type or new.weak_type)


@each
def test_equal_options_share_a_program(options):
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(options, net, numbers):
        traced.append(options)
        optimiser = chain.make(direction_of(options), {"kernel": True})
        gates = {"kernel": jnp.ones(3, bool)}
        state = optimiser.init(net)
        return optimiser.update(net, state, net, gates=gates, **numbers)[0]

    net = {"kernel": jnp.ones(3)}
    for rate in (0.1, 0.2):
        again = dataclasses.replace(options)
        assert again is not options and hash(again) == hash(options)
        step(again, net, {"learning_rate": rate, "weight_decay": rate})
    assert len(traced) == 1


@pytest.mark.parametrize("name", sorted(OPTAX))
def test_default_options_are_those_of_optax(name):
    rng = np.random.default_rng(8)
    net, gradients = draw(rng, normal), draw(rng, normal, STEPS)
    optimiser = OPTAX[name](0.05)
    ours = optax.chain(direction_of(class_of(name)()), optax.scale(-0.05))
    state, other = optimiser.init(net), ours.init(net)
    update, other_update = jax.jit(optimiser.update), jax.jit(ours.update)
    for t in range(STEPS):
        gradient = jax.tree.map(lambda g, t=t: g[t], gradients)
        expected, state = update(gradient, state, net)
        got, other = other_update(gradient, other, net)
        assert_close(got, expected, rtol=1e-5, atol=1e-7)


def numbers_of(name: str) -> list[str]:
    """The options of a direction that are floats."""
    made = discovery.options(optimisers.__name__, name)()
    fields = [field.name for field in dataclasses.fields(made)]
    return [field for field in fields if type(getattr(made, field)) is float]


def path_of(options) -> np.ndarray:
    """The directions of one weight whose gradient is drawn anew in each step."""
    made = direction_of(options)
    weight = jnp.float32(1.0)
    state, found = made.init(weight), []
    for gradient in np.random.default_rng(0).normal(size=30):
        direction, state = made.update(jnp.float32(gradient), state, weight)
        found.append(direction)
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in NAMES for field in numbers_of(name)]
)
def test_every_number_among_the_options_is_felt(name, field):
    options = discovery.options(optimisers.__name__, name)()
    number = getattr(options, field)
    other = dataclasses.replace(options, **{field: number * 0.5 if number else 0.5})
    if field.startswith("eps"):  # too small to be felt until it is large
        other = dataclasses.replace(options, **{field: 0.5})
    assert (path_of(options) != path_of(other)).any()
