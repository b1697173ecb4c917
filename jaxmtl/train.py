"""Training as pure programs: a step, an epoch in one scan, predictions.

`Setup` holds all that a program depends on besides the shapes of its arguments;
setups that are equal but for their numbers share one compiled program. Those, masks
and gates are arguments: the rounds of a ticket search, all masks of an ablation and
the learning rates that a tuner tries run through it unchanged.

On a mesh (`Setup.mesh`) the same step runs with its batch and its tables split over
devices, the rest copied (`jaxmtl.sharding`). Rows then stay on the host, from where
each process takes the part of a batch that its own devices need.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl import (
    embedding,
    guard,
    lanes,
    losses,
    masks,
    optim,
    outputs,
    sharding,
    spaces,
    table_shards,
)
from jaxmtl.data.batches import EVERY
from jaxmtl.data.chunks import Orders, gather
from jaxmtl.keys import named
from jaxmtl.setup import SHARED, Setup
from jaxmtl.types import (
    PADDING,
    Array,
    Batch,
    Features,
    Key,
    Mask,
    Params,
    Rows,
)

OWN, ROWS = lanes.OWN, lanes.SHARED
"""Of all that a program takes, lanes have a split's rows in common."""


class TrainState(NamedTuple):
    """All that training changes; arrays only, so it can be donated and saved.

    Attributes:
      step: int32, steps taken.
      tables: stack (`shared` or a task's name) -> table.
      net: parameters.
      moments: slot (`all`, or a task's name if `per_task`) -> moments.
    """

    step: Array
    tables: dict[str, embedding.Table]
    net: Params
    moments: dict[str, optim.Moments]


class Snapshot(NamedTuple):
    """What predictions need: the tables' rows and the net."""

    tables: dict[str, Array]
    net: Params


def features_of(setup: Setup, gathered: Mapping[str, Array], rows: Rows) -> Features:
    """Pools gathered embedding rows into what the model sees."""
    pooled = {
        stack: embedding.pool(setup.schema, part, rows.ids)
        for stack, part in gathered.items()
    }
    shared = pooled.pop(SHARED)
    return Features(shared, pooled, rows.numeric)


def features_like(setup: Setup, rows: int = 1) -> Features:
    """Features of a setup's shapes, all zero."""
    fields, numerics = len(setup.schema.fields), len(setup.schema.numeric)
    own = {task: jnp.zeros((rows, fields, dim)) for task, dim in setup.own_dims}
    shared = jnp.zeros((rows, fields, setup.dim))
    return Features(shared, own, jnp.zeros((rows, numerics)))


def init_net(setup: Setup, key: Key) -> Params:
    """The initial net; equal keys and architectures give equal nets."""
    return setup.model.init(key, features_like(setup))


def make_gates(
    setup: Setup, net: Params, task_masks: Mapping[str, Mask]
) -> dict[str, Params]:
    """Kind of step -> what it may move (see `Setup.moving`)."""
    gates = {
        kind: masks.gates(net, {name: task_masks[name] for name in names})
        for kind, names in setup.kinds.items()
    }
    if setup.moving == "leaky":
        gates = jax.tree.map(jnp.ones_like, gates)
    return gates


def dense_masks(setup: Setup, net: Params) -> dict[str, Mask | None]:
    """Task -> the mask that keeps everything; None where there are no masks."""
    return {n: masks.full(net, n) if setup.masked else None for n in setup.tasks}


def make_init(setup: Setup) -> Callable[[Key], TrainState]:
    """A compiled function from a key to the state training starts from."""
    # What only gradients depend on is set to one value, so that rows share the program.
    plain = dataclasses.replace(
        setup.structure(), conflict=None, positive_weights=(), precision="float32"
    )
    return _make_init(plain)


@functools.lru_cache(maxsize=64)
def _make_init(setup: Setup) -> Callable[[Key], TrainState]:
    # It runs once: on a CPU, compiling random draws well takes far longer than they do.
    quick = {"xla_backend_optimization_level": 0}
    options = quick if jax.default_backend() == "cpu" else None

    @functools.partial(jax.jit, compiler_options=options)
    def init(key: Key) -> TrainState:
        dims = {SHARED: setup.dim, **dict(setup.own_dims)}
        size = sharding.padded(embedding.vocabulary_rows(setup.schema), setup.mesh)
        tables = {
            stack: embedding.init(
                named(key, "table", stack),
                setup.schema,
                dim,
                setup.init_scale,
                setup.row_optimiser,
                size,
            )
            for stack, dim in dims.items()
        }
        net = init_net(setup, key)
        gates = make_gates(setup, net, dense_masks(setup, net))
        if setup.moving == "per_task":
            moments = {kind: optim.init(net, gate) for kind, gate in gates.items()}
        else:
            moments = {EVERY: optim.init(net, next(iter(gates.values())))}
        state = TrainState(jnp.zeros((), jnp.int32), tables, net, moments)
        return table_shards.constrain(setup.mesh, state)

    return init


