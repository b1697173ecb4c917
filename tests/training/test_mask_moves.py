"""A finder moves masks while a round trains: what it is given, and what it leaves."""

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup
from trainings import Saved

from jaxmtl.data.batches import Plan
from jaxmtl.optim import chain
from jaxmtl.optim.optimisers.adam import Adam, adam
from jaxmtl.sparsity import masks, pruning
from jaxmtl.sparsity.finder import Finder, Moves, over
from jaxmtl.training import fit as fitting
from jaxmtl.training import mask_moves, resume, train_state
from jaxmtl.training.gradients import mean_gradient

SETUP = make_setup(tasks=("click",))
TRAIN, VALIDATION = make_rows(64, seed=1), make_rows(60, seed=2)
ON_DEVICE = jax.tree.map(jnp.asarray, (TRAIN, VALIDATION))
PLAN = Plan(TRAIN, SETUP.learned, 16)
DATA = {"plan": PLAN, "train": ON_DEVICE[0], "seed": 0}
KEY = jax.random.key(5)


@dataclasses.dataclass(frozen=True)
class Toy:
    """RigL in small: the smallest weight falls, that of the largest gradient grows."""

    every: int = 2
    batches: int = 1


def toy(options: Toy) -> Finder:
    """Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020."""

    def move(net, mask, kept, *, dense, gradients, step, key):
        left = pruning.prune(net, mask, pruning.selection.count(leaves(mask)) - 1)
        free = over(mask, lambda m, some: some & ~m, mask, dense)
        grown = pruning.select(over(mask, jnp.abs, gradients), free, 1)
        zeroed = lambda g, w: w if g is None else jnp.where(g, 0, w)
        net = jax.tree.map(zeroed, grown, net, is_leaf=lambda leaf: leaf is None)
        kept = {"steps": kept["steps"].at[kept["calls"]].set(step)} | {
            "calls": kept["calls"] + 1,
            "gradients": over(mask, jnp.array, gradients),
            "draw": jax.random.key_data(key),
        }
        return net, over(mask, jnp.logical_or, left, grown), kept

    def init(net, mask, key):
        return {
            "steps": jnp.zeros(9, jnp.int32),
            "calls": jnp.int32(0),
            "gradients": over(mask, jnp.zeros_like, net),
            "draw": jax.random.key_data(key),
        }

    moves = Moves(move, options.every, init, options.batches)
    return Finder(lambda *args, **given: None, moves=moves)


def leaves(tree):
    return jax.tree.leaves(tree)


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """A file of the toy's name, by which its function is found."""
    made = types.ModuleType("finders.toy")
    made.toy = toy
    monkeypatch.setitem(sys.modules, "finders.toy", made)
    monkeypatch.setattr(Toy, "__module__", "finders.toy")


