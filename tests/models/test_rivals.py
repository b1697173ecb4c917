"""What every rival architecture has in common, whatever it computes."""

import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, assert_same_bits
from oracles import BATCH, FUNNEL, draw_features, draw_like

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.sparsity.masks import path_name

RIVALS = {
    "shared_bottom": models.SharedBottom(hidden=(6, 5), tower=(4,)),
    "mmoe": models.Mmoe(experts=3, expert_hidden=(6, 5), tower=(4,)),
    "omoe": models.Omoe(experts=3, expert_hidden=(6, 5), tower=(4,)),
    "ple": models.Ple(levels=3, expert_hidden=(5,), tower=(4,)),
    "cross_stitch": models.CrossStitch(hidden=(6, 5)),
    "esmm": models.Esmm(hidden=(6, 5)),
    "aitm": models.Aitm(hidden=(6, 5)),
}
each_rival = pytest.mark.parametrize("name", RIVALS)


def make(name, tasks=FUNNEL, cross="none"):
    return models.make(RIVALS[name], tasks, Crossing(cross, depth=2, maps=3))


def leaves(net):
    return {path_name(p): w for p, w in jax.tree_util.tree_leaves_with_path(net)}


def draw(name, tasks=FUNNEL, cross="none"):
    model, features = make(name, tasks, cross), draw_features()
    return model, features, draw_like(model.init, features)


def gradient(model, net, features, task):
    total = lambda net: jnp.sum(model.apply(net, features).logits[task] ** 2)
    return jax.jit(jax.grad(total))(net)


def idle(tree):
    """Paths of the leaves that are zero throughout."""
    return [path for path, leaf in leaves(tree).items() if not jnp.any(leaf)]


@each_rival
@pytest.mark.parametrize("count", [1, 2, 3])
def test_serves_any_number_of_tasks_of_any_kind(name, count):
    model, features, net = draw(name, FUNNEL[:count])
    outputs = jax.jit(model.apply)(net, features)
    assert set(outputs.logits) == {task.name for task in FUNNEL[:count]}
    assert {logit.shape for logit in outputs.logits.values()} == {(BATCH,)}
    assert {w.dtype for w in jax.tree.leaves(net)} == {jnp.dtype("float32")}
    if count == len(FUNNEL):
        assert_close(model.apply(net, features), outputs)


@pytest.mark.parametrize(
    ("name", "cross"), [*((name, "cin") for name in RIVALS), ("mmoe", "dcn")]
)
def test_starts_from_a_cross_network_whose_parameters_are_shared(name, cross):
    model, features, net = draw(name, FUNNEL[:1], cross)
    assert not idle(gradient(model, net, features, "click")["shared"][cross])
    assert not any("kernel" in path for path in leaves(net["shared"][cross]))


@each_rival
def test_a_task_uses_all_that_is_shared_and_of_the_own_parts_only_its_own(name):
    model, features, net = draw(name)
    # The last of the funnel: all that is shared may serve it.
    found = gradient(model, net, features, "share")
    assert not idle(found["shared"]) and not idle(found["tasks"]["share"])
    for other in ("click", "watch"):
        own = found["tasks"][other]
        assert idle(own) == list(leaves(own))


@each_rival
def test_parts_of_one_name_start_alike_in_any_company(name):
    features, key = draw_features(), jax.random.key(3)
    start = lambda tasks: make(name, tasks).init(key, features)
    every = start(FUNNEL)
    assert_same_bits(start(FUNNEL[::-1]), every)
    for task in FUNNEL[:2]:
        alone, together = leaves(start([task])), leaves(every)
        assert set(alone) <= set(together)
        same = [p for p in alone if alone[p].shape == together[p].shape]
        assert [p for p in alone if p.endswith("kernel")] == [
            p for p in same if p.endswith("kernel")
        ]
        assert_same_bits([alone[p] for p in same], [together[p] for p in same])
    kernels = [w for path, w in leaves(every).items() if path.endswith("kernel")]
    pairs = [(a, b) for i, a in enumerate(kernels) for b in kernels[:i]]
    assert not any(a.shape == b.shape and (a == b).all() for a, b in pairs)


@each_rival
def test_refuses_a_tasks_own_view(name):
    with pytest.raises(ValueError, match=r"no own views; got one for \['watch'\]"):
        make(name).init(jax.random.key(0), draw_features(own=["watch"]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.Mmoe(experts=0), "0 experts; at least 1"),
        (lambda: models.Omoe(expert_hidden=()), "give each expert a layer"),
        (lambda: models.Ple(shared_experts=0, task_experts=0), "0 experts; at least"),
        (lambda: models.Ple(levels=0), "0 levels of 2 shared and 2 task experts"),
        (lambda: models.Ple(shared_experts=-1), "-1 shared .* no count below 0"),
        (lambda: models.CrossStitch(own=1.5), r"own 1.5 lies outside \[0, 1\]"),
        (lambda: models.Aitm(calibrator_weight=-1), "-1 would reward .* 0 or more"),
    ],
)
def test_options_without_a_meaning_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
