"""A step moves what its gates open and its batch touches, and nothing else."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from trainings import moments, step_of

from jaxmtl import models
from jaxmtl.data.batches import Plan
from jaxmtl.sparsity import masks
from jaxmtl.training import feed, inference, train, train_state
from jaxmtl.training.spec import Conflict, Setup
from jaxmtl.types import Batch, Rows, Task

KEY = jax.random.key(0)
MOVING = ("gated", "per_task", "leaky")
OWN = make_setup(own_dims=(("watch", 2),))
SUM = make_setup(
    own_dims=(("watch", 2),),
    summed=True,
    task_weights=(("click", 0.5), ("watch", 3.0)),
    conflict=Conflict("watch", 5.0, None),
)
SLOTS = 40
"""Of every batch that is stepped on alone: one shape, one compilation."""


class World(NamedTuple):
    """All that a training takes besides its state."""

    setup: Setup
    masks: dict
    gates: dict
    plan: Plan
    rows: Rows


def start(setup) -> train_state.TrainState:
    """The state that training starts from."""
    return train_state.make_init(setup)(KEY)


@functools.cache
def make_world(setup, seed=0, n=96) -> World:
    """Every task sees a random half of the trunk."""
    rng, rows = np.random.default_rng(seed), make_rows(n, seed=1)
    net = jax.device_get(start(setup).net)
    draw = lambda mask: jnp.asarray(rng.random(mask.shape) < 0.5)
    drawn = {t: jax.tree.map(draw, masks.full(net)) for t in setup.tasks}
    gates = train_state.make_gates(setup, net, drawn)
    plan = Plan(rows, setup.learned, 32, summed=setup.summed)
    return World(setup, drawn, gates, plan, jax.tree.map(jnp.asarray, rows))


@functools.cache
def compiled_step(setup, kind):
    return jax.jit(step_of(setup, kind))


def one_step(world, state, kind, index, step=None):
    padded = np.full(SLOTS, -1, np.int32)
    padded[: len(index)] = index
    step = step or compiled_step(world.setup, kind)
    batch = feed.take(world.rows, padded)
    return step(state, world.masks, world.gates[kind], batch)


def one_epoch(world, state, epoch=1, seed=0):
    program, orders = train.make_epoch(world.setup), world.plan.orders(seed, epoch)
    return program(state, world.masks, world.gates, world.rows, orders)


@functools.cache
def warm(setup):
    """A state in which all that a task sees has momentum."""
    return one_epoch(make_world(setup), start(setup))[0]


def slots(state, kind):
    """The values and moments of a kind of step: all that gates hold back."""
    slot = kind if kind in state.opt.slots else "all"
    return {"net": state.net, **moments(state, slot)._asdict()}


def kernels(tree):
    return {name: np.asarray(layer["kernel"]) for name, layer in tree["shared"].items()}


def rows_of(table):
    """What a step may change of a table's rows, by name: not the scratch space."""
    rows, slots = table.unpack(jnp.asarray(table.packed))
    return jax.device_get({"rows": rows, **slots})


@pytest.mark.parametrize("moving", MOVING)
def test_weight_in_the_other_tasks_mask_alone_moves_only_where_updates_leak(moving):
    world = make_world(make_setup(moving=moving))
    before, index = warm(world.setup), world.plan.orders(0, 2)["watch"][0]
    after, _ = one_step(world, before, "watch", index)
    momentum = kernels(slots(before, "click")["mean"])
    sees = {task: kernels(mask) for task, mask in world.masks.items()}
    old, new = slots(before, "watch"), slots(after, "watch")
    for layer in ("layer00", "layer01"):
        theirs = sees["click"][layer] & ~sees["watch"][layer]
        pushed = theirs & (momentum[layer] != 0)
        assert pushed.sum() > 5  # a plain Adam would move these
        moved = kernels(new["net"])[layer] != kernels(old["net"])[layer]
        assert moved[sees["watch"][layer]].mean() > 0.5
        if moving == "leaky":
            assert moved[pushed].all()
            continue
        for part in old:
            kept = [kernels(tree[part])[layer][theirs] for tree in (old, new)]
            np.testing.assert_array_equal(*kept, err_msg=part)


