"""DCRNN against Algorithms 1 and 2 written out in NumPy, and its limiting cases."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from test_crnn import run_oracle

from jaxmtl.layers.mlp import FeatureLayer
from jaxmtl.models.dcrnn import Dcrnn, dcrnn, windows
from jaxmtl.sparsity import masks
from jaxmtl.types import Features, Task

SHARINGS = ("per_step_weights", "task_rnn", "one_rnn")
BATCH, WIDTH, HIDDEN = 4, 5, 3
SMALL = Dcrnn(length=3, interval=1, hidden=HIDDEN, tower=(4,))
FLAT = FeatureLayer(
    lambda key, features: {},
    lambda shared, features: features.shared.reshape(len(features.shared), -1),
)
WAYS = ("forward", "backward")
NAMES = ("click", "watch", "like", "share")


def draw_features():
    vectors = np.random.default_rng(0).normal(size=(BATCH, 1, WIDTH))
    return Features(jnp.asarray(vectors, jnp.float32), {}, jnp.zeros((BATCH, 0)))


def make_model(options, tasks=2):
    return dcrnn(options, [Task(name) for name in NAMES[:tasks]], FLAT)


def make(tasks=2, **changes):
    """A model, features, and a net none of whose parameters is zero."""
    model = make_model(dataclasses.replace(SMALL, **changes), tasks)
    features, rng = draw_features(), np.random.default_rng(1)
    net = model.init(jax.random.key(0), features)
    shift = lambda w: w + jnp.asarray(rng.normal(scale=0.3, size=w.shape), jnp.float32)
    return model, features, jax.tree.map(shift, net)


def model_oracle(net, features, options, tasks=2):
    """Task -> logits: the sequence, its windows, a net over each, the towers."""
    x = np.asarray(features.shared, np.float64).reshape(BATCH, -1)
    positions = range((tasks - 1) * options.interval + options.length)
    zeros = np.zeros((len(positions), WIDTH))
    sequence = [x + a for a in np.asarray(net["shared"].get("adaptation", zeros))]
    logits = {}
    for i, name in enumerate(NAMES[:tasks]):
        own, parts = net["tasks"][name], []
        window = slice(i * options.interval, options.length + i * options.interval)
        for way, step in list(zip(WAYS, (1, -1), strict=True))[
            : 1 + options.bidirectional
        ]:
            if options.sharing == "per_step_weights":
                cells = [
                    net["shared"]["rnn"][way][f"position{t:02d}"] for t in positions
                ]
            elif options.sharing == "task_rnn":
                cells = [own["rnn"][way] for _ in positions]
            else:
                cells = [net["shared"]["rnn"][way] for _ in positions]
            outputs = run_oracle(
                options.cell, cells[window][::step], sequence[window][::step]
            )
            parts += {
                "last": outputs[-1:],
                "mean": [np.mean(outputs, axis=0)],
                "concat": outputs,
            }[options.readout]
        top = np.concatenate(parts, axis=1)
        for layer in own.get("mlp", {}).values():
            top = np.maximum(top @ np.float64(layer["kernel"]) + layer["bias"], 0)
        logits[name] = (top @ np.float64(own["head"]["kernel"]) + own["head"]["bias"])[
            :, 0
        ]
    return logits


def with_tower_of_the_first(net):
    """The net with one tower for all tasks, so that logits compare what feeds it."""
    first, *_ = net["tasks"].values()
    tower = {part: first[part] for part in ("mlp", "head")}
    return net | {"tasks": {name: own | tower for name, own in net["tasks"].items()}}


@pytest.mark.parametrize(
    ("tasks", "length", "interval", "starts", "total"),
    [
        (2, 5, 2, (0, 2), 7),  # the paper's two set-ups
        (2, 3, 1, (0, 1), 4),
        (3, 4, 0, (0, 0, 0), 4),
        (3, 4, 4, (0, 4, 8), 12),
        (1, 1, 1, (0,), 1),
    ],
)
def test_windows_by_hand(tasks, length, interval, starts, total):
    assert windows(tasks, length, interval) == (starts, total)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_windows_cover_all_positions_and_neighbours_share_length_minus_interval(
    tasks, length, data
):
    interval = data.draw(st.integers(0, length))
    starts, total = windows(tasks, length, interval)
    held = [set(range(start, start + length)) for start in starts]
    assert set().union(*held) == set(range(total))
    for left, right in itertools.pairwise(held):
        assert len(left & right) == length - interval


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((2, 3, 4), "interval 4 is not within 0 … length = 3"),
        ((2, 3, -1), "interval -1 is not within"),
        ((2, 0, 0), "windows of length 0: there must be"),
        ((0, 3, 1), "0 windows of length 3: there must be"),
    ],
)
def test_impossible_windows_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        windows(*numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "cell 'rnn' is none of .'lstm', 'gru'"),
        ({"sharing": "all"}, "sharing 'all' is none of .'per_step_weights'"),
        ({"readout": "first"}, "readout 'first' is none of .'last'"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
        ({"length": 2, "interval": 3}, "interval 3 is not within"),
    ],
)
def test_unknown_or_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Dcrnn(**change)


def test_own_views_are_refused():
    features = draw_features()._replace(own={"watch": jnp.zeros((BATCH, 1, 2))})
    with pytest.raises(ValueError, match=r"no own views; got one for \['watch'\]"):
        make_model(SMALL).init(jax.random.key(0), features)


@pytest.mark.parametrize("readout", ["last", "mean", "concat"])
@pytest.mark.parametrize("adaptation", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_equals_a_plain_forward_pass(sharing, cell, bidirectional, adaptation, readout):
    options = dataclasses.replace(
        SMALL,
        sharing=sharing,
        cell=cell,
        bidirectional=bidirectional,
        adaptation=adaptation,
        readout=readout,
    )
    model, features, net = make(**dataclasses.asdict(options))
    expected = model_oracle(net, features, options)
    logits = model.apply(net, features).logits
    assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interval", [0, 2, 3])
@pytest.mark.parametrize("tasks", [1, 4])
def test_any_number_of_tasks_and_any_interval_equal_a_plain_forward_pass(
    tasks, interval
):
    model, features, net = make(tasks, interval=interval, tower=())
    options = dataclasses.replace(SMALL, interval=interval)
    expected = model_oracle(net, features, options, tasks)
    assert_close(model.apply(net, features).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_compiled_logits_equal_eager_ones(sharing):
    model, features, net = make(sharing=sharing)
    expected = model.apply(net, features).logits
    assert_close(jax.jit(model.apply)(net, features).logits, expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_one_task_with_one_position_is_one_cell_step(cell):
    model, features, net = make(
        1, length=1, interval=0, cell=cell, bidirectional=False, tower=()
    )
    x = features.shared.reshape(BATCH, -1) + net["shared"]["adaptation"][0]
    (step,) = run_oracle(cell, [net["shared"]["rnn"]["forward"]["position00"]], [x])
    head = net["tasks"]["click"]["head"]
    expected = (step @ head["kernel"] + head["bias"])[:, 0]
    assert_close(model.apply(net, features).logits["click"], expected, rtol=1e-4)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_adaptation_of_zero_equals_no_adaptation_to_the_bit(sharing):
    adapted, features, net = make(sharing=sharing)
    net["shared"]["adaptation"] *= 0
    plain, _, _ = make(sharing=sharing, adaptation=False)
    without = {k: v for k, v in net["shared"].items() if k != "adaptation"}
    expected = plain.apply(net | {"shared": without}, features).logits
    assert_same_bits(adapted.apply(net, features).logits, expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_bidirectional_run_equals_two_unidirectional_ones(cell):
    """The second reads a sequence turned round; a head without MLP adds the two."""
    model, features, net = make(1, cell=cell, tower=())
    single, _, _ = make(1, cell=cell, tower=(), bidirectional=False)
    head, total = net["tasks"]["click"]["head"], 0.0
    for way, turn, half in [
        ("forward", 1, slice(HIDDEN)),
        ("backward", -1, slice(HIDDEN, None)),
    ]:
        cells = net["shared"]["rnn"][way]
        cells = dict(zip(cells, list(cells.values())[::turn], strict=True))
        shared = {
            "adaptation": net["shared"]["adaptation"][::turn],
            "rnn": {"forward": cells},
        }
        own = {"head": {"kernel": head["kernel"][half], "bias": head["bias"] / 2}}
        one = {"shared": shared, "tasks": {"click": own}}
        total += single.apply(one, features).logits["click"]
    assert_close(model.apply(net, features).logits["click"], total)


def test_interval_zero_is_hard_sharing():
    """With weights of a position, all tasks see the same output."""
    model, features, net = make(3, interval=0)
    logits = model.apply(with_tower_of_the_first(net), features).logits
    assert_same_bits(logits["watch"], logits["click"])
    assert_same_bits(logits["like"], logits["click"])
    assert len(net["shared"]["rnn"]["forward"]) == SMALL.length


def test_interval_of_the_length_is_soft_sharing():
    """Nothing of one task's window reaches another task."""
    model, features, net = make(interval=SMALL.length)
    before = model.apply(net, features).logits
    last = {f"position{t:02d}" for t in range(SMALL.length, 2 * SMALL.length)}
    for cells in net["shared"]["rnn"].values():
        for position in last:
            cells[position] = jax.tree.map(lambda w: w + 1, cells[position])
    rows = net["shared"]["adaptation"].at[SMALL.length :].add(1)
    net["shared"]["adaptation"] = rows
    after = model.apply(net, features).logits
    assert_same_bits(after["click"], before["click"])
    assert (after["watch"] != before["watch"]).all()


