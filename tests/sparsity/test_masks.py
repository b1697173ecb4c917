"""Masks say what a task sees, gates what its step may move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.sparsity import masks
from jaxmtl.types import Features, Task

SHAPES = {"layer00": (3, 5), "layer01": (5, 2)}
few = settings(max_examples=40, deadline=None)


def make_net():
    layers = {
        name: {"kernel": jnp.full(shape, 2.0), "bias": jnp.full(shape[1], 3.0)}
        for name, shape in SHAPES.items()
    }
    head = {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}
    tasks = {task: {"head": head} for task in ("click", "watch")}
    return {"shared": layers, "tasks": tasks}


def make_mask(layer00, layer01):
    kernels = {"layer00": jnp.asarray(layer00), "layer01": jnp.asarray(layer01)}
    head = {"kernel": None, "bias": None}
    return {
        "shared": {name: {"kernel": k, "bias": None} for name, k in kernels.items()},
        "tasks": {task: {"head": head} for task in ("click", "watch")},
    }


@st.composite
def drawn_masks(draw):
    return make_mask(*(draw(hnp.arrays(bool, shape)) for shape in SHAPES.values()))


ROW = np.zeros((3, 5), bool)
ROW[0] = True
COLUMN = np.zeros((3, 5), bool)
COLUMN[:, 0] = True
NONE, ALL = np.zeros((5, 2), bool), np.ones((5, 2), bool)


def test_dense_mask_covers_the_shared_kernels_alone():
    assert_same_bits(masks.full(make_net()), make_mask(ROW | True, ALL))


def test_dense_mask_needs_shapes_alone():
    shapes = jax.eval_shape(make_net)
    assert_same_bits(masks.full(shapes), make_mask(ROW | True, ALL))


def test_apply_zeroes_what_the_mask_lacks_and_nothing_else():
    net = make_net()
    seen = masks.apply(net, make_mask(ROW, ALL))
    expected = net["shared"]["layer00"]["kernel"].at[1:].set(0)
    np.testing.assert_array_equal(seen["shared"]["layer00"]["kernel"], expected)
    seen["shared"]["layer00"]["kernel"] = net["shared"]["layer00"]["kernel"]
    assert_same_bits(seen, net)


def test_no_mask_changes_nothing():
    assert masks.apply(net := make_net(), None) is net


def test_weight_outside_the_mask_gets_no_gradient_even_if_infinite():
    net = make_net()
    net["shared"]["layer00"]["kernel"] *= jnp.inf
    mask = make_mask(ROW & False, ALL)
    total = lambda net: sum(jnp.sum(x) for x in jax.tree.leaves(masks.apply(net, mask)))
    value, gradient = jax.value_and_grad(total)(net)
    assert np.isfinite(value)
    assert not gradient["shared"]["layer00"]["kernel"].any()
    assert (gradient["shared"]["layer01"]["kernel"] == 1).all()


def test_gates_open_the_mask_the_biases_and_the_own_head():
    gates = masks.gates(make_net(), {"click": make_mask(ROW, NONE)})
    np.testing.assert_array_equal(gates["shared"]["layer00"]["kernel"], ROW)
    np.testing.assert_array_equal(gates["shared"]["layer01"]["kernel"], NONE)
    assert all(bool(layer["bias"]) for layer in gates["shared"].values())
    assert all(bool(gate) for gate in jax.tree.leaves(gates["tasks"]["click"]))
    assert not any(bool(gate) for gate in jax.tree.leaves(gates["tasks"]["watch"]))


def test_gates_of_several_tasks_open_what_any_of_them_sees():
    both = {"click": make_mask(ROW, NONE), "watch": make_mask(COLUMN, NONE)}
    gates = masks.gates(make_net(), both)
    np.testing.assert_array_equal(gates["shared"]["layer00"]["kernel"], ROW | COLUMN)
    assert all(bool(gate) for gate in jax.tree.leaves(gates["tasks"]))


def test_gates_are_open_to_a_task_without_mask():
    gates = masks.gates(make_net(), {"click": make_mask(ROW, NONE), "watch": None})
    assert all(bool(gate) for gate in jax.tree.leaves(gates))


def test_gates_broadcast_over_a_net_without_shared_layers():
    net = make_net() | {"shared": {}}
    assert masks.full(net)["shared"] == {}
    gates = masks.gates(net, {"click": masks.full(net)})
    assert gates["shared"] == {}
    assert bool(gates["tasks"]["click"]["head"]["kernel"])


def test_counts_densities_and_union_by_hand():
    a, b = make_mask(ROW, NONE), make_mask(COLUMN, ALL)
    assert (masks.count(a), masks.count(b)) == (5, 13)
    assert masks.density(a) == 5 / 25
    assert masks.density(None) == 1
    layers = {path: leaf.sum() for path, leaf in masks.by_path(b).items()}
    assert layers == {"shared/layer00/kernel": 3, "shared/layer01/kernel": 10}
    assert_same_bits(masks.union([a, b]), make_mask(ROW | COLUMN, ALL))


def test_net_without_prunable_weights_is_dense():
    assert masks.density(masks.full(make_net() | {"shared": {}})) == 1


@few
@given(drawn_masks(), drawn_masks())
def test_union_counts_what_both_keep_once(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    both = sum(int((x & y).sum()) for x, y in pairs)
    union = masks.union([a, b])
    assert masks.count(union) == masks.count(a) + masks.count(b) - both


def test_a_mask_found_in_a_net_of_one_task_joins_that_of_all():
    """The other tasks' own parts keep what the dense mask says of them."""
    dense = {"shared": "whole", "tasks": {"click": "c", "watch": "w"}}
    found = {"shared": "ticket", "tasks": {"click": "own ticket"}}
    assert masks.join(dense, found, "click") == {
        "shared": "ticket",
        "tasks": {"click": "own ticket", "watch": "w"},
    }
    assert dense["tasks"]["click"] == "c"