def make_step(setup: Setup, kind: str) -> Callable[..., tuple]:
    """The step of one kind: step(state, masks, gates, batch) -> (state, losses).

    `masks` maps each task to its mask, `gates` is what this step may move.
    Losses are means over the rows that count. A batch without any moves nothing, nor
    does one whose losses or gradients are not finite: a loss says so (`guard`).
    """
    names, learned, mesh = setup.kinds[kind], setup.learned, setup.mesh
    row_optimiser, table_rate = setup.row_optimiser, setup.table_rate
    loss_names, weights = dict(setup.task_losses), dict(setup.task_weights)
    positives = dict(setup.positive_weights)
    slot = kind if setup.moving == "per_task" else EVERY

    def objective(net, gathered, task_masks, batch):
        features, means = features_of(setup, gathered, batch.rows), {}
        raw = outputs.forward(setup, net, task_masks, features, names)
        total = raw.aux_loss
        for name, logits in outputs.loss_logits(setup, raw.logits).items():
            weighted = setup.conflict and setup.conflict.task == name
            loss = losses.task_loss(
                learned[name],
                logits,
                batch,
                name=loss_names[name],
                weight=setup.conflict.row_weight(batch) if weighted else None,
                positive=positives.get(name, 1.0),
            )
            means[name] = loss.mean
            total += weights.get(name, 1.0) * loss.mean
        return total, means

    def step(state: TrainState, task_masks, gates, batch: Batch):
        if setup.spaces != "own":
            labels = spaces.with_joint(setup.schema, batch.rows.labels)
            batch = Batch(batch.rows._replace(labels=labels), batch.valid)
        inside = {n: learned[n].inside(batch.rows.labels) & batch.valid for n in names}
        inside[SHARED] = functools.reduce(jnp.logical_or, inside.values())
        stacks = [stack for stack in state.tables if stack in inside]
        # A row that no loss counts must not age the moments of its ids either.
        counted = {
            s: jnp.where(inside[s][:, None], batch.rows.ids, PADDING) for s in stacks
        }
        stacked = {
            s: embedding.stacked_ids(setup.schema, ids).reshape(-1)
            for s, ids in counted.items()
        }
        blocks = {
            s: table_shards.read(mesh, row_optimiser, state.tables[s], ids, table_rate)
            for s, ids in stacked.items()
        }
        gathered = {
            s: block.rows.reshape(*batch.rows.ids.shape, -1)
            for s, block in blocks.items()
        }
        (_, means), (net_gradient, row_gradients) = jax.value_and_grad(
            objective, argnums=(0, 1), has_aux=True
        )(state.net, gathered, task_masks, batch)
        # Without any id, as with closed gates, a step moves nothing.
        sound = guard.is_sound(means, (net_gradient, row_gradients))
        means = guard.flagged(means, sound)
        stacked = {
            s: jnp.where(sound, ids, embedding.NOWHERE) for s, ids in stacked.items()
        }
        any_row = sound & jnp.any(inside[SHARED])
        net, moments = optim.update(
            setup.adam,
            state.net,
            state.moments[slot],
            net_gradient,
            jax.tree.map(lambda gate: gate & any_row, gates),
        )
        tables = {
            s: table_shards.update(
                mesh,
                row_optimiser,
                state.tables[s],
                stacked[s],
                block,
                row_gradients[s].reshape(block.rows.shape),
                table_rate,
            )
            for s, block in blocks.items()
        }
        state = TrainState(
            state.step + 1,
            state.tables | tables,
            net,
            state.moments | {slot: moments},
        )
        return state, means

    return step


def take(rows: Rows, index: Array) -> Batch:
    """The batch of the rows numbered `index`; -1 is an empty slot."""
    safe = jnp.maximum(index, 0)
    return Batch(jax.tree.map(lambda column: column[safe], rows), index >= 0)


def place(setup: Setup, rows: Rows, orders: Orders) -> dict[str, Batch]:
    """Batches of rows on the host, where the setup's programs take them."""
    if setup.mesh is None:
        return gather(rows, orders)
    return sharding.split_epoch(setup.mesh, rows, orders)


@functools.lru_cache(maxsize=64)
def make_epoch(setup: Setup) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """epoch(state, masks, gates, rows, orders) -> (state, losses); donates state.

    Scans over the steps of an epoch; each takes one batch of every kind in turn.
    Setups that differ in `Setup.numbers` alone share its program.

    Args of the returned function:
      state: donated, so copy what you keep.
      masks: task -> mask.
      gates: kind of step -> gates (`make_gates`).
      rows: the training split, on the device; on the host for a mesh; None with
        batches.
      orders: kind -> int32 [steps, size] (`Plan.orders`), or the batches themselves
        (`place`). A mesh must divide sizes.

    Returns:
      The state, all rows of its tables up to date, and task -> float32 [steps] mean
      losses.
    """
    compiled = epoch_program(setup.structure())
    axes = (OWN, OWN, OWN, OWN, ROWS, OWN)
    program = lanes.Program(compiled, axes, donated=(1,))
    program = functools.partial(program, setup.numbers())
    mesh = setup.mesh
    if mesh is None:
        return program

    def on_mesh(state, task_masks, gates, rows, orders):
        task_masks, gates = sharding.copy_to_all(mesh, (task_masks, gates))
        batches = orders if rows is None else place(setup, rows, orders)
        return program(state, task_masks, gates, None, batches)

    return on_mesh