def test_a_position_in_both_windows_serves_both_tasks_and_no_other_does():
    model, features, net = make(interval=2, bidirectional=False)
    before = model.apply(net, features).logits
    reached = {}
    for position, cell in net["shared"]["rnn"]["forward"].items():
        moved = {**net["shared"]["rnn"]["forward"]}
        moved[position] = jax.tree.map(lambda w: w + 1, cell)
        shared = net["shared"] | {"rnn": {"forward": moved}}
        after = model.apply(net | {"shared": shared}, features).logits
        reached[position] = {n for n in before if (after[n] != before[n]).any()}
    click, watch = {"click"}, {"watch"}
    assert list(reached.values()) == [click, click, click | watch, watch, watch]


def test_task_rnn_without_adaptation_does_not_depend_on_the_interval():
    logits = []
    for interval in range(SMALL.length + 1):
        model, features, net = make(
            sharing="task_rnn", adaptation=False, interval=interval
        )
        logits.append(model.apply(net, features).logits)
    for other in logits[1:]:
        assert_same_bits(other, logits[0])


def test_task_rnn_with_adaptation_depends_on_the_interval():
    model, features, net = make(sharing="task_rnn", interval=1)
    other = make_model(dataclasses.replace(SMALL, sharing="task_rnn", interval=0))
    before, after = (m.apply(net, features).logits for m in (model, other))
    assert_same_bits(after["click"], before["click"])
    assert (after["watch"] != before["watch"]).all()


