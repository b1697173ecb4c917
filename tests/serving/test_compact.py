"""A subnetwork without its dead neurons and inputs says what the masked one says."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_setup
from hypothesis import given, settings

from jaxmtl.layers.crossing import Crossing, feature_layer
from jaxmtl.serving import compact
from jaxmtl.serving.compact import Chain, Layer
from jaxmtl.sparsity import masks, pruning
from jaxmtl.training.train_state import features_like, init_net


def forward(layers, x):
    """NumPy's own pass in float64, over whole matrices."""
    x = np.asarray(x, np.float64)
    for kernel, bias in layers[:-1]:
        x = np.maximum(x @ np.asarray(kernel, np.float64) + bias, 0)
    return (x @ np.asarray(layers[-1].kernel, np.float64) + layers[-1].bias)[:, 0]


def small(chain: Chain, x):
    return forward(chain.layers, x[:, chain.inputs])


def random_layers(rng, widths, density, whole=True):
    """Layers of which only a fraction of the weights is not zero."""
    layers = []
    for before, after in zip(widths, [*widths[1:], 1], strict=True):
        values = rng.integers(-3, 4, (before, after)) if whole else None
        kernel = rng.normal(size=(before, after)) if values is None else values
        kernel = np.where(rng.random(kernel.shape) < density, kernel, 0)
        bias = rng.integers(-3, 4, after)
        layers.append(Layer(kernel.astype(np.float32), bias.astype(np.float32)))
    return layers


def test_what_is_dead_goes_and_its_constant_stays():
    """Three inputs, three neurons, a head; worked out by hand.

    Neuron 0 reads input 0 alone. Nothing enters neuron 1, whose bias 2 reaches the
    head by weight 5, nor neuron 2, whose bias -4 sends nothing; input 2 is read by no
    one, and input 1 by neuron 1 in a weight that is pruned.
    """
    first = Layer(
        np.array([[3, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32),
        np.array([1, 2, -4], np.float32),
    )
    head = Layer(np.array([[7], [5], [6]], np.float32), np.array([10], np.float32))
    chain = compact.compact([first, head])
    np.testing.assert_array_equal(chain.inputs, [0])
    np.testing.assert_array_equal(chain.layers[0].kernel, [[3]])
    np.testing.assert_array_equal(chain.layers[0].bias, [1])
    np.testing.assert_array_equal(chain.layers[1].kernel, [[7]])
    np.testing.assert_array_equal(chain.layers[1].bias, [20])
    assert compact.multiply_adds(chain) == 2


def test_a_neuron_that_nobody_reads_goes_with_the_inputs_it_alone_read():
    first = Layer(np.eye(2, dtype=np.float32), np.ones(2, np.float32))
    second = Layer(np.array([[1, 1], [0, 4]], np.float32), np.zeros(2, np.float32))
    head = Layer(np.array([[2], [0]], np.float32), np.zeros(1, np.float32))
    chain = compact.compact([first, second, head])
    np.testing.assert_array_equal(chain.inputs, [0])
    assert [layer.kernel.shape for layer in chain.layers] == [(1, 1)] * 3


def test_a_net_without_any_weight_is_a_constant():
    first = Layer(np.zeros((2, 3), np.float32), np.array([1, -1, 2], np.float32))
    head = Layer(np.array([[1], [9], [4]], np.float32), np.array([0.5], np.float32))
    chain = compact.compact([first, head])
    assert len(chain.inputs) == compact.multiply_adds(chain) == 0
    got = compact.apply(chain, jnp.ones((3, 2)))
    np.testing.assert_array_equal(got, [9.5] * 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]),
)
def test_small_equals_whole_exactly_on_whole_numbers(seed, widths, density):
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, widths, density)
    chain = compact.compact(layers)
    x = rng.integers(-3, 4, (5, widths[0]))
    np.testing.assert_array_equal(small(chain, x), forward(layers, x))
    got = compact.apply(chain, jnp.asarray(x, jnp.float32))
    np.testing.assert_array_equal(got, forward(layers, x))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.7]))