@functools.lru_cache(maxsize=64)
def epoch_program(structure: Setup) -> Callable[..., tuple]:
    """The compiled program of `make_epoch`: (numbers, state, masks, gates, …).

    Rows and orders follow; on a mesh, None and the batches on its devices
    (`sharding.split_epoch`).
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def epoch(numbers, state, task_masks, gates, rows, orders):
        setup = structure.with_numbers(numbers)
        steps = {kind: make_step(setup, kind) for kind in setup.kinds}

        def body(state, order):
            means = {}
            for kind, step in steps.items():
                batch = order[kind] if rows is None else take(rows, order[kind])
                state, loss = step(state, task_masks, gates[kind], batch)
                means |= loss
            return state, means

        state, means = jax.lax.scan(body, state, orders)
        tables = {
            stack: table_shards.settle(
                setup.mesh, setup.row_optimiser, table, setup.table_rate
            )
            for stack, table in state.tables.items()
        }
        state = table_shards.constrain(setup.mesh, state._replace(tables=tables))
        return state, sharding.shown(setup.mesh, means)

    return epoch


def make_predict(setup: Setup) -> Callable[..., dict[str, Array]]:
    """predict(snapshot, masks, rows, index) -> task -> predictions [index].

    Joint tasks too, as `outputs.predictions` names them. Rows are on the device or,
    as for a mesh, on the host; a mesh must divide the length of `index`.
    """
    compiled = predict_program(setup)
    program = lanes.Program(compiled.func, (OWN, OWN, OWN, ROWS, OWN))
    program = functools.partial(program, *compiled.args)
    mesh = setup.mesh

    def predict(snapshot, task_masks, rows, index):
        if mesh is None and isinstance(rows.ids, jax.Array):
            return program(snapshot, task_masks, rows, index)
        batch = place(setup, rows, {EVERY: index})[EVERY]
        return program(snapshot, sharding.copy_to_all(mesh, task_masks), None, batch)

    return predict


def predict_program(setup: Setup) -> functools.partial:
    """The compiled program of `make_predict`, with the setup's numbers put in.

    Setups that differ in these, or in what only training depends on, share it.
    """
    conflict = setup.conflict
    if conflict and not conflict.shifts(setup.schema.task(conflict.task)):
        conflict = None
    plain = dataclasses.replace(
        setup,
        conflict=conflict,
        moving="gated",
        summed=setup.summed and setup.needs_funnel,
        tables="sgd",
    )
    return functools.partial(_make_predict(plain.structure()), plain.numbers())


@functools.lru_cache(maxsize=64)
def _make_predict(structure: Setup) -> Callable[..., dict[str, Array]]:
    @jax.jit
    def predict(numbers, snapshot: Snapshot, task_masks, rows, index):
        setup = structure.with_numbers(numbers)
        mesh, batch = setup.mesh, index if rows is None else take(rows, index)
        ids = embedding.stacked_ids(setup.schema, batch.rows.ids)
        gathered = {
            stack: table_shards.gather(mesh, part, ids.reshape(-1)).reshape(
                *ids.shape, -1
            )
            for stack, part in snapshot.tables.items()
        }
        features = features_of(setup, gathered, batch.rows)
        raw = outputs.forward(setup, snapshot.net, task_masks, features, setup.tasks)
        return sharding.shown(mesh, outputs.predictions(setup, raw.logits))

    return predict


def predict_all(
    setup: Setup,
    snapshot: Snapshot,
    task_masks: Mapping[str, Mask],
    rows: Rows,
    chunk: int = 4096,
) -> dict[str, np.ndarray]:
    """Task, joint ones too -> float32 predictions for every row, in equal chunks."""
    predict, n = make_predict(setup), rows.num_rows
    chunk = sharding.padded(chunk, setup.mesh)
    parts = []
    for at in range(0, n, chunk):
        index = np.arange(at, at + chunk, dtype=np.int32)
        parts.append(
            predict(snapshot, task_masks, rows, np.where(index < n, index, -1))
        )
    return {
        name: np.concatenate([np.asarray(part[name]) for part in parts])[:n]
        for name in parts[0]
    }


def restart(setup: Setup, key: Key, snapshot: Snapshot) -> TrainState:
    """The state of `make_init` with a snapshot's parameters; empty moments.

    The snapshot may be of more tasks than the setup's: each part is taken by name.
    """
    state = make_init(setup)(key)
    tables = {
        stack: embedding.with_rows(table, snapshot.tables[stack])
        for stack, table in state.tables.items()
    }

    def part(path, _):
        found = snapshot.net
        for step in path:
            found = found[step.key]
        return jnp.copy(found)

    net = jax.tree_util.tree_map_with_path(part, state.net)
    return state._replace(tables=tables, net=net)


def snapshot_of(state: TrainState) -> Snapshot:
    """A copy that survives the donation of the state."""
    tables = {stack: table.rows for stack, table in state.tables.items()}
    return jax.tree.map(jnp.copy, Snapshot(tables, state.net))
