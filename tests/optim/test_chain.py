"""The parts of a gated chain: what they do alone, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close

from jaxmtl.optim import chain
from jaxmtl.optim.optimisers.adam import Adam, adam
from jaxmtl.optim.optimisers.sgd import Sgd, sgd

NET = {"layer": {"kernel": jnp.array([[3.0, -2.0]]), "bias": jnp.array([1.0, 5.0])}}
COUNTED = {"layer": {"kernel": True, "bias": False}}
GATES = {"layer": {"kernel": jnp.array([[True, False]]), "bias": jnp.array(True)}}
GRADIENTS = {
    "layer": {"kernel": jnp.array([[3.0, jnp.inf]]), "bias": jnp.array([0.0, 4.0])}
}
PLAIN = {"learning_rate": 0.1, "weight_decay": 0.0}


def updates_of(part, net=NET, gates=GATES, **others):
    return part.update(GRADIENTS, part.init(net), net, gates=gates, **others)[0]


def test_clipping_sees_the_gradients_that_pass_the_gates():
    """Norm 5 of (3, 0, 4) becomes 1, whatever a closed weight's gradient is."""
    updates = updates_of(chain.make(sgd(Sgd()), COUNTED, clip=1.0), **PLAIN)
    expected = {"layer": {"kernel": [[-0.06, 0]], "bias": [0, -0.08]}}
    assert_close(updates, jax.tree.map(np.array, expected, is_leaf=is_list), rtol=1e-6)


def is_list(leaf):
    return isinstance(leaf, list)


def test_a_short_gradient_is_not_clipped():
    clipped = updates_of(chain.make(sgd(Sgd()), COUNTED, clip=5.1), **PLAIN)
    assert_close(clipped, updates_of(chain.make(sgd(Sgd()), COUNTED), **PLAIN))


def test_decay_is_of_kernels_and_of_the_rate():
    """-0.1 (3 + 0.5 · 3) for the open weight of the kernel; biases do not decay."""
    numbers = {"learning_rate": 0.1, "weight_decay": 0.5}
    updates = updates_of(chain.make(sgd(Sgd()), COUNTED), **numbers)
    np.testing.assert_allclose(updates["layer"]["kernel"], [[-0.45, 0]], rtol=1e-6)
    np.testing.assert_allclose(updates["layer"]["bias"], [0, -0.4], rtol=1e-6)


def test_a_tree_without_names_has_no_kernels():
    decay = chain.decay_kernels()
    for net in (jnp.ones(2), [jnp.ones(2)]):
        updates, _ = decay.update(net, decay.init(net), net, weight_decay=0.5)
        assert_close(updates, net)


def test_rates_and_decays_are_arguments_of_one_program():
    optimiser = chain.make(adam(Adam()), COUNTED)
    step = jax.jit(lambda net, numbers: updates_of(optimiser, net, **numbers))
    one, two = (step(NET, PLAIN | {"learning_rate": rate}) for rate in (0.1, 0.2))
    assert_close(jax.tree.map(lambda u: 2 * u, one), two)
    assert step._cache_size() == 1


def test_closed_updates_add_nothing_to_either_zero():
    updates = updates_of(chain.gate_updates())
    closed = np.asarray(updates["layer"]["kernel"])[0, 1]
    assert closed == 0 and np.signbit(closed)


def test_closed_weights_stay_even_where_a_processor_flushes_them():
    net = {"kernel": jnp.float32([-0.0, 0.0, 1e-40, -1e-45, 2.0])}
    bits = lambda tree: np.asarray(tree["kernel"]).view(np.uint32)
    for gate in (jnp.zeros(5, bool), jnp.array(False)):
        after = chain.apply_updates(net, net, {"kernel": gate})
        np.testing.assert_array_equal(bits(after), bits(net))


def test_state_is_a_tree_over_the_net_for_each_part_of_the_inner_one():
    part = chain.per_weight(optax.scale_by_adam(), COUNTED)
    state = part.init(NET)
    assert isinstance(state, optax.ScaleByAdamState)
    assert jax.tree.structure(state.mu) == jax.tree.structure(NET)
    assert state.count["layer"]["kernel"].shape == (1, 2)
    assert state.count["layer"]["bias"].shape == ()
    for _ in range(3):
        _, state = part.update(GRADIENTS, state, NET, gates=GATES)
    np.testing.assert_array_equal(state.count["layer"]["kernel"], [[3, 0]])
    np.testing.assert_array_equal(state.count["layer"]["bias"], 3)


def test_a_closed_leaf_keeps_its_one_count():
    part = chain.per_weight(optax.scale_by_adam(), COUNTED)
    closed = {"layer": GATES["layer"] | {"bias": jnp.array(False)}}
    _, state = part.update(GRADIENTS, part.init(NET), NET, gates=closed)
    assert state.count["layer"]["bias"] == 0
    assert not np.any(state.mu["layer"]["bias"])