def half_of(dense, net):
    return pruning.prune(net, dense, masks.count(dense) // 2)


def run(keeper=None, options=None, dense=None, **settings):
    options = options or Toy()
    state = train_state.make_init(SETUP)(jax.random.key(0))
    dense = dense or masks.full(state.net, "click")
    half = half_of(dense, state.net)
    return fitting.fit(
        SETUP,
        mask_moves.begin(options, state, half, KEY),
        {"click": half},
        validation=ON_DEVICE[1],
        epochs=2,
        patience=2,
        keeper=keeper,
        between=mask_moves.make_hook(options, SETUP, dense, key=KEY, **DATA),
        every=options.every,
        **{"chunk": 1} | settings,
        **DATA,
    )


def bits(task_masks):
    return np.concatenate([np.ravel(leaf) for leaf in leaves(task_masks["click"])])


def test_a_mask_moves_every_so_many_steps_of_an_epoch_and_between_epochs():
    saved = Saved()
    run(saved, Toy(every=3))  # of 4 steps an epoch: before 3, 4 and 7
    kept = saved.all[-1].state.extra[mask_moves.NAME]
    assert kept["calls"] == 3
    np.testing.assert_array_equal(kept["steps"][:3], [3, 4, 7])
    changes = [
        (bits(before.masks) != bits(after.masks)).sum()
        for before, after in zip(saved.all, saved.all[1:], strict=False)
    ]
    assert changes == [0, 0, 2, 2, 0, 0, 2]


@pytest.mark.parametrize("chunk", [2, 3, 256])
def test_how_often_a_mask_moves_does_not_follow_from_the_chunks(chunk):
    one, other = run(), run(chunk=chunk)
    assert_same_bits(one.masks, other.masks)
    np.testing.assert_allclose(
        [r.regret for r in one.history], [r.regret for r in other.history], rtol=1e-5
    )


def test_gradients_are_those_of_all_weights_at_the_net_under_its_mask():
    saved = Saved()
    run(saved, Toy(every=4))  # once, after an epoch
    before, after = saved.all[3], saved.all[4]
    seen = train_state.snapshot_of(jax.tree.map(jnp.asarray, before.state))
    mask = jax.tree.map(jnp.asarray, before.masks["click"])
    dense = masks.full(seen.net, "click")
    expected = mean_gradient(
        SETUP,
        seen._replace(net=masks.apply(seen.net, mask)),
        {"click": dense},
        batches=1,
        epoch=2,
        **DATA,
    )
    found = after.state.extra[mask_moves.NAME]["gradients"]
    assert_same_bits(found, over(mask, jnp.array, expected))
    outside = over(mask, lambda m, g: jnp.sum((g != 0) & ~m), mask, expected)
    assert sum(leaves(outside)) > 0
    first = mean_gradient(SETUP, seen, {"click": mask}, batches=1, **DATA)
    assert any(
        (a != b).any()
        for a, b in zip(
            leaves(found), leaves(over(mask, jnp.array, first)), strict=True
        )
    )


def test_what_has_grown_begins_with_empty_moments_and_all_else_keeps_its_own():
    net = {"a": {"kernel": jnp.array([[3.0, -2.0]]), "bias": jnp.array([1.0])}}
    counted = {"a": {"kernel": True, "bias": False}}
    gates = {"a": {"kernel": jnp.ones((1, 2), bool), "bias": jnp.array(True)}}
    optimiser = chain.make(adam(Adam()), counted, clip=1.0)
    begun = optimiser.init(net)
    rates = {"learning_rate": 0.1, "weight_decay": 0.0}
    _, moved = optimiser.update(net, begun, net, gates=gates, **rates)
    where = {"a": {"kernel": jnp.array([[False, True]]), "bias": None}}
    found = chain.emptied(optimiser, moved, net, where)
    assert jax.tree.structure(found) == jax.tree.structure(moved)
    looked_at = 0
    for old, new, start in zip(
        leaves(moved), leaves(found), leaves(begun), strict=True
    ):
        if old.shape == (1, 2):
            looked_at += 1
            assert new[0, 0] == old[0, 0] != start[0, 0]
            assert new[0, 1] == start[0, 1] != old[0, 1]
        else:
            assert_same_bits(new, old)
    assert looked_at >= 3  # the mean, the square and what counts


def test_a_mask_never_grows_where_the_task_reads_nothing():
    state = train_state.make_init(SETUP)(jax.random.key(0))
    full = masks.full(state.net, "click")
    rare = over(full, lambda m: m & (jnp.arange(m.shape[0])[:, None] % 2 == 0), full)
    saved = Saved()
    run(saved, Toy(every=1), dense=rare)
    for progress in saved.all:
        outside = over(
            rare, lambda m, some: np.any(m & ~some), progress.masks["click"], rare
        )
        assert not any(leaves(outside))
        assert (
            bits(progress.masks).sum()
            == bits({"click": half_of(rare, state.net)}).sum()
        )


def test_a_round_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    undisturbed, said = run(), []
    for _ in range(8):
        keeper = resume.Folder(
            tmp_path / "kept", SETUP, wants_stop=lambda: True, say=said.append
        )
        with pytest.raises(resume.Stopped):
            run(keeper)
    result = run(resume.Folder(tmp_path / "kept", SETUP, say=said.append))
    assert not said and result.history == undisturbed.history
    assert_same_bits(result.best, undisturbed.best)
    assert_same_bits(result.masks, undisturbed.masks)