@pytest.mark.parametrize("moving", MOVING)
def test_head_of_the_other_task_moves_only_where_updates_leak(moving):
    world = make_world(make_setup(moving=moving))
    before, index = warm(world.setup), world.plan.orders(0, 2)["watch"][0]
    after, _ = one_step(world, before, "watch", index)
    if moving == "leaky":
        moved = after.net["tasks"]["click"]["head"]["kernel"]
        assert (moved != before.net["tasks"]["click"]["head"]["kernel"]).all()
    else:
        old, new = slots(before, "watch"), slots(after, "watch")
        for part in old:
            assert_same_bits(new[part]["tasks"]["click"], old[part]["tasks"]["click"])


def test_tasks_with_moments_of_their_own_leave_the_others_alone():
    world = make_world(make_setup(moving="per_task"))
    before, index = warm(world.setup), world.plan.orders(0, 2)["watch"][0]
    after, _ = one_step(world, before, "watch", index)
    assert set(after.opt.slots) == {"click", "watch"}
    assert_same_bits(after.opt.slots["click"], before.opt.slots["click"])


@pytest.mark.parametrize("moving", MOVING)
def test_weight_outside_both_masks_never_moves(moving):
    world = make_world(make_setup(moving=moving))
    before = kernels(start(world.setup).net)
    after = kernels(warm(world.setup).net)
    seen = kernels(masks.union(world.masks.values()))
    for layer, kept in before.items():
        assert (~seen[layer]).sum() > 5
        np.testing.assert_array_equal(after[layer][~seen[layer]], kept[~seen[layer]])
        assert (after[layer] != kept)[seen[layer]].mean() > 0.8


def stacked(ids):
    """Rows of the stacked table that some ids of the planted log name."""
    first = np.array([0, 21, 52, 52, 52, 21])
    return np.unique((ids + first)[ids >= 0])


def test_step_moves_the_embeddings_of_its_labelled_rows_and_no_others():
    """Rows that were not clicked are no business of the task judged on clicks."""
    world = make_world(make_setup())
    before, index = warm(world.setup), np.arange(12)
    after, _ = one_step(world, before, "watch", index)
    clicked = index[np.asarray(world.rows.labels["click"])[index] > 0]
    assert 0 < len(clicked) < len(index)
    met = stacked(np.asarray(world.rows.ids)[clicked])
    others = np.setdiff1d(np.arange(60), met)
    old, new = rows_of(before.tables["shared"]), rows_of(after.tables["shared"])
    assert np.abs(old["mean"][others]).sum() > 0  # a dense Adam would move these
    for name in old:
        kept = [table[name][others] for table in (old, new)]
        np.testing.assert_array_equal(*kept, err_msg=name)
    np.testing.assert_array_equal(new["count"][met], old["count"][met] + 1)


@pytest.mark.parametrize("moving", MOVING)
def test_batch_without_a_labelled_row_moves_nothing(moving):
    world = make_world(make_setup(moving=moving))
    before = warm(world.setup)
    index = np.flatnonzero(np.asarray(world.rows.labels["click"]) == 0)[:12]
    after, losses = one_step(world, before, "watch", index)
    assert losses == {"watch": 0}
    for stack, table in before.tables.items():
        assert_same_bits(rows_of(after.tables[stack]), rows_of(table))
    assert_same_bits(after.net, before.net)
    assert_same_bits(after.opt.slots, before.opt.slots)
    assert after.step == before.step + 1


def test_padding_changes_nothing():
    """Empty slots read row 0; neither its labels nor its ids may count."""
    world = make_world(make_setup())
    before, index = warm(world.setup), np.arange(1, 13)
    gaps = np.full(SLOTS, -1)
    gaps[1:25:2] = index
    batch = feed.take(world.rows, index)
    step = compiled_step(world.setup, "click")
    expected, loss = step(before, world.masks, world.gates["click"], batch)
    after, padded_loss = one_step(world, before, "click", gaps)
    assert_close(padded_loss, loss)
    assert_close(after.net, expected.net)
    tables = [rows_of(state.tables["shared"]) for state in (after, expected)]
    assert_close(*tables)
    np.testing.assert_array_equal(tables[0]["count"], tables[1]["count"])


def test_own_view_moves_in_its_tasks_steps_alone():
    world, first = make_world(OWN), start(OWN)
    before, _ = one_step(world, first, "watch", np.arange(24))
    counts = lambda state, stack: rows_of(state.tables[stack])["count"]
    assert (counts(before, "watch") != counts(first, "watch")).any()
    after, _ = one_step(world, before, "click", np.arange(24))
    assert_same_bits(after.tables["watch"], before.tables["watch"])
    assert (counts(after, "shared") != counts(before, "shared")).any()


