"""Mixtures of experts and the shared bottom against their papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    FUNNEL,
    draw_features,
    draw_like,
    flattened,
    float64,
    mlp,
    softmax,
    tower,
)

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.layers.experts import Experts, Gate
from jaxmtl.layers.narrow import narrow_product

NAMES = [task.name for task in FUNNEL]
HIDDEN = (5, 3)


def make(options, tasks=FUNNEL):
    """A model, its features, and a net without a zero."""
    model, features = models.make(options, tasks, Crossing("none")), draw_features()
    return model, features, draw_like(model.init, features)


def test_a_narrow_product_s_gradients_are_those_of_a_product():
    rng = np.random.default_rng(0)
    x, weight, gradient = (
        jnp.asarray(rng.integers(-4, 5, shape), jnp.float32)
        for shape in ((6, 5), (5, 3), (2, 6, 3))
    )
    found, pull = jax.vjp(narrow_product, x, weight)
    np.testing.assert_array_equal(found, x @ weight)
    mapped = jax.jit(jax.vmap(pull))(gradient)  # balancers map a pull-back over tasks
    for i, g in enumerate(gradient):
        np.testing.assert_array_equal(pull(g)[0], g @ weight.T)
        np.testing.assert_array_equal(pull(g)[1], x.T @ g)
        assert_same_bits([part[i] for part in mapped], list(pull(g)))


def one_expert(stacked, expert):
    """An MLP of its own: one expert's slice of the stacked layers."""
    return jax.tree.map(lambda w: w[expert], stacked)


def expert_outputs(x, stacked):
    count = len(stacked["layer00"]["bias"])
    return [mlp(x, one_expert(stacked, e)) for e in range(count)]


def mixture(x, gate, outputs):
    shares = softmax(x @ gate["weight"])
    return sum(shares[:, [e]] * output for e, output in enumerate(outputs))


def mmoe_oracle(net, x):
    outputs = expert_outputs(x, net["shared"]["experts"])
    own = net["tasks"]
    return {n: tower(mixture(x, own[n]["gate"], outputs), own[n]) for n in own}


def omoe_oracle(net, x):
    outputs = expert_outputs(x, net["shared"]["experts"])
    mixed = mixture(x, net["shared"]["gate"], outputs)
    return {n: tower(mixed, own) for n, own in net["tasks"].items()}


def shared_bottom_oracle(net, x):
    top = mlp(x, net["shared"]["bottom"])
    return {n: tower(top, own) for n, own in net["tasks"].items()}


def ple_oracle(net, x, levels):
    inputs = dict.fromkeys([*NAMES, "shared"], x)
    for level in (f"level{i:02d}" for i in range(levels)):
        parts = dict(net["shared"][level])
        for own in net["tasks"].values():
            parts |= own[level]
        outputs = {
            group: expert_outputs(inputs[group], parts[f"{group}_experts"])
            for group in inputs
            if f"{group}_experts" in parts
        }
        every = [o for name in [*NAMES, "shared"] for o in outputs.get(name, [])]
        sees = {n: outputs.get(n, []) + outputs.get("shared", []) for n in NAMES}
        inputs = {
            group: mixture(inputs[group], parts[f"{group}_gate"], seen)
            for group, seen in (sees | {"shared": every}).items()
            if f"{group}_gate" in parts
        }
    return {n: tower(inputs[n], own) for n, own in net["tasks"].items()}


@pytest.mark.parametrize("top", [(), (4,)])
@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        (lambda top: models.Mmoe(3, HIDDEN, top), mmoe_oracle),
        (lambda top: models.Mmoe(2, (4,), top), mmoe_oracle),
        (lambda top: models.Mmoe(2, (5, 4, 3), top), mmoe_oracle),
        (lambda top: models.Omoe(3, HIDDEN, top), omoe_oracle),
        (lambda top: models.SharedBottom(HIDDEN, top), shared_bottom_oracle),
    ],
)
def test_agrees_with_the_equations(options, oracle, top):
    model, features, net = make(options(top))
    expected = oracle(float64(net), flattened(features))
    assert_close(model.apply(net, features).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "shared", "own"),
    [(1, 0, 1), (1, 2, 1), (2, 1, 2), (3, 2, 1), (2, 0, 2), (2, 2, 0)],
)
def test_ple_agrees_with_the_equations(levels, shared, own):
    model, features, net = make(models.Ple(levels, shared, own, HIDDEN, (4,)))
    expected = ple_oracle(float64(net), flattened(features), levels)
    assert_close(model.apply(net, features).logits, expected, rtol=1e-4, atol=1e-5)