def test_one_rnn_without_adaptation_gives_all_tasks_the_same_output():
    model, features, net = make(sharing="one_rnn", adaptation=False)
    logits = model.apply(with_tower_of_the_first(net), features).logits
    assert_same_bits(logits["watch"], logits["click"])


def test_gradient_of_one_task_reaches_its_window_and_its_own_part_alone():
    model, features, net = make(interval=2)
    total = lambda net: jnp.sum(model.apply(net, features).logits["watch"] ** 2)
    gradient = jax.jit(jax.grad(total))(net)
    assert not any(np.any(g) for g in jax.tree.leaves(gradient["tasks"]["click"]))
    assert np.any(gradient["tasks"]["watch"]["head"]["kernel"])
    touched = [bool(np.any(row)) for row in gradient["shared"]["adaptation"]]
    assert touched == [False, False, True, True, True]
    for cells in gradient["shared"]["rnn"].values():
        kernels = [cell["input"]["kernel"] for cell in cells.values()]
        assert [bool(np.any(kernel)) for kernel in kernels] == touched


@pytest.mark.parametrize("sharing", SHARINGS)
def test_parts_of_one_name_start_alike_in_any_company(sharing):
    features = draw_features()
    options = dataclasses.replace(SMALL, sharing=sharing, adaptation_scale=0.1)
    start = lambda tasks: make_model(options, tasks).init(jax.random.key(3), features)
    alone, both = start(1), start(2)
    rows = both["shared"]["adaptation"][: SMALL.length]
    assert_same_bits(alone["shared"]["adaptation"], rows)
    assert_same_bits(alone["tasks"]["click"], both["tasks"]["click"])
    assert (
        both["tasks"]["click"]["head"]["kernel"]
        != both["tasks"]["watch"]["head"]["kernel"]
    ).all()
    if sharing == "one_rnn":
        assert_same_bits(alone["shared"]["rnn"], both["shared"]["rnn"])
    if sharing == "per_step_weights":
        for way, cells in alone["shared"]["rnn"].items():
            assert_same_bits(cells, {t: both["shared"]["rnn"][way][t] for t in cells})