@few
@given(drawn_masks())
def test_packed_masks_come_back(mask):
    packed = masks.pack(mask)
    assert {k: v.shape for k, v in packed.items()} == {
        "shared/layer00/kernel": (2,),
        "shared/layer01/kernel": (2,),
    }
    assert_same_bits(masks.unpack(packed, masks.full(make_net())), mask)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 24, 100])
def test_eight_bits_are_packed_in_a_byte_and_what_is_over_in_another(size):
    mask = {"shared": {"kernel": jnp.arange(size) % 3 == 0}}
    packed = masks.pack(mask)
    assert packed["shared/kernel"].nbytes == np.ceil(size / 8)
    assert_same_bits(masks.unpack(packed, mask), mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: {"shared/layer00/kernel": p["shared/layer00/kernel"]},
            "belongs to another architecture",
        ),
        (lambda p: p | {"x": np.zeros(1, np.uint8)}, "belongs to another architecture"),
        (
            lambda p: p | {"shared/layer01/kernel": np.zeros(3, np.uint8)},
            r"at shared/layer01/kernel has \(3,\) of uint8.*\(5, 2\) needs 2 bytes",
        ),
        (
            lambda p: p | {"shared/layer00/kernel": np.zeros(2, bool)},
            "at shared/layer00/kernel has.*of bool",
        ),
    ],
)
def test_packed_mask_of_another_net_is_refused(change, message):
    full = masks.full(make_net())
    with pytest.raises(ValueError, match=message):
        masks.unpack(change(masks.pack(full)), full)