def test_mixture_by_hand():
    outputs = jnp.array([[[1.0, 2.0]], [[5.0, 10.0]]])
    weight = jnp.log(jnp.array([[1.0, 3.0]]))
    mixed = Gate().apply({"params": {"weight": weight}}, jnp.ones((1, 1)), outputs)
    np.testing.assert_allclose(mixed, [[4.0, 8.0]], rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
@settings(max_examples=10, deadline=None)
def test_mixture_lies_between_its_experts(seed, count):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape, scale=3), jnp.float32)
    outputs, x = draw(count, 4, 3), draw(4, 6)
    mixed = Gate().apply({"params": {"weight": draw(6, count)}}, x, outputs)
    assert (mixed >= outputs.min(axis=0) - 1e-5).all()
    assert (mixed <= outputs.max(axis=0) + 1e-5).all()


def test_every_expert_starts_on_the_scale_of_an_mlp_of_its_own():
    start = Experts(4, (32, 32)).init(jax.random.key(0), jnp.zeros((1, 300)))["params"]
    for kernel, inputs in ((start["layer00"], 300), (start["layer01"], 32)):
        spread = jnp.std(kernel["kernel"], axis=(1, 2))
        np.testing.assert_allclose(spread, inputs**-0.5, rtol=0.1)


def test_mmoe_of_one_expert_is_a_shared_bottom():
    model, features, net = make(models.Mmoe(1, HIDDEN, (4,)))
    bottom, _, _ = make(models.SharedBottom(HIDDEN, (4,)))
    shared = {"bottom": one_expert(net["shared"]["experts"], 0)}
    expected = bottom.apply({"shared": shared, "tasks": net["tasks"]}, features)
    assert_close(model.apply(net, features).logits, expected.logits)


def test_even_gates_average_the_experts():
    model, features, net = make(models.Mmoe(3, HIDDEN, (4,)))
    net["tasks"]["watch"]["gate"]["weight"] *= 0
    x, own = flattened(features), float64(net["tasks"]["watch"])
    mean = np.mean(expert_outputs(x, float64(net["shared"]["experts"])), axis=0)
    logit = model.apply(net, features).logits["watch"]
    assert_close(logit, tower(mean, own), rtol=1e-4, atol=1e-5)


def test_order_of_the_experts_does_not_matter():
    model, features, net = make(models.Mmoe(3, HIDDEN, (4,)))
    order = jnp.array([2, 0, 1])
    turned = jax.tree.map(lambda w: w[order], net["shared"]["experts"])
    gates = {
        n: {"gate": {"weight": own["gate"]["weight"][:, order]}}
        for n, own in net["tasks"].items()
    }
    tasks = {n: own | gates[n] for n, own in net["tasks"].items()}
    other = model.apply({"shared": {"experts": turned}, "tasks": tasks}, features)
    assert_close(other.logits, model.apply(net, features).logits)


def test_omoe_is_mmoe_with_equal_gates():
    model, features, net = make(models.Omoe(3, HIDDEN, (4,)))
    many, _, _ = make(models.Mmoe(3, HIDDEN, (4,)))
    tasks = {
        n: own | {"gate": net["shared"]["gate"]} for n, own in net["tasks"].items()
    }
    expected = many.apply({"shared": net["shared"], "tasks": tasks}, features)
    assert_close(model.apply(net, features).logits, expected.logits)


def test_one_level_without_task_experts_is_mmoe():
    model, features, net = make(models.Ple(1, 3, 0, HIDDEN, (4,)))
    many, _, _ = make(models.Mmoe(3, HIDDEN, (4,)))
    shared = {"experts": net["shared"]["level00"]["shared_experts"]}
    gate = lambda n: {"gate": net["tasks"][n]["level00"][f"{n}_gate"]}
    tasks = {n: own | gate(n) for n, own in net["tasks"].items()}
    expected = many.apply({"shared": shared, "tasks": tasks}, features)
    assert_close(model.apply(net, features).logits, expected.logits)


def test_one_level_with_one_expert_for_each_task_alone_shares_nothing():
    model, features, net = make(models.Ple(1, 0, 1, HIDDEN, (4,)))
    assert not jax.tree.leaves(net["shared"])
    alone, _, _ = make(models.SharedBottom(HIDDEN, (4,)), FUNNEL[1:2])
    own = net["tasks"]["watch"]
    bottom = one_expert(own["level00"]["watch_experts"], 0)
    expected = alone.apply(
        {"shared": {"bottom": bottom}, "tasks": {"watch": own}}, features
    )
    assert_close(model.apply(net, features).logits["watch"], expected.logits["watch"])


@pytest.mark.parametrize("levels", [1, 2])
def test_shared_gate_passes_a_tasks_experts_on_to_the_others(levels):
    model, features, net = make(models.Ple(levels, 1, 1, HIDDEN, (4,)))
    before = model.apply(net, features).logits
    place = net["tasks"]["watch"] if levels == 1 else net["shared"]
    place["level00"]["watch_experts"]["layer01"]["bias"] += 1
    after = model.apply(net, features).logits
    assert (after["watch"] != before["watch"]).any()
    for other in ("click", "share"):
        if levels == 1:
            assert_same_bits(after[other], before[other])
        else:
            assert (after[other] != before[other]).any()