def test_own_view_moves_on_its_tasks_rows_alone_in_a_step_on_the_sum():
    world, index = make_world(SUM), np.arange(12)
    after, _ = one_step(world, start(SUM), "all", index)
    clicked = index[np.asarray(world.rows.labels["click"])[index] > 0]
    assert 0 < len(clicked) < len(index)
    for stack, counted in (("watch", clicked), ("shared", index)):
        met = stacked(np.asarray(world.rows.ids)[counted])
        count = rows_of(after.tables[stack])["count"]
        np.testing.assert_array_equal(np.flatnonzero(count), met)


def test_epoch_is_its_steps_one_after_the_other():
    world = make_world(make_setup())
    looped = start(world.setup)
    orders = world.plan.orders(0, 1)
    losses = {"click": [], "watch": []}
    for number in range(world.plan.steps):
        for kind in ("click", "watch"):
            index = orders[kind][number]
            looped, loss = one_step(world, looped, kind, index)
            losses[kind].append(loss[kind])
    end, scanned = one_epoch(world, start(world.setup))
    assert end.step == looped.step == 2 * world.plan.steps
    assert_close(scanned, {task: np.array(part) for task, part in losses.items()})
    assert_close(end.net, looped.net, rtol=1e-4, atol=1e-5)
    tables = [rows_of(state.tables["shared"]) for state in (end, looped)]
    assert_close(*tables, rtol=1e-4, atol=1e-5)


def test_eager_and_compiled_steps_agree():
    world, index = make_world(make_setup()), np.arange(20)
    before, eager = warm(world.setup), step_of(world.setup, "click")
    expected, loss = one_step(world, before, "click", index, eager)
    after, compiled_loss = one_step(world, before, "click", index)
    assert_close(compiled_loss, loss)
    assert_close(after, expected)


def predict_program(setup):
    return inference.predict_program(setup.spec.net, setup.spec.output)


def programs(jitted):
    """How many programs were compiled of a function."""
    return jitted._cache_size()


@pytest.mark.parametrize("moving", MOVING)
def test_nothing_recompiles_when_masks_gates_or_orders_change(moving):
    setup = make_setup(moving=moving)
    state, epoch = jax.tree.map(jnp.copy, warm(setup)), train.make_epoch(setup)
    program = train.epoch_program(setup.spec)
    compiled = programs(program)
    for number, seed in enumerate((1, 2, 3)):
        world = make_world(setup, seed)
        state, _ = one_epoch(world, state, number, seed)
    dense = train_state.dense_masks(setup, state.net)
    gates = train_state.make_gates(setup, state.net, dense)
    state = train_state.restart(
        setup, jax.random.key(5), train_state.snapshot_of(state)
    )
    epoch(state, dense, gates, world.rows, world.plan.orders(3, 9))
    assert programs(program) == compiled
    assert train.epoch_program(make_setup(moving=moving).spec) is program


def test_predictions_under_other_masks_do_not_recompile():
    world = make_world(make_setup())
    snapshot = train_state.snapshot_of(warm(world.setup))
    predict = functools.partial(inference.predict_all, world.setup, snapshot, chunk=36)
    first = predict(world.masks, world.rows)
    compiled = programs(predict_program(world.setup))
    other = predict(make_world(world.setup, 1).masks, world.rows)
    assert (other["click"] != first["click"]).any()
    assert programs(predict_program(world.setup)) == compiled


def reference_fields(table, rows):
    """Each field's vector on the planted log, looked up one field at a time."""
    pick = lambda column, first: table[rows.ids[:, column] + first]
    tags = rows.ids[:, 2:5]
    found = jnp.where((tags >= 0)[..., None], table[tags + 52], 0).sum(1)
    mean = found / jnp.maximum((tags >= 0).sum(1), 1)[:, None]
    return jnp.stack([pick(0, 0), pick(1, 21), mean, pick(5, 21)], 1)


