"""Architectures against a plain NumPy forward pass in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing, crossed
from jaxmtl.types import Features, Task

TASKS, HIDDEN = ("click", "watch"), (5, 3)
OPTIONS = {
    "shared_trunk": models.SharedTrunk(HIDDEN),
    "hard_sharing": models.HardSharing(HIDDEN),
}
BATCH, FIELDS, DIM = 6, 4, 3
CROSSES = ("elementwise", "inner", "none")


def draw_features(own=False):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    views = {"watch": draw(BATCH, FIELDS, 2)} if own else {}
    return Features(draw(BATCH, FIELDS, DIM), views, draw(BATCH, 2))


def make_model(name, tasks=TASKS, cross="inner"):
    return models.make(OPTIONS[name], [Task(t) for t in tasks], Crossing(cross))


def make(name, cross="inner", own=False):
    """A model, its features, and a net whose biases are not zero."""
    model = make_model(name, cross=cross)
    features = draw_features(own)
    net = model.init(jax.random.key(0), features)
    rng = np.random.default_rng(1)
    shift = lambda w: w + jnp.asarray(rng.normal(scale=0.1, size=w.shape), jnp.float32)
    return model, features, jax.tree.map(shift, net)


def crossed_oracle(vectors, cross):
    rows, fields = [], range(vectors.shape[1])
    for row in np.asarray(vectors, np.float64):
        parts = [row.reshape(-1)]
        if cross == "elementwise":
            parts += [row[i] * row[j] for i in fields for j in fields if i < j]
        if cross == "inner":
            parts += [row @ row[i] for i in fields]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def dense_oracle(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    return x @ kernel + np.asarray(layer.get("bias", 0.0), np.float64)


def forward_oracle(name, net, features, cross):
    """Task -> logits, written from the papers' figures."""
    shared = crossed_oracle(features.shared, cross)
    x = np.concatenate([shared, np.asarray(features.numeric, np.float64)], axis=1)
    logits = {}
    for task in TASKS:
        own = net["tasks"][task]
        layers = net["shared"] if name == "shared_trunk" else own["mlp"]
        top = dense_oracle(x, layers["layer00"])
        if task in features.own:
            view = crossed_oracle(features.own[task], cross)
            top = top + dense_oracle(view, own["branch"])
        top = np.maximum(top, 0)
        top = np.maximum(dense_oracle(top, layers["layer01"]), 0)
        logits[task] = dense_oracle(top, own["head"])[:, 0]
    return logits


def test_elementwise_cross_by_hand():
    vectors = jnp.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    expected = [1, 2, 3, 4, 5, 6, 3, 8, 5, 12, 15, 24]
    np.testing.assert_array_equal(crossed(vectors, "elementwise"), [expected])


def test_inner_cross_by_hand():
    vectors = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    expected = [1, 2, 3, 4, 5, 11, 11, 25]
    np.testing.assert_array_equal(crossed(vectors, "inner"), [expected])