@pytest.mark.parametrize("sharing", SHARINGS)
def test_no_two_cells_start_alike(sharing):
    options = dataclasses.replace(SMALL, sharing=sharing)
    net = make_model(options).init(jax.random.key(3), draw_features())
    kernels = [
        np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(net)
        if masks.path_name(path).endswith(("input/kernel", "recurrent/kernel"))
    ]
    cells = {"per_step_weights": 8, "task_rnn": 4, "one_rnn": 2}[sharing]
    assert len(set(kernels)) == len(kernels) == 2 * cells


def test_adaptation_starts_at_zero_or_as_wide_as_asked():
    wide = dataclasses.replace(SMALL, adaptation_scale=0.5)
    features = Features(jnp.zeros((1, 1, 500)), {}, jnp.zeros((1, 0)))
    for options, expected in ((SMALL, 0.0), (wide, 0.5)):
        net = make_model(options).init(jax.random.key(0), features)
        assert np.std(net["shared"]["adaptation"]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_kernels_of_cells_and_towers_are_prunable_and_nothing_else_is(sharing):
    _, _, net = make(sharing=sharing)
    paths = lambda tree: {
        masks.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }
    cells = {
        "per_step_weights": {
            f"shared/rnn/{way}/position{t:02d}" for way in WAYS for t in range(4)
        },
        "task_rnn": {f"tasks/watch/rnn/{way}" for way in WAYS},
        "one_rnn": {f"shared/rnn/{way}" for way in WAYS},
    }[sharing]
    kernels = {
        f"{cell}/{part}/kernel" for cell in cells for part in ("input", "recurrent")
    }
    tower = {"tasks/watch/mlp/layer00/kernel"}
    assert paths(masks.full(net, "watch")) == kernels | tower


@pytest.mark.parametrize("sharing", SHARINGS)
def test_one_task_of_two_costs_what_it_costs_alone(sharing):
    """A step trains, and a mask serves, one task: the others must not be computed."""
    features = draw_features()

    def operations(tasks):
        model = make_model(dataclasses.replace(SMALL, sharing=sharing), tasks)
        net = model.init(jax.random.key(0), features)
        total = lambda net: jnp.sum(model.apply(net, features).logits["click"] ** 2)
        return jax.jit(jax.grad(total)).lower(net).compile().cost_analysis()["flops"]

    assert operations(2) == pytest.approx(operations(1), rel=0.02)
