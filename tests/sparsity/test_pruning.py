"""Pruning keeps exactly the right weights and neurons, whatever the tree."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experiments.benchmarks import prune as benchmark
from jaxmtl.sparsity import masks, pruning

SHAPES = {"a": (5, 3), "b": (37, 2), "c": (16, 1)}
"""Fewer rows than `count` sums at once, more than a multiple, exactly as many."""
few = settings(max_examples=40, deadline=None)


def net_of(weights):
    """Kernels with biases between them; the biases are never pruned."""
    layers = {name: {"kernel": w, "bias": w[0]} for name, w in weights.items()}
    return {"shared": layers, "tasks": {"click": {"head": jnp.ones((1, 1))}}}


def mask_of(marks):
    layers = {name: {"kernel": m, "bias": None} for name, m in marks.items()}
    return {"shared": layers, "tasks": {"click": {"head": None}}}


def kernels(mask):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(mask)]


def oracle(weights, marks, keep):
    """Sorts everything in float64: largest first, NaN before all, ties in order."""
    flat = np.concatenate([np.ravel(np.asarray(w, np.float64)) for w in weights])
    alive = np.concatenate([np.ravel(m) for m in marks])
    size = np.where(np.isnan(flat), 0, np.abs(flat))
    order = np.lexsort((np.arange(flat.size), -size, ~np.isnan(flat), ~alive))
    kept = np.zeros(flat.size, bool)
    kept[order[:keep]] = True
    parts = np.split(kept, np.cumsum([m.size for m in marks])[:-1])
    return [p.reshape(m.shape) for p, m in zip(parts, marks, strict=True)]


def assert_same(mask, expected):
    for got, wanted in zip(kernels(mask), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@st.composite
def pruned_nets(draw, dtype=np.float32):
    """Weights full of ties, zeros and odd values, a mask, and how many to keep."""
    width = 8 * np.dtype(dtype).itemsize
    tiny = float(np.finfo(dtype).smallest_subnormal)
    odd = [0.0, -0.0, 0.5, -0.5, 1.0, tiny, -tiny, np.inf, -np.inf, np.nan]
    value = st.one_of(st.sampled_from(odd), st.floats(-2, 2, width=width))
    weights = {n: draw(hnp.arrays(dtype, s, elements=value)) for n, s in SHAPES.items()}
    marks = {n: draw(hnp.arrays(bool, s)) for n, s in SHAPES.items()}
    alive = sum(int(m.sum()) for m in marks.values())
    keep = draw(st.one_of(st.just(0), st.just(alive), st.integers(0, alive)))
    return weights, marks, keep


def test_smallest_weights_of_all_layers_fall_together():
    net = net_of({"a": jnp.array([[0.1, -3.0], [2.0, 0.0]]), "b": jnp.array([[-0.2]])})
    mask = masks.full(net)
    kept = pruning.prune(net, mask, 3)
    assert_same(kept, [[[False, True], [True, False]], [[True]]])
    assert kept["shared"]["a"]["bias"] is None
    assert kept["tasks"]["click"]["head"] is None


def test_quantile_is_taken_over_survivors():
    net = net_of({"a": jnp.array([[9.0, 4.0, 3.0, 2.0, 1.0]])})
    mask = mask_of({"a": jnp.array([[False, True, True, True, False]])})
    assert_same(pruning.prune(net, mask, 2), [[[False, True, True, False, False]]])


def test_of_equal_weights_the_last_in_tree_order_then_index_order_fall_first():
    net = net_of({"a": jnp.array([[1.0, -1.0], [1.0, 2.0]]), "b": jnp.array([[-1.0]])})
    mask = masks.full(net)
    assert_same(pruning.prune(net, mask, 3), [[[True, True], [False, True]], [[False]]])
    assert_same(pruning.prune(net, mask, 4), [[[True, True], [True, True]], [[False]]])


@few
@given(pruned_nets())
def test_prune_is_what_sorting_would_give(case):
    weights, marks, keep = case
    kept = pruning.prune(net_of(weights), mask_of(marks), keep)
    assert_same(kept, oracle(weights.values(), list(marks.values()), keep))


@few
@given(pruned_nets(), st.floats(0, 1))
def test_each_layer_by_its_own_threshold_is_what_sorting_it_would_give(case, share):
    weights, marks, _ = case
    keep = {name: int(share * m.sum()) for name, m in marks.items()}
    kept = pruning.prune(net_of(weights), mask_of(marks), mask_of(keep))
    expected = [oracle([weights[n]], [marks[n]], keep[n])[0] for n in marks]
    assert_same(kept, expected)


def test_many_weights_are_pruned_as_sorting_would():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((301, 97), (97, 211))]
    marks = [rng.random(w.shape) < 0.7 for w in weights]
    keep = sum(int(m.sum()) for m in marks) // 5
    kept = pruning.prune(weights, marks, keep)
    assert_same(kept, oracle(weights, marks, keep))


def test_bfloat16_weights_rank_beside_float32_ones():
    rng = np.random.default_rng(1)
    half = jnp.asarray(rng.normal(size=(40, 8)), jnp.bfloat16)
    single = jnp.asarray(rng.normal(size=(8, 9)), jnp.float32)
    net = net_of({"a": half, "b": single})
    both = [np.asarray(half.astype(jnp.float32)), single]
    alone = net_of({"a": half})
    for keep in (0, 1, 100, 319, 320):
        kept = pruning.prune(net, masks.full(net), keep)
        assert_same(kept, oracle(both, kernels(masks.full(net)), keep))
        kept = pruning.prune(alone, masks.full(alone), keep)
        assert_same(kept, oracle(both[:1], kernels(masks.full(alone)), keep))


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_float64_weights_rank_by_their_last_bits(x64):
    net = [jnp.array([[1.0, 1 + 2**-50, -1 - 2**-51]]), jnp.ones((1, 1), jnp.float32)]
    mask = [jnp.ones(w.shape, bool) for w in net]
    assert_same(pruning.prune(net, mask, 1), [[[False, True, False]], [[False]]])
    assert_same(pruning.prune(net, mask, 2), [[[False, True, True]], [[False]]])


def test_a_dead_net_stays_dead():
    net = net_of({"a": jnp.ones((20, 3))})
    mask = mask_of({"a": jnp.zeros((20, 3), bool)})
    assert masks.count(pruning.prune(net, mask, 0)) == 0
    assert masks.count(prune_globally(net, mask, 0)) == 0


def test_survivors_of_round_after_round_are_subsets_with_the_exact_counts():
    rng = np.random.default_rng(2)
    mask = mask_of({name: np.ones(shape, bool) for name, shape in SHAPES.items()})
    for keep in pruning.keep_counts(masks.count(mask), 0.2, 4):
        weights = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
        fewer = pruning.prune(net_of(weights), mask, keep)
        assert masks.count(fewer) == keep
        pairs = zip(kernels(fewer), kernels(mask), strict=True)
        assert all((after <= before).all() for after, before in pairs)
        mask = fewer
    assert masks.density(mask) == 0.2


def test_other_masks_and_counts_compile_nothing_new():
    traces = []

    @jax.jit
    def traced(net, mask, keep):
        traces.append(1)
        return pruning.prune(net, mask, keep)

    net = net_of({"a": jax.random.normal(jax.random.key(0), (21, 4))})
    mask = masks.full(net)
    for keep in (60, 30, 29, 0):
        eager = pruning.prune(net, mask, keep)
        if keep == 60:
            compiled = pruning._keep_largest._cache_size()
        mask = traced(net, mask, jnp.int32(keep))
        assert_same(mask, kernels(eager))
    assert len(traces) == 1
    # One entry more at most: the call inside `traced`.
    assert pruning._keep_largest._cache_size() <= compiled + 1


def test_eager_equals_jitted():
    net = net_of({"a": jnp.round(jax.random.normal(jax.random.key(2), (18, 6)), 1)})
    mask = pruning.prune(net, masks.full(net), 80)
    with jax.disable_jit():
        weights = pruning.prune(net, mask, 33)
        neurons = prune_globally(net, mask, 33)
    assert_same(weights, kernels(pruning.prune(net, mask, 33)))
    assert_same(neurons, kernels(prune_globally(net, mask, 33)))


def test_seeds_mapped_over_are_pruned_as_each_alone():
    weights = jnp.round(jax.random.normal(jax.random.key(3), (4, 17, 5)), 1)
    keeps = jnp.array([0, 20, 41, 85])
    everywhere = jnp.ones((17, 5), bool)
    together = jax.vmap(lambda w, k: pruning.prune([w], [everywhere], k)[0])
    for row, w, k in zip(together(weights, keeps), weights, keeps, strict=True):
        assert_same([row], kernels(pruning.prune([w], [everywhere], k)))


EIGHT_DEVICES = """
import re, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxmtl.sparsity import pruning

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
a, b = jax.random.split(jax.random.key(0))
net = [jnp.round(jax.random.normal(a, (256, 64)), 2), jax.random.normal(b, (64, 128))]
mask = [w > -1.5 for w in net]
for spec in (PartitionSpec(None, "model"), PartitionSpec("model", None)):
    spread = lambda tree: jax.device_put(tree, NamedSharding(mesh, spec))
    for prune in (pruning.prune, pruning.prune_neurons):
        one, eight = prune(net, mask, 5000), prune(spread(net), spread(mask), 5000)
        assert all(map(np.array_equal, one, eight)), (prune, spec)
    program = jax.jit(pruning.prune).lower(spread(net[:1]), spread(mask[:1]), 5000)
    moved = re.findall(r"= (\\S+) (?:all|collective)-", program.compile().as_text())
    assert set(moved) == {"s32[]"}, (spec, moved)