@pytest.mark.parametrize("fields", [1, 2, 5])
@pytest.mark.parametrize("cross", ["elementwise", "inner"])
def test_gradient_of_a_cross_is_that_of_its_sum_over_pairs(cross, fields):
    """By central differences of the oracle: it is quadratic, so they are exact."""
    rng, shape = np.random.default_rng(0), (2, fields, 3)
    vectors = rng.normal(size=shape)
    weight = rng.normal(size=crossed_oracle(vectors, cross).shape)
    value = lambda x: np.sum(weight * crossed_oracle(x, cross))
    expected = np.zeros(shape)
    for at in np.ndindex(*shape):
        step = np.zeros(shape)
        step[at] = 0.5
        expected[at] = value(vectors + step) - value(vectors - step)
    weighted = lambda x: jnp.sum(jnp.asarray(weight, x.dtype) * crossed(x, cross))
    vectors = jnp.asarray(vectors, jnp.float32)
    for gradient in (jax.grad(weighted), jax.jit(jax.grad(weighted))):
        np.testing.assert_allclose(gradient(vectors), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("cross", ["elementwise", "inner"])
def test_gradients_of_crosses_map_and_have_gradients_themselves(cross):
    """Balancers map a pull-back over tasks; finders differentiate gradients."""
    vectors = draw_features().shared
    crosses, pull = jax.vjp(lambda x: crossed(x, cross), vectors)
    each = jnp.stack([jnp.ones_like(crosses), crosses])
    mapped = jax.vmap(lambda gradient: pull(gradient)[0])(each)
    assert_close(mapped, jnp.stack([pull(gradient)[0] for gradient in each]))
    squares = lambda x: jnp.sum(crossed(x, cross) ** 2) / 2
    norm = jax.grad(lambda x: jnp.sum(jax.grad(squares)(x) ** 2))(vectors)
    # In the direction of the vectors themselves: the norm is of degree 2 or 6.
    moved = lambda t: jnp.sum(jax.grad(squares)((1 + t) * vectors) ** 2)
    slope = (moved(1e-2) - moved(-1e-2)) / 2e-2
    np.testing.assert_allclose(jnp.sum(norm * vectors), slope, rtol=1e-2)


def test_unknown_cross_is_refused():
    with pytest.raises(ValueError, match="cross 'outer' is none of.*'elementwise'"):
        crossed(jnp.ones((1, 2, 2)), "outer")


@pytest.mark.parametrize("cross", CROSSES)
@pytest.mark.parametrize(
    ("name", "own"),
    [("shared_trunk", False), ("shared_trunk", True), ("hard_sharing", False)],
)
def test_agrees_with_a_plain_forward_pass(name, own, cross):
    model, features, net = make(name, cross, own)
    expected = forward_oracle(name, net, features, cross)
    logits = model.apply(net, features).logits
    assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert_close(jax.jit(model.apply)(net, features).logits, logits)


def test_own_branch_leaves_the_other_tasks_logits_untouched():
    model, features, net = make("shared_trunk", own=True)
    before = model.apply(net, features).logits
    net["tasks"]["watch"]["branch"]["kernel"] *= 3
    other = features._replace(own={"watch": features.own["watch"] + 1})
    for changed in (features, other):
        after = model.apply(net, changed).logits
        assert_same_bits(after["click"], before["click"])
        assert (after["watch"] != before["watch"]).any()
    without = net["tasks"] | {"watch": {"head": net["tasks"]["watch"]["head"]}}
    plain = model.apply(net | {"tasks": without}, features._replace(own={})).logits
    assert_same_bits(plain["click"], before["click"])


@pytest.mark.parametrize("name", ["shared_trunk", "hard_sharing"])
def test_gradient_of_one_task_never_reaches_the_others_own_part(name):
    model, features, net = make(name)
    total = lambda net: jnp.sum(model.apply(net, features).logits["click"] ** 2)
    gradient = jax.grad(total)(net)["tasks"]
    assert not any(np.any(g) for g in jax.tree.leaves(gradient["watch"]))
    assert all(np.any(g) for g in jax.tree.leaves(gradient["click"]))


@pytest.mark.parametrize("name", ["shared_trunk", "hard_sharing"])
def test_parts_of_one_name_start_alike_in_any_company(name):
    features, key = draw_features(), jax.random.key(3)
    make_net = lambda *tasks: make_model(name, tasks).init(key, features)
    both, turned = make_net("click", "watch"), make_net("watch", "click")
    assert_same_bits(turned, both)
    for task in TASKS:
        alone = make_net(task)
        assert_same_bits(alone["shared"], both["shared"])
        assert_same_bits(alone["tasks"][task], both["tasks"][task])
    heads = [both["tasks"][task]["head"]["kernel"] for task in TASKS]
    assert (heads[0] != heads[1]).all()


def test_hard_sharing_shares_no_layer_and_the_trunk_all_but_heads():
    _, _, hard = make("hard_sharing")
    assert hard["shared"] == {}
    assert set(hard["tasks"]["click"]) == {"mlp", "head"}
    _, _, trunk = make("shared_trunk", own=True)
    assert list(trunk["shared"]) == ["layer00", "layer01"]
    assert set(trunk["tasks"]["click"]) == {"head"}
    assert set(trunk["tasks"]["watch"]) == {"head", "branch"}


def test_hard_sharing_refuses_an_own_view():
    with pytest.raises(ValueError, match=r"no own views; got one for \['watch'\]"):
        make("hard_sharing", own=True)