def test_a_counted_leaf_takes_one_gate_for_all_of_it():
    part = chain.per_weight(optax.scale_by_adam(), COUNTED)
    one = {"layer": {"kernel": jnp.array(True), "bias": jnp.array(True)}}
    gradients = jax.tree.map(jnp.ones_like, NET)
    _, state = part.update(gradients, part.init(NET), NET, gates=one)
    np.testing.assert_array_equal(state.count["layer"]["kernel"], [[1, 1]])


def test_weights_may_be_left_out_where_nothing_needs_them():
    part = chain.per_weight(optax.scale_by_adam(), COUNTED)
    given, _ = part.update(GRADIENTS, part.init(NET), NET, gates=GATES)
    without, _ = part.update(GRADIENTS, part.init(NET), gates=GATES)
    assert_close(without, given)


def test_inner_parts_get_the_other_arguments():
    def update(updates, state, net=None, *, factor, **others):
        assert "gates" not in others
        return factor * updates, state

    inner = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    part = chain.per_weight(inner, COUNTED)
    updates = updates_of(part, factor=2.0)
    np.testing.assert_array_equal(updates["layer"]["bias"], [0, 8])


def test_types_of_an_inner_state_do_not_depend_on_what_is_added_to_it():
    """A weak start, a next state of another type: a scan would refuse the carry."""
    inner = optax.GradientTransformation(
        lambda net: {"weak": 1.0, "whole": jnp.int32(1)},
        lambda u, state, net=None: (u, jax.tree.map(lambda s: s + u, state)),
    )
    part = chain.per_weight(inner, {"kernel": True, "bias": False})
    net = {"kernel": jnp.ones(2), "bias": jnp.float32(1)}
    gates = {"kernel": jnp.array([True, False]), "bias": jnp.array(True)}

    def step(state, _):
        return part.update(net, state, net, gates=gates)[1], None

    state, _ = jax.lax.scan(step, part.init(net), None, length=2)
    np.testing.assert_array_equal(state["weak"]["kernel"], [3, 1])
    np.testing.assert_array_equal(state["whole"]["kernel"], [3, 1])
    assert state["whole"]["kernel"].dtype == jnp.int32
    for leaf in jax.tree.leaves((part.init(net), state)):
        assert not leaf.weak_type


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), ()])
def test_a_leaf_may_hold_no_weight_or_be_one(shape):
    net = {"kernel": jnp.ones(shape)}
    optimiser = chain.make(adam(Adam()), {"kernel": True})
    gates = {"kernel": jnp.ones(shape, bool)}
    updates, _ = optimiser.update(net, optimiser.init(net), net, gates=gates, **PLAIN)
    np.testing.assert_allclose(updates["kernel"], np.full(shape, -0.1), rtol=1e-5)


def test_a_net_may_be_empty():
    optimiser = chain.make(adam(Adam()), {})
    assert optimiser.update({}, optimiser.init({}), {}, gates={}, **PLAIN)[0] == {}


@pytest.mark.parametrize("clip", [0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_norm_to_clip_at_is_a_positive_number(clip):
    with pytest.raises(ValueError, match=f"clip is {clip}; give a positive norm"):
        chain.make(sgd(Sgd()), COUNTED, clip=clip)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (None, "only the net has a leaf at 'layer/bias'"),
        ({"a": jnp.array(True)}, "only the net has a leaf at 'layer/bias'"),
        (jnp.ones(2), r"float32\[2\] at 'layer/bias'; .* or \[2\] for its weights"),
        (jnp.ones((1, 2), bool), r"bool\[1, 2\] at 'layer/bias'"),
        (jnp.ones(1, bool), r"bool\[1\] at 'layer/bias'"),
        (jnp.ones(2, bool), "not counted one by one; make `counted` True there"),
    ],
    ids=["mask", "deeper", "numbers", "rank", "length", "uncounted"],
)
def test_gates_that_do_not_fit_are_named(bias, message):
    gates = {"layer": GATES["layer"] | {"bias": bias}}
    with pytest.raises(ValueError, match=message):
        updates_of(chain.make(adam(Adam()), COUNTED), gates=gates, **PLAIN)


def test_gates_of_another_net_are_named():
    with pytest.raises(ValueError, match="only gates has a leaf at 'other'"):
        updates_of(chain.mask_gradients(), gates=GATES | {"other": jnp.array(True)})
    with pytest.raises(ValueError, match="only the net has a leaf at 'layer/kernel'"):
        chain.apply_updates(NET, NET, {"layer": {"bias": jnp.array(True)}})


def test_counts_of_another_net_are_named():
    part = chain.per_weight(optax.scale_by_adam(), {"layer": {"kernel": True}})
    with pytest.raises(
        ValueError, match="'layer/bias'; counted is a tree over the net"
    ):
        part.init(NET)
