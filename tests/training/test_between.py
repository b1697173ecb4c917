"""A hook between chunks moves masks and state; what was stopped goes on to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup
from trainings import Saved

from jaxmtl.data.batches import Plan
from jaxmtl.sparsity import masks, pruning
from jaxmtl.sparsity.finder import over
from jaxmtl.training import fit as fitting
from jaxmtl.training import resume, train_state
from jaxmtl.training.inference import predict_all

SETUP = make_setup(tasks=("click",))
TRAIN, VALIDATION = make_rows(64, seed=1), make_rows(60, seed=2)
ON_DEVICE = jax.tree.map(jnp.asarray, (TRAIN, VALIDATION))
STEPS, EPOCHS = 4, 3


def begin():
    """A state with what the toy below keeps, and a mask of half the weights."""
    state = train_state.make_init(SETUP)(jax.random.key(0))
    dense = masks.full(state.net, "click")
    half = pruning.prune(state.net, dense, masks.count(dense) // 2)
    kept = {"calls": jnp.int32(0), "key": jax.random.key_data(jax.random.key(7))}
    return state._replace(extra={"set": kept}), {"click": half}


def drop_and_grow(state, task_masks, k=3):
    """Sparse evolutionary training: the k smallest fall, k others are drawn.

    Mocanu et al., "Scalable training of artificial neural networks with adaptive
    sparse connectivity", 2018.
    """
    mask, kept = task_masks["click"], state.extra["set"]
    alive = pruning.prune(state.net, mask, masks.count(mask) - k)
    key = jax.random.fold_in(jax.random.wrap_key_data(kept["key"]), state.step)
    dead = over(mask, jnp.logical_not, mask)
    draws = over(mask, lambda m: jax.random.uniform(key, m.shape), mask)
    grown = pruning.select(draws, dead, k)
    moved = over(mask, jnp.logical_or, alive, grown)
    fresh = lambda g, w: w if g is None else jnp.where(g, 0, w)
    net = jax.tree.map(fresh, grown, state.net, is_leaf=lambda leaf: leaf is None)
    extra = {"set": kept | {"calls": kept["calls"] + 1}}
    return state._replace(net=net, extra=extra), {"click": moved}


def run(between=drop_and_grow, keeper=None, **options):
    state, task_masks = begin()
    settings = {
        "plan": Plan(TRAIN, SETUP.learned, 16),
        "train": ON_DEVICE[0],
        "validation": ON_DEVICE[1],
        "seed": 0,
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "chunk": 1,
        "every": 1,
    }
    return fitting.fit(
        SETUP, state, task_masks, between=between, keeper=keeper, **settings | options
    )


def bits(task_masks):
    leaves = jax.tree.leaves(task_masks["click"])
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def test_the_hook_is_called_between_chunks_and_not_before_the_first_or_after_the_last():
    saved = Saved()
    run(keeper=saved)
    calls = [int(p.state.extra["set"]["calls"]) for p in saved.all]
    assert calls == list(range(STEPS * EPOCHS))
    taken = [bits(p.masks) for p in saved.all]
    np.testing.assert_array_equal(taken[0], bits(begin()[1]))
    for before, after in zip(taken, taken[1:], strict=False):
        assert (before != after).sum() in (2, 4, 6)  # one dropped may be drawn again
        assert before.sum() == after.sum()


def test_a_chunk_moves_what_its_masks_keep_alone():
    """Gates follow the masks; what was dropped stays, what has grown begins at 0."""
    saved = Saved()
    run(keeper=saved)
    for before, after in zip(saved.all, saved.all[1:], strict=False):

        def leaf(m, old, new):
            if m is not None:
                start = np.where(m & ~old[0], 0, old[1])
                np.testing.assert_array_equal(new[~m], start[~m])

        jax.tree.map(
            lambda m, was, old, new: leaf(m, (was, old), new),
            after.masks["click"],
            before.masks["click"],
            before.state.net,
            after.state.net,
            is_leaf=lambda x: x is None,
        )


def test_the_snapshot_kept_has_the_masks_it_was_validated_under():
    saved, seen = Saved(), {}
    result = run(
        keeper=saved,
        on_epoch=lambda record, snapshot: seen.update({record.epoch: record}),
    )
    ends = {len(p.history): p for p in saved.all if not p.losses}
    best = ends[result.best_epoch]
    assert_same_bits(result.masks, best.masks)
    predicted = predict_all(SETUP, result.best, result.masks, ON_DEVICE[1])["click"]
    inside = SETUP.learned["click"].inside(VALIDATION.labels)
    area = fitting.metrics.auc(VALIDATION.labels["click"][inside], predicted[inside])
    assert area.value == result.value("click")
    others = [p for epoch, p in ends.items() if epoch != result.best_epoch]
    assert all((bits(p.masks) != bits(result.masks)).any() for p in others)


def stop_after(chunks):
    left = iter([False] * (chunks - 1))
    return lambda: next(left, True)


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_training_with_a_hook_that_is_stopped_resumes_to_the_same_bits(
    tmp_path, chunks
):
    undisturbed, said = run(), []
    for _ in range(STEPS * EPOCHS // chunks):
        stop = stop_after(chunks)
        keeper = resume.Folder(
            tmp_path / "kept", SETUP, wants_stop=stop, say=said.append
        )
        with pytest.raises(resume.Stopped):
            run(keeper=keeper)
    result = run(keeper=resume.Folder(tmp_path / "kept", SETUP, say=said.append))
    assert not said  # every save was whole
    assert result.history == undisturbed.history
    assert_same_bits(result.best, undisturbed.best)
    assert_same_bits(result.masks, undisturbed.masks)


def test_a_hook_that_does_nothing_changes_nothing():
    idle = run(between=lambda state, task_masks: (state, task_masks))
    without = run(between=None)
    assert_same_bits(idle.best, without.best)
    assert idle.history == without.history
    assert_same_bits(idle.masks, begin()[1])
    assert_same_bits(without.masks, begin()[1])


@pytest.mark.parametrize(
    "hook",
    [
        lambda state, m: (state._replace(extra={}), m),
        lambda state, m: (state, {}),
        lambda state, m: (
            state._replace(extra={"set": state.extra["set"] | {"calls": 0.5}}),
            m,
        ),
    ],
)
def test_a_hook_that_changes_a_tree_or_a_shape_is_refused(hook):
    with pytest.raises(ValueError, match="put what it keeps into state.extra before"):
        run(between=hook)