def reference_logit(task, tables, net, mask, rows):
    """The forward pass written out over dense tables."""
    relu = lambda x: jnp.where(x > 0, x, 0)
    flat = lambda x: x.reshape(len(x), -1)
    crossed = lambda x: jnp.concatenate([flat(x), flat(x @ x.mT)], 1)
    shared, own = net["shared"], net["tasks"][task]
    kernels = [
        shared[name]["kernel"] * mask["shared"][name]["kernel"] for name in shared
    ]
    fields = crossed(reference_fields(tables["shared"], rows))
    x = jnp.concatenate([fields, rows.numeric], 1) @ kernels[0]
    if "branch" in own:
        view = crossed(reference_fields(tables[task], rows))
        x += view @ own["branch"]["kernel"]
    x = relu(x + shared["layer00"]["bias"])
    x = relu(x @ kernels[1] + shared["layer01"]["bias"])
    return (x @ own["head"]["kernel"] + own["head"]["bias"])[:, 0]


def reference_loss(task, tables, net, mask, rows):
    """Mean loss: cross-entropy of clicks; squares of watching, short ones fivefold."""
    p = jax.nn.sigmoid(reference_logit(task, tables, net, mask, rows))
    click, watch = rows.labels["click"], rows.labels["watch"]
    if task == "click":
        return -jnp.mean(jnp.log(jnp.where(click > 0, p, 1 - p)))
    least = jnp.where(rows.extras["duration"] > 60, 0.1, 0.2)
    weight = jnp.where((watch > 0) & (watch < least), 5, 1)
    return jnp.sum(click * weight * (p - watch) ** 2) / jnp.sum(click)


def test_step_on_the_sum_adds_the_tasks_separate_gradients():
    """0.5 · click + 3 · watch, one plain Adam on all that any task sees."""
    world, state = make_world(SUM), start(SUM)
    rows = jax.tree.map(lambda column: column[:SLOTS], world.rows)
    short = jnp.where(jnp.arange(SLOTS) < 20, 0.1, 1)
    rows.labels["watch"] = rows.labels["watch"] * short
    first = {s: table.rows for s, table in state.tables.items()}, state.net
    differentiate = jax.jit(
        jax.value_and_grad(reference_loss, argnums=(1, 2)), static_argnums=0
    )
    losses, gradients = {}, {}
    for task, mask in world.masks.items():
        losses[task], gradients[task] = differentiate(task, *first, mask, rows)
    total = jax.tree.map(lambda c, w: 0.5 * c + 3 * w, *gradients.values())
    updates, _ = (adam := optax.adam(0.02)).update(total, adam.init(first))
    tables, net = optax.apply_updates(first, updates)

    batch = Batch(rows, jnp.ones(SLOTS, bool))
    step = compiled_step(SUM, "all")
    after, got = step(state, world.masks, world.gates["all"], batch)
    assert_close(got, losses)
    means = {s: rows_of(table)["mean"] for s, table in after.tables.items()}
    scaled = jax.tree.map(lambda gradient: 0.1 * gradient, total)
    assert_close((means, moments(after).mean), scaled, rtol=1e-4, atol=1e-7)
    assert_close(after.net, net, atol=1e-4)
    moved = {s: table.rows for s, table in after.tables.items()}
    assert_close(moved, tables, atol=1e-4)


def test_predictions_are_the_same_in_chunks_and_those_of_the_formula():
    world = make_world(make_setup())
    snapshot = train_state.snapshot_of(warm(world.setup))
    predict = functools.partial(
        inference.predict_all, world.setup, snapshot, world.masks, world.rows
    )
    whole, chunks = predict(), predict(chunk=36)
    for task, mask in world.masks.items():
        assert whole[task].shape == (96,)
        assert_close(chunks[task], whole[task], rtol=0)
        logit = jax.jit(reference_logit, static_argnums=0)
        expected = jax.nn.sigmoid(logit(task, *snapshot, mask, world.rows))
        assert_close(whole[task], expected)


def test_parts_of_one_name_start_alike_in_any_setup():
    """A ticket is found where joint training begins (Algorithm 1, line 11)."""
    joint = start(OWN)
    for task, own in (("click", ()), ("watch", OWN.own_dims)):
        alone = train_state.make_init(make_setup(tasks=(task,), own_dims=own))(KEY)
        assert_same_bits(alone.net["shared"], joint.net["shared"])
        assert_same_bits(alone.net["tasks"][task], joint.net["tasks"][task])
        for stack, table in alone.tables.items():
            assert_same_bits(table, joint.tables[stack])
    other = train_state.make_init(OWN)(jax.random.key(1))
    assert (other.tables["shared"].rows != joint.tables["shared"].rows).any()