"""


def test_eight_devices_prune_as_one_and_exchange_only_counts():
    given = os.environ.get("XLA_FLAGS", "")
    flags = f"{given} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"mask": {"a": {"kernel": None, "bias": None}}},
            "the net has a leaf at shared/a/bias, the mask at a/bias;",
        ),
        (
            {"mask": {"shared": mask_of({"a": None})["shared"]}},
            "a leaf at tasks/click/head, the mask at none;",
        ),
        (
            {"mask": mask_of({"a": None}) | {"x": None}},
            "a leaf at no further path, the mask at x;",
        ),
        ({"mask": mask_of({"a": np.ones((3, 2), bool)})}, r"shared/a/kernel.*\[3, 2\]"),
        ({"mask": mask_of({"a": np.ones((2, 3))})}, "shared/a/kernel.*bool"),
        ({"mask": mask_of({"a": None})}, "nothing to prune"),
        ({"net": net_of({"a": np.ones((2, 3), int)})}, "shared/a/kernel.*floats"),
        ({"keep": 7}, "keep 7 of 6"),
        ({"keep": -1}, "keep -1 of 6"),
        ({"keep": 0.2}, "one integer"),
        ({"keep": {"a": 3}}, "split_keep"),
        ({"keep": mask_of({"a": 7})}, "keep 7 of 6"),
    ],
)
def test_bad_input_is_named(change, says):
    net = net_of({"a": jnp.ones((2, 3))})
    given = {"net": net, "mask": masks.full(net), "keep": 3, **change}
    with pytest.raises(ValueError, match=says):
        pruning.prune(**given)


def test_keep_counts_fall_by_one_rate_to_the_final_density():
    assert pruning.keep_counts(10_000, 0.2, 4) == (6687, 4472, 2991, 2000)
    assert pruning.keep_counts(97, 0.5, 1) == (48,)
    assert pruning.keep_counts(97, 1.0, 2) == (97, 97)


@pytest.mark.parametrize(("density", "rounds"), [(0, 4), (1.1, 4), (-0.2, 4), (0.2, 0)])
def test_keep_counts_refuses_what_it_cannot_reach(density, rounds):
    with pytest.raises(ValueError):
        pruning.keep_counts(100, density, rounds)


@few
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.floats(0, 1))
def test_split_keep_sums_exactly_at_equal_density(alive, share):
    mask = mask_of({f"l{i}": np.arange(40)[None] < n for i, n in enumerate(alive)})
    keep = int(share * sum(alive))
    counts = jax.tree.leaves(pruning.split_keep(mask, keep))
    assert sum(counts) == keep
    for count, n in zip(counts, alive, strict=True):
        assert 0 <= count <= n
        assert abs(count - n * keep / max(sum(alive), 1)) < 1


def chain(key, widths):
    """Kernels as LeCun initialises them."""
    sizes = list(zip(widths[:-1], widths[1:], strict=True))
    keys = jax.random.split(key, len(sizes))
    return [
        jax.random.normal(k, s) / np.sqrt(s[0])
        for k, s in zip(keys, sizes, strict=True)
    ]


prune_globally = functools.partial(pruning.prune_neurons, scope="global")


def neuron_oracle(weights, marks, keep):
    """Tries every number of neurons, fewest first, and takes the last that fits."""
    weights = [np.asarray(w, np.float64) for w in weights]
    score, layer = [], []
    for i, (w, m) in enumerate(zip(weights, marks, strict=True)):
        n = m.sum(0)
        root = np.sqrt(len(w) * (w**2 * m).sum(0) / np.maximum(n, 1))
        score.append(np.where(n > 0, root, -1))
        layer += [i] * len(n)
    flat, layer = np.concatenate(score), np.array(layer)
    best = [np.flatnonzero(layer == i)[np.argmax(s)] for i, s in enumerate(score)]
    others = [i for i in np.argsort(-flat, kind="stable") if i not in best]
    for neurons in range(len(others) + 1):
        chosen = np.isin(np.arange(len(flat)), best + others[:neurons]) & (flat >= 0)
        columns = [chosen[layer == i] for i in range(len(weights))]
        rows = [np.ones(len(weights[0]), bool), *columns[:-1]]
        kept = [
            m & r[:, None] & c for m, r, c in zip(marks, rows, columns, strict=True)
        ]
        if neurons and sum(k.sum() for k in kept) > keep:
            break
        result = kept
    return result


def test_a_neuron_goes_with_its_incoming_column_and_outgoing_row():
    first = jnp.array([[3.0, 0.1, 2.0], [3.0, 0.1, 2.0]])
    second = jnp.array([[5.0, 0.3], [5.0, 0.3], [5.0, 0.3]])
    # Scores: √(2·9), √(2·.01), √(2·4) and √(3·25), √(3·.09). The weakest two are
    # neuron 1 of the first layer (2 + 2 weights) and neuron 1 of the second (3).
    net, mask = [first, second], [jnp.ones((2, 3), bool), jnp.ones((3, 2), bool)]
    column = np.array([True, False, True])
    both = [np.stack([column, column]), np.stack([column, column], axis=1)]
    assert_same(prune_globally(net, mask, 8), both)
    assert_same(prune_globally(net, mask, 11), both)
    fewer = [both[0], both[1] & np.array([True, False])]
    assert_same(prune_globally(net, mask, 7), fewer)
    assert_same(prune_globally(net, mask, 12), kernels(mask))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_neurons_are_what_trying_every_number_of_them_gives(seed, share, again):
    weights = chain(jax.random.key(seed), (9, 6, 8, 3))
    mask = [np.ones(w.shape, bool) for w in weights]
    for part in (share, again):
        keep = int(part * sum(m.sum() for m in mask))
        kept = kernels(prune_globally(weights, mask, keep))
        assert_same(kept, neuron_oracle(weights, mask, keep))
        assert all((k <= m).all() for k, m in zip(kept, mask, strict=True))
        for before, after in zip(kept[:-1], kept[1:], strict=True):
            # Every weight kept leaves a neuron that still hears something.
            assert (after.any(axis=1) <= before.any(axis=0)).all()
        assert all(k.any() for k in kept)
        mask = kept


def test_neurons_of_a_mask_without_structure_still_fit_the_budget():
    weights = chain(jax.random.key(4), (9, 6, 8, 3))
    rng = np.random.default_rng(6)
    mask = [rng.random(w.shape) < 0.4 for w in weights]
    for keep in (10, 20, 40):
        kept = prune_globally(weights, mask, keep)
        assert_same(kept, neuron_oracle(weights, mask, keep))
        assert masks.count(kept) <= keep


def test_each_layer_keeps_its_best_neuron_whatever_the_budget():
    weights = chain(jax.random.key(7), (9, 6, 8, 3))
    mask = [jnp.ones(w.shape, bool) for w in weights]
    kept = prune_globally(weights, mask, 0)
    assert [int(k.sum()) for k in kept] == [9, 1, 1]


def test_neurons_that_diverged_outrank_all_others():
    weights = chain(jax.random.key(9), (9, 6, 8, 3))
    weights[0] = weights[0].at[0, 1:3].set(jnp.nan)
    mask = [jnp.ones(w.shape, bool) for w in weights]
    kept = kernels(prune_globally(weights, mask, 18 + 2 + 1))
    assert np.flatnonzero(kept[0].any(axis=0)).tolist() == [1, 2]


def test_a_dead_neuron_falls_silent_however_much_is_kept():
    weights = chain(jax.random.key(9), (9, 6, 8, 3))
    mask = [jnp.ones(w.shape, bool) for w in weights]
    mask[0] = mask[0].at[:, 2].set(False)
    kept = kernels(prune_globally(weights, mask, masks.count(mask)))
    assert np.flatnonzero(~kept[1].any(axis=1)).tolist() == [2]


def test_a_neuron_of_zero_weights_is_better_than_a_dead_one():
    """It is the best of its layer, which keeps it; the dead one stays dead."""
    weights = [jnp.zeros((2, 3)), jnp.ones((3, 1))]
    mask = [jnp.ones(w.shape, bool) for w in weights]
    mask[0] = mask[0].at[:, 0].set(False)
    for scope in ("layer", "global"):
        kept = pruning.prune_neurons(weights, mask, 0, scope=scope)
        assert_same(kept, [[[False, True, False]] * 2, [[False], [True], [False]]])


def test_fresh_layers_of_any_width_lose_neurons_alike():
    """A score without its fan-in would empty the wide layer or the narrow one."""
    weights = chain(jax.random.key(8), (2000, 60, 60, 60))
    mask = [jnp.ones(w.shape, bool) for w in weights]
    kept = prune_globally(weights, mask, masks.count(mask) // 2)
    left = [float(k.any(axis=0).mean()) for k in kept]
    # The wide layer's scores scatter less, so it still differs somewhat.
    assert max(left) < 1 and min(left) > 0.25


def test_layers_lose_the_same_fraction_of_neurons_however_large_their_weights():
    """One ranking would empty the layer whose weights training left smaller."""
    weights = chain(jax.random.key(8), (50, 40, 20, 10))
    weights[0] = 100 * weights[0]
    mask = [jnp.ones(w.shape, bool) for w in weights]
    keep = masks.count(mask) // 2
    left = lambda kept: [int(k.any(axis=0).sum()) for k in kernels(kept)]
    assert left(prune_globally(weights, mask, keep))[1:] == [1, 1]
    even = pruning.prune_neurons(weights, mask, keep)
    assert masks.count(even) <= keep
    fractions = np.array(left(even)) / np.array([40, 20, 10])
    assert np.ptp(fractions) <= 1 / 10 and fractions.max() < 1


def test_a_layers_weakest_neurons_fall_first_when_each_layer_has_its_share():
    weights = chain(jax.random.key(5), (30, 12, 12))
    mask = [jnp.ones(w.shape, bool) for w in weights]
    kept = kernels(pruning.prune_neurons(weights, mask, masks.count(mask) // 3))
    norms = np.linalg.norm(weights[0], axis=0)
    alive = kept[0].any(axis=0)
    assert 0 < alive.sum() < 12
    assert norms[alive].min() > norms[~alive].max()


def test_kernels_that_form_no_chain_are_refused():
    weights = [jnp.ones((4, 3)), jnp.ones((4, 3))]
    with pytest.raises(ValueError, match="no chain"):
        prune_globally(weights, [w > 0 for w in weights], 3)


def test_contenders_of_the_benchmark_all_give_the_same_mask():
    calls = benchmark.contenders(1000).items()
    given = {name: call() for name, call in calls if call is not None}
    ours = np.concatenate([np.ravel(m) for m in kernels(given.pop("jaxmtl prune"))])
    assert ours.sum() == 200
    for name, mask in given.items():
        np.testing.assert_array_equal(np.asarray(mask) > 0, ours, err_msg=name)
