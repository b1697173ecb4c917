"""Each finder scores by its rule, and selection keeps exactly the best."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from hypothesis import given, settings
from test_pruning import kernels, mask_of, net_of, oracle, pruned_nets

from jaxmtl import discovery
from jaxmtl.data.batches import Plan
from jaxmtl.sparsity import finders, masks, pruning, selection
from jaxmtl.sparsity.finder import over
from jaxmtl.sparsity.finders.magnitude import Magnitude
from jaxmtl.sparsity.finders.random import Random
from jaxmtl.sparsity.finders.saliency import Saliency
from jaxmtl.tables import embedding
from jaxmtl.training import outputs, train_state
from jaxmtl.training.gradients import mean_gradient
from jaxmtl.types import Batch

few = settings(max_examples=30, deadline=None)
NET = net_of({"a": jnp.array([[0.1, -3.0], [2.0, 0.5]]), "b": jnp.array([[-0.2]])})
KEY = jax.random.key(0)


def scores_of(options, net=NET, gradients=None, key=KEY):
    mask = masks.full(net)
    finder = discovery.make(options)
    return finder.score(net, mask, gradients=gradients, key=key)


@pytest.mark.parametrize("name", discovery.files(finders.__name__))
def test_every_finder_scores_the_kernels_that_have_a_mask(name):
    options = discovery.options(finders.__name__, name)()
    scores = scores_of(options, gradients=jax.tree.map(jnp.ones_like, NET))
    mask = masks.full(NET)
    assert jax.tree.structure(scores) == jax.tree.structure(mask)
    assert [s.shape for s in jax.tree.leaves(scores)] == [
        m.shape for m in kernels(mask)
    ]
    assert masks.count(pruning.select(scores, mask, 3)) == 3


def test_scores_by_hand():
    assert_same_bits(scores_of(Magnitude()), over(masks.full(NET), jnp.abs, NET))
    gradients = jax.tree.map(lambda w: jnp.full_like(w, -2.0), NET)
    scores = scores_of(Saliency(), gradients=gradients)
    np.testing.assert_allclose(
        np.concatenate([np.ravel(s) for s in jax.tree.leaves(scores)]),
        [0.2, 6, 4, 1, 0.4],
        rtol=1e-6,
    )
    assert discovery.make(Saliency(batches=3)).batches == 3
    assert not discovery.make(Magnitude()).needs_gradients
    with pytest.raises(ValueError, match="saliency.batches is 0"):
        discovery.make(Saliency(batches=0))


def test_random_scores_follow_from_the_key_and_differ_between_layers():
    net = net_of({"a": jnp.ones((40, 30)), "b": jnp.ones((40, 30))})
    again = scores_of(Random(), net), scores_of(Random(), net)
    assert_same_bits(*again)
    other = scores_of(Random(), net, key=jax.random.key(1))
    a, b = jax.tree.leaves(again[0])
    assert np.mean(a == b) < 0.01
    assert np.mean(a == jax.tree.leaves(other)[0]) < 0.01
    kept = pruning.select(again[0], masks.full(net), 1200)
    # Half of each layer stays, to five standard deviations of chance.
    assert all(abs(k.sum() - 600) < 5 * 1200**0.5 / 2 for k in kernels(kept))


def test_random_neurons_of_wide_and_narrow_layers_fall_alike():
    """A mean of draws would keep all of one layer's: they lie closer to .5."""
    net = [jnp.zeros((400, 300)), jnp.zeros((300, 300))]
    few_rows = jnp.arange(300)[:, None] < 2
    mask = [jnp.ones((400, 300), bool), jnp.broadcast_to(few_rows, (300, 300))]
    finder = discovery.make(Random())
    scores = finder.score(net, mask, gradients=None, key=KEY)
    found = [finder.of_neuron(s, m) for s, m in zip(scores, mask, strict=True)]
    for draws in found:
        assert abs(np.mean(draws) - 0.5) < 0.1 and np.min(draws) < 0.05


@few
@given(pruned_nets())
def test_selection_by_magnitude_is_pruning(case):
    weights, marks, keep = case
    net, mask = net_of(weights), mask_of(marks)
    scores = over(mask, jnp.abs, net)
    assert_same_bits(pruning.select(scores, mask, keep), pruning.prune(net, mask, keep))
    layers = pruning.prune(net, mask, pruning.split_keep(mask, keep))
    assert_same_bits(pruning.select(scores, mask, keep, "layer"), layers)