PAIR = (Task("click"), Task("watch"))
RIVALS = {
    "mmoe": models.Mmoe(experts=2, expert_hidden=(5, 4), tower=(3,)),
    "omoe": models.Omoe(experts=2, expert_hidden=(5, 4), tower=(3,)),
    "ple": models.Ple(levels=2, expert_hidden=(4,), tower=(3,)),
    "cross_stitch": models.CrossStitch(hidden=(5, 4)),
    "shared_bottom": models.SharedBottom(hidden=(5,), tower=(3,)),
    "hard_sharing": models.HardSharing((5, 4)),
    "dcrnn": models.Dcrnn(length=2, interval=1, hidden=3, tower=(3,)),
    "dcrnn with an RNN a task": models.Dcrnn(
        length=2, interval=1, hidden=3, tower=(3,), sharing="task_rnn"
    ),
}
each_rival = pytest.mark.parametrize("name", RIVALS)


def shapes_of(options):
    """Of the net for both tasks: nothing is compiled to know them."""
    features = Features(jnp.zeros((1, 3, 2)), {}, jnp.zeros((1, 2)))
    model = models.make(options, PAIR, Crossing("none"))
    return jax.eval_shape(model.init, jax.random.key(0), features)


def by_path(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None)
    return {masks.path_name(path): leaf for path, leaf in leaves}


@each_rival
def test_a_tasks_dense_mask_covers_what_is_shared_and_its_own_kernels(name):
    net = shapes_of(RIVALS[name])
    mask, sizes = by_path(masks.full(net, "click")), by_path(net)
    assert mask.keys() == sizes.keys()
    for path, leaf in mask.items():
        *parts, last = path.split("/")
        is_weight = last == "kernel" and not {"head", "gate"} & set(parts)
        if is_weight and not path.startswith("tasks/watch/"):
            assert leaf.shape == sizes[path].shape and leaf.all(), path
        else:
            assert leaf is None, path


@each_rival
def test_dense_masks_of_both_tasks_make_up_that_of_the_net(name):
    net = shapes_of(RIVALS[name])
    parts = [masks.full(net, task.name) for task in PAIR]
    assert_same_bits(masks.union(parts), masks.full(net))
    assert_same_bits(parts[0]["shared"], parts[1]["shared"])


@each_rival
def test_gates_of_a_task_close_all_that_is_another_tasks_own(name):
    net = shapes_of(RIVALS[name])
    gates = by_path(masks.gates(net, {"click": masks.full(net, "click")}))
    sizes = by_path(net)
    assert gates.keys() == sizes.keys()
    for path, gate in gates.items():
        assert bool(jnp.all(gate)) != path.startswith("tasks/watch/"), path
        assert bool(jnp.any(gate)) != path.startswith("tasks/watch/"), path
        np.broadcast_to(gate, sizes[path].shape)
    dense = jax.tree.leaves(masks.gates(net, {"click": None}))
    assert {gate.ndim for gate in dense} == {0}


def test_gates_of_two_masks_open_each_tasks_own_tower_as_its_mask_does():
    net = shapes_of(RIVALS["mmoe"])
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5)
    drawn = {t.name: jax.tree.map(draw, masks.full(net, t.name)) for t in PAIR}
    gates = masks.gates(net, drawn)
    for task, mask in drawn.items():
        tower = lambda tree, task=task: tree["tasks"][task]["mlp"]["layer00"]["kernel"]
        np.testing.assert_array_equal(tower(gates), tower(mask))
    expert = lambda tree: tree["shared"]["experts"]["layer00"]["kernel"]
    both = expert(drawn["click"]) | expert(drawn["watch"])
    np.testing.assert_array_equal(expert(gates), both)
    assert bool(gates["tasks"]["watch"]["gate"]["weight"])


def test_union_keeps_the_side_that_prunes_where_the_other_does_not():
    leaf = jnp.array([True, False])
    a, b = {"x": leaf, "y": None}, {"x": None, "y": ~leaf}
    neither = {"x": None, "y": None}
    assert_same_bits(masks.union([a, b]), {"x": leaf, "y": ~leaf})
    assert_same_bits(masks.union([a, neither]), a)
    assert masks.union([neither, neither]) == neither