def test_restart_takes_parameters_by_name_and_no_moments():
    state, _ = one_step(make_world(OWN), start(OWN), "watch", range(9))
    snapshot = train_state.snapshot_of(state)
    setup = make_setup(tasks=("watch",), own_dims=OWN.own_dims)
    state, fresh = (
        train_state.restart(setup, KEY, snapshot),
        train_state.make_init(setup)(KEY),
    )
    own = {"watch": snapshot.net["tasks"]["watch"]}
    assert_same_bits(state.net, {"shared": snapshot.net["shared"], "tasks": own})
    assert_same_bits(state.opt.slots, fresh.opt.slots)
    for stack, empty in fresh.tables.items():
        expected = rows_of(empty) | {"rows": snapshot.tables[stack]}
        assert_same_bits(rows_of(state.tables[stack]), expected)
        assert state.tables[stack].updates == 0


def test_a_net_for_all_tasks_restarts_without_a_view_that_its_own_task_has_not():
    """A click's search runs in the net of both tasks, and watching has a view there."""
    state, _ = one_step(make_world(OWN), start(OWN), "watch", range(9))
    snapshot = train_state.snapshot_of(state)
    setup = make_setup(tasks=("click",), net_tasks=("click", "watch"))
    state = train_state.restart(setup, KEY, snapshot)
    assert "branch" in snapshot.net["tasks"]["watch"]
    watch = {"head": snapshot.net["tasks"]["watch"]["head"]}
    tasks = {"click": snapshot.net["tasks"]["click"], "watch": watch}
    assert_same_bits(state.net, {"shared": snapshot.net["shared"], "tasks": tasks})
    assert_same_bits(state.opt.slots, start(setup).opt.slots)


def test_snapshot_outlives_the_state_it_was_taken_of():
    world = make_world(make_setup())
    state = start(world.setup)
    snapshot = train_state.snapshot_of(state)
    kept = jax.tree.map(jnp.copy, snapshot)  # a NumPy view would keep it alive
    restarted = train_state.restart(world.setup, KEY, snapshot)
    for doomed in (state, restarted):
        one_epoch(world, doomed)
        assert all(x.is_deleted() for x in jax.tree.leaves(doomed.net))
        assert not any(x.is_deleted() for x in jax.tree.leaves(snapshot))
        assert_same_bits(snapshot, kept)


def test_same_seed_gives_the_same_bits():
    world = make_world(make_setup())
    ends = []
    for _ in range(2):
        state = start(world.setup)
        for epoch in (1, 2):
            state, losses = one_epoch(world, state, epoch)
        ends.append((state, losses))
    assert_same_bits(*ends)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moving": "pertask"}, "moving 'pertask' is none of.*'per_task'"),
        ({"architecture": "mmoe"}, "'mmoe' is no method's options"),
        ({"task_losses": (("click", "log"),)}, r"no loss for \['watch'\]"),
        (
            {"tasks": ("all",), "task_losses": (("all", "log"),)},
            r"\['all'\] cannot name a task",
        ),
    ],
)
def test_setup_that_means_nothing_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_setup(**change)


SPEND = Task("spend", "continuous", space="click", high=499.0, metric="mse")
RIVALS = {
    "mmoe": models.Mmoe(experts=2, expert_hidden=(5,), tower=(3,)),
    "ple": models.Ple(levels=2, expert_hidden=(4,), tower=(3,)),
    "cross_stitch": models.CrossStitch(hidden=(5,)),
    "dcrnn": models.Dcrnn(
        length=2, interval=1, hidden=3, bidirectional=False, tower=(3,)
    ),
    "esmm": models.Esmm(hidden=(5,)),
    "aitm": models.Aitm(hidden=(5,)),
}
"""Those that differ from the trunk in how a step goes; compiling is what costs."""


def make_rival(name, **changes):
    """Three tasks: an amount up to 499 is one of them where the model learns any."""
    schema, options = make_setup().schema, RIVALS[name]
    last = ("like", "log") if hasattr(options, "spaces") else ("spend", "squared")
    return make_setup(
        schema=dataclasses.replace(schema, tasks=(*schema.tasks, SPEND)),
        tasks=("click", "watch", last[0]),
        task_losses=(("click", "log"), ("watch", "squared"), last),
        task_weights=(("spend", 1e-4),),
        architecture=options,
        spaces=getattr(options, "spaces", "own"),
        masked=False,
        **changes,
    )


