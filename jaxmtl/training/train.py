"""Training as pure programs: a step, and an epoch in one scan.

`Setup` holds all that a program depends on besides the shapes of its arguments;
setups that are equal but for their numbers share one compiled program. Those, masks
and gates are arguments: the rounds of a ticket search, all masks of an ablation and
the learning rates that a tuner tries run through it unchanged.

On a mesh (`Setup.mesh`) the same step runs with its batch and its tables split over
devices, the rest copied (`jaxmtl.devices.sharding`). Rows then stay on the host, from where
each process takes the part of a batch that its own devices need.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl import optim
from jaxmtl.data.batches import EVERY
from jaxmtl.devices import lanes, sharding
from jaxmtl.devices.lanes import OWN
from jaxmtl.devices.lanes import SHARED as ROWS
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training import guard, outputs
from jaxmtl.training.feed import place, take
from jaxmtl.training.setup import SHARED, Setup
from jaxmtl.training.train_state import TrainState, features_of
from jaxmtl.types import PADDING, Array, Batch


def make_step(setup: Setup, kind: str) -> Callable[..., tuple]:
    """The step of one kind: step(state, masks, gates, batch) -> (state, losses).

    `masks` maps each task to its mask, `gates` is what this step may move.
    Losses are means over the rows that count. A batch without any moves nothing, nor
    does one whose losses or gradients are not finite: a loss says so (`guard`).
    """
    names, learned = setup.kinds[kind], setup.learned
    slot = kind if setup.moving == "per_task" else EVERY
    differentiate = jax.value_and_grad(
        _make_objective(setup, names), argnums=(0, 1), has_aux=True
    )

    def step(state: TrainState, task_masks, gates, batch: Batch):
        batch = outputs.with_joint(setup, batch)
        inside = {n: learned[n].inside(batch.rows.labels) & batch.valid for n in names}
        inside[SHARED] = functools.reduce(jnp.logical_or, inside.values())
        read = _read_tables(setup, state.tables, batch.rows.ids, inside)
        gathered = {
            s: part.block.rows.reshape(*batch.rows.ids.shape, -1)
            for s, part in read.items()
        }
        (_, means), (net_gradient, row_gradients) = differentiate(
            state.net, gathered, task_masks, batch
        )
        # Without any id, as with closed gates, a step moves nothing.
        sound = guard.is_sound(means, (net_gradient, row_gradients))
        means = guard.flagged(means, sound)
        any_row = sound & jnp.any(inside[SHARED])
        net, moments = optim.update(
            setup.adam,
            state.net,
            state.moments[slot],
            net_gradient,
            jax.tree.map(lambda gate: gate & any_row, gates),
        )
        state = TrainState(
            state.step + 1,
            state.tables
            | _write_tables(setup, state.tables, read, row_gradients, sound),
            net,
            state.moments | {slot: moments},
        )
        return state, means

    return step


def _make_objective(setup: Setup, names: Sequence[str]) -> Callable[..., tuple]:
    """(net, gathered rows, masks, batch) -> (weighted sum of losses, each task's)."""
    weights = dict(setup.task_weights)

    def objective(net, gathered, task_masks, batch):
        features, means = features_of(setup, gathered, batch.rows), {}
        raw = outputs.forward(setup, net, task_masks, features, names)
        total = 0.0
        if aux_loss := setup.model.aux_loss:
            total += aux_loss(outputs.calibrate(setup, raw.logits), batch.valid)
        for name, logits in outputs.loss_logits(setup, raw.logits).items():
            means[name] = outputs.mean_loss(setup, name, logits, batch)
            total += weights.get(name, 1.0) * means[name]
        return total, means

    return objective


class _Read(NamedTuple):
    """The places of a stack that a batch reads, and what stands there."""

    places: Array
    block: embedding.Block


def _read_tables(
    setup: Setup,
    tables: Mapping[str, embedding.Table],
    ids: Array,
    inside: Mapping[str, Array],
) -> dict[str, _Read]:
    """Reads the stacks of the tasks at hand.

    Args:
      setup: of the training.
      tables: stack -> table.
      ids: int32 [batch, slots].
      inside: stack -> bool [batch], rows that one of its losses counts.
    """
    # A row that no loss counts must not age the moments of its ids either.
    places = {
        stack: embedding.stacked_ids(
            setup.schema, jnp.where(inside[stack][:, None], ids, PADDING)
        ).reshape(-1)
        for stack in tables
        if stack in inside
    }
    read = functools.partial(table_shards.read, setup.mesh, setup.row_optimiser)
    return {
        stack: _Read(at, read(tables[stack], at, setup.table_rate))
        for stack, at in places.items()
    }


def _write_tables(
    setup: Setup,
    tables: Mapping[str, embedding.Table],
    read: Mapping[str, _Read],
    gradients: Mapping[str, Array],
    sound: Array,
) -> dict[str, embedding.Table]:
    """The stacks that were read, one step further; unmoved where `sound` is False."""
    return {
        stack: table_shards.update(
            setup.mesh,
            setup.row_optimiser,
            tables[stack],
            jnp.where(sound, places, embedding.NOWHERE),
            block,
            gradients[stack].reshape(block.rows.shape),
            setup.table_rate,
        )
        for stack, (places, block) in read.items()
    }


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