@few
@given(pruned_nets())
def test_selection_ranks_signed_scores_by_value(case):
    """What sorting gives: a finder's scores may be negative (GraSP's are)."""
    weights, marks, keep = case
    flat = np.concatenate([np.ravel(w) for w in weights.values()])
    # Places of distinct values, so that the oracle's |x| orders as x does.
    places = np.searchsorted(np.unique(flat[~np.isnan(flat)]), flat).astype(float)
    places[np.isnan(flat)] = np.nan
    parts = np.split(places, np.cumsum([w.size for w in weights.values()])[:-1])
    kept = pruning.select(
        over(mask_of(marks), lambda x: x, net_of(weights)), mask_of(marks), keep
    )
    expected = oracle(parts, list(marks.values()), keep)
    for got, wanted in zip(kernels(kept), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_ranks_of_odd_values_order_as_they_do():
    tiny = np.finfo(np.float32).smallest_subnormal
    values = np.float32([-np.inf, -1, -tiny, 0, tiny, 1, np.inf, np.nan])
    ranks = np.asarray(selection.ranked(jnp.asarray(values)))
    assert (np.diff(ranks.astype(np.int64)) > 0).all()
    zeros = selection.ranked(jnp.float32([0.0, -0.0]))
    assert zeros[0] == zeros[1]
    odd = selection.ranked(-jnp.float32([np.nan]))
    assert odd[0] > selection.ranked(jnp.float32([np.inf]))[0]


def test_selection_refuses_what_is_no_scope_or_no_score():
    mask = masks.full(NET)
    with pytest.raises(ValueError, match="scope 'net' is none of"):
        pruning.select(mask, mask, 1, "net")
    scores = over(mask, jnp.abs, NET)
    scores["shared"]["a"]["kernel"] = None
    with pytest.raises(ValueError, match="shared/a/kernel there is a mask"):
        pruning.select(scores, mask, 1)


def test_neurons_by_magnitude_are_those_of_prune_neurons():
    rng = np.random.default_rng(0)
    net = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((6, 8), (8, 5))]
    mask = [jnp.ones(w.shape, bool) for w in net]
    finder = discovery.make(Magnitude())
    scores = finder.score(net, mask, gradients=None, key=KEY)
    for scope in ("layer", "global"):
        found = pruning.select(scores, mask, 40, scope, finder.of_neuron)
        assert_same_bits(found, pruning.prune_neurons(net, mask, 40, scope=scope))


def test_neurons_of_the_least_mean_score_fall_where_scores_are_negative():
    scores = [jnp.array([[-1.0, -3.0, -2.0], [-1.0, -3.0, -2.0]])]
    mask = [jnp.ones((2, 3), bool)]
    kept = pruning.select(scores, mask, 4, "layer", pruning.mean_score)
    np.testing.assert_array_equal(kept[0], [[True, False, True]] * 2)


def test_the_mean_gradient_is_that_of_the_mean_over_all_rows_of_the_batches():
    """Of two batches with different numbers of rows: not the mean of their means."""
    setup = make_setup(tasks=("watch",))
    rows = make_rows(90, seed=1)
    plan = Plan(rows, setup.learned, 64)
    state = train_state.make_init(setup)(KEY)
    snapshot = train_state.snapshot_of(state)
    task_masks = train_state.dense_masks(setup.spec.net, state.net)
    on_device = jax.tree.map(jnp.asarray, rows)
    find = functools.partial(
        mean_gradient, setup, snapshot, task_masks, plan=plan, train=on_device, seed=3
    )
    found = find(batches=plan.steps)
    # One batch of all the rows that those steps read.
    order = np.ravel(plan.orders(3, 1)["watch"])
    order = order[order >= 0]
    taken = jax.tree.map(lambda column: column[order], on_device)
    batch = Batch(taken, jnp.ones(len(order), bool))
    assert plan.steps > 1
    assert_close(found, reference(setup, snapshot, task_masks, batch), rtol=1e-4)
    assert_same_bits(find(batches=99), found)
    one = jax.tree.leaves(find(batches=1))
    assert not all(map(np.allclose, one, jax.tree.leaves(found)))


def reference(setup, snapshot, task_masks, batch):
    """The gradient of the loss's mean over a batch, tables read row by row."""
    net, output = setup.spec.net, setup.spec.output
    ids = embedding.stacked_ids(setup.schema, batch.rows.ids)
    is_id = lambda table: ((ids >= 0) & (ids < len(table)))[..., None]
    gathered = {
        stack: jnp.where(is_id(table), table[jnp.clip(ids, 0, len(table) - 1)], 0)
        for stack, table in snapshot.tables.items()
    }
    features = train_state.features_of(net, gathered, batch.rows)

    def loss(params):
        logits = outputs.forward(
            net, output, params, task_masks, features, ("watch",)
        ).logits
        return outputs.losses_of(setup.spec, setup.numbers, logits, batch)[0]["watch"]

    return jax.grad(loss)(snapshot.net)


def test_a_mean_gradient_of_several_tasks_is_refused():
    with pytest.raises(ValueError, match="of one task"):
        mean_gradient(make_setup(), None, {}, plan=None, train=None, seed=0, batches=1)


def test_a_neurons_mean_score_is_that_of_its_alive_weights():
    scores = jnp.array([[1.0, 5.0, 7.0], [3.0, 8.0, 9.0]])
    alive = jnp.array([[True, False, False], [True, True, False]])
    found = pruning.mean_score(scores, alive)
    np.testing.assert_array_equal(found, [2.0, 8.0, 0.0])  # of none, nothing