@functools.cache
def bought_rows() -> Rows:
    rows, rng = make_rows(SLOTS, seed=5), np.random.default_rng(5)
    spend = (rows.labels["click"] * rng.uniform(0, 499, SLOTS)).astype(np.float32)
    return jax.tree.map(
        jnp.asarray, rows._replace(labels=rows.labels | {"spend": spend})
    )


def rival_step(setup, kind, times=2, step=None):
    """The losses of some steps of one kind on the same batch, and the last state."""
    state = train_state.make_init(setup)(KEY)
    gates = train_state.make_gates(
        setup, state.net, train_state.dense_masks(setup, state.net)
    )
    batch = Batch(bought_rows(), jnp.arange(SLOTS) < 30)
    step, seen = step or jax.jit(step_of(setup, kind)), []
    for _ in range(times):
        state, losses = step(state, dict.fromkeys(setup.tasks), gates[kind], batch)
        seen.append(losses)
    return seen, state


@pytest.mark.parametrize("name", ["ple", "dcrnn", "aitm"])
def test_a_rival_trains_three_tasks_on_the_sum_of_their_losses(name):
    setup = make_rival(name, summed=True)
    (first, second), state = rival_step(setup, "all")
    weights = setup.start.task_weights
    total = lambda means: sum(weights.get(n, 1.0) * m for n, m in means.items())
    assert set(first) == set(setup.tasks)
    assert total(second) < total(first)
    if "spend" in first:
        spend = np.asarray(bought_rows().labels["spend"])[:30]
        assert 0.9 < first["spend"] / np.mean(spend[spend > 0] ** 2) < 1.1
    fresh = train_state.make_init(setup)(KEY).net
    assert jax.tree.structure(state.net) == jax.tree.structure(fresh)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.net, fresh)
    assert all(moved["tasks"][n]["head"]["kernel"] for n in setup.tasks)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", ["mmoe", "cross_stitch", "dcrnn"])
def test_a_rival_trains_an_amount_in_turn_with_other_tasks(name):
    setup = make_rival(name)
    (first, second), state = rival_step(setup, "spend")
    assert first.keys() == {"spend"} and second["spend"] < first["spend"]
    fresh = train_state.make_init(setup)(KEY).net
    for other in ("click", "watch"):
        assert_same_bits(state.net["tasks"][other], fresh["tasks"][other])


def test_eager_and_compiled_steps_on_weighted_positives_of_a_product_agree():
    setup = make_rival("esmm", summed=True, positive_weights=(("click", 3.0),))
    (loss,), state = rival_step(setup, "all", times=1)
    eager = step_of(setup, "all")
    (eager_loss,), eager_state = rival_step(setup, "all", times=1, step=eager)
    assert_close(loss, eager_loss, rtol=1e-4)
    assert_close(state.net, eager_state.net, rtol=1e-3, atol=1e-4)


def test_weights_on_negatives_leave_a_binary_tasks_predictions_calibrated():
    """Trained on five negatives for one, the net's odds are five times too small."""
    conflict = Conflict("like", 5.0, 0.1)
    weighted = make_setup(tasks=("like",), conflict=conflict)
    plain = make_setup(tasks=("like",))
    snapshot = train_state.snapshot_of(train_state.make_init(plain)(KEY))
    rows = jax.tree.map(jnp.asarray, make_rows(50, seed=3))
    dense = {"like": masks.full(snapshot.net)}
    odds = lambda p: p / (1 - p)
    before = inference.predict_all(plain, snapshot, dense, rows)["like"]
    after = inference.predict_all(weighted, snapshot, dense, rows)["like"]
    np.testing.assert_allclose(odds(after), 5 * odds(before), rtol=1e-4)


@pytest.mark.parametrize(
    ("task", "threshold"), [("watch", 0.1), ("watch", None), ("like", None)]
)
def test_conflict_weights_without_an_exact_correction_shift_nothing(task, threshold):
    setup = make_setup(tasks=("click", task), conflict=Conflict(task, 5.0, threshold))
    assert setup.numbers.offsets[task] == 0