def test_nothing_dead_is_left_and_a_second_pass_finds_nothing(seed, density):
    rng = np.random.default_rng(seed)
    chain = compact.compact(random_layers(rng, [6, 5, 4, 3], density))
    for layer in chain.layers[:-1]:
        assert layer.kernel.any(axis=0).all()
    for layer in chain.layers:
        assert layer.kernel.any(axis=1).all()
    again = compact.compact(chain.layers)
    assert [x.kernel.shape for x in again.layers] == [
        x.kernel.shape for x in chain.layers
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "without layers"),
        ([Layer(np.zeros((2, 3)), np.zeros(2))], "layer 0 .* has 2 biases"),
        (
            [
                Layer(np.zeros((2, 3)), np.zeros(3)),
                Layer(np.zeros((2, 1)), np.zeros(1)),
            ],
            "layer 1 .* is given 3",
        ),
    ],
)
def test_what_is_no_chain_is_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        compact.compact(layers)


# A trunk as a task sees it

SETUP = make_setup(own_dims=(("watch", 2),), crossing=Crossing("elementwise"))


@pytest.fixture(scope="module")
def net():
    made = init_net(SETUP, jax.random.key(0))
    # Biases start at zero, where a dead neuron would send nothing.
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), made
    )


@pytest.fixture(scope="module")
def features():
    like = features_like(SETUP, 7)
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), like
    )


def random_mask(net, task, density):
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda m: jnp.asarray(rng.random(m.shape) < density), masks.full(net, task)
    )


def neuron_mask(net, task, density):
    full = masks.full(net, task)
    return pruning.prune_neurons(net, full, round(density * masks.count(full)))


@pytest.mark.parametrize("task", SETUP.tasks)
@pytest.mark.parametrize("make", [random_mask, neuron_mask])
def test_a_task_made_small_gives_the_logits_of_its_masked_net(
    net, features, make, task
):
    seen = masks.apply(net, make(net, task, 0.1))
    layers = compact.layers_of(seen, task)
    chain = compact.compact(layers)
    assert compact.multiply_adds(chain) < sum(x.kernel.size for x in layers)
    layer = feature_layer(SETUP.crossing)
    vector = layer.apply({}, features)
    if task in features.own:
        view = features._replace(
            shared=features.own[task], numeric=features.numeric[:, :0]
        )
        vector = jnp.concatenate([vector, layer.apply({}, view)], axis=1)
    want = SETUP.model.apply(seen, features).logits[task]
    got = compact.apply(chain, vector)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(jax.jit(compact.apply)(chain, vector).shape, (7,))
    np.testing.assert_allclose(jax.jit(compact.apply)(chain, vector), got, rtol=1e-5)


def test_neuron_masks_become_smaller_matrices_of_just_the_kept_weights(net):
    mask = neuron_mask(net, "click", 0.2)
    chain = compact.compact(compact.layers_of(masks.apply(net, mask), "click"))
    kept = masks.count(mask)
    head = chain.layers[-1].kernel.size
    assert compact.multiply_adds(chain) == kept + head
    assert all((layer.kernel != 0).all() for layer in chain.layers)


@pytest.mark.parametrize("kind", ["elementwise", "inner", "none"])
def test_dependence_names_the_fields_an_entry_is_made_of(kind):
    setup = SETUP.with_net(crossing=Crossing(kind), own_dims=())
    like, layer = features_like(setup), feature_layer(setup.crossing)
    found = compact.dependence(lambda f: layer.apply({}, f), like)
    fields, dim = like.shared.shape[1:]
    own = np.repeat(np.eye(fields, dtype=bool), dim, axis=1)
    numeric = np.zeros((fields, 1), bool)
    each = [np.eye(fields, dtype=bool)[:, i] for i in range(fields)]
    if kind == "elementwise":
        pairs = [(i, j) for i in range(fields) for j in range(i + 1, fields)]
        crosses = np.repeat([each[i] | each[j] for i, j in pairs], dim, axis=0).T
    elif kind == "inner":
        crosses = np.array([a | b for a in each for b in each]).T
    else:
        crosses = numeric[:, :0]
    np.testing.assert_array_equal(found, np.hstack([own, crosses, numeric]))
