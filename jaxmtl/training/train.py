"""Training as pure programs: a step, and an epoch in one scan.

A spec (`jaxmtl.training.spec`) holds all that a program depends on besides the shapes
of its arguments. Numbers, masks and gates are arguments, rates lie in the state: the
rounds of a ticket search, all masks of an ablation and the learning rates that a tuner
tries run through one program unchanged.

On a mesh (`NetSpec.mesh`) the same step runs with its batch and its tables split over
devices, the rest copied (`jaxmtl.devices.sharding`). Rows then stay on the host, from
where each process takes the part of a batch that its own devices need.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxmtl import discovery
from jaxmtl.data.batches import EVERY
from jaxmtl.devices import lanes, sharding
from jaxmtl.devices.lanes import OWN
from jaxmtl.devices.lanes import SHARED as ROWS
from jaxmtl.optim import chain
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training import guard, outputs
from jaxmtl.training.feed import place, take
from jaxmtl.training.spec import SHARED, Numbers, Setup, TrainSpec
from jaxmtl.training.train_state import (
    OptState,
    Rates,
    TrainState,
    features_of,
    make_optimiser,
)
from jaxmtl.types import PADDING, Array, Batch


def make_step(spec: TrainSpec, kind: str) -> Callable[..., tuple]:
    """The step of a kind: step(state, numbers, masks, gates, batch) -> (state, losses).

    `masks` maps each task to its mask, `gates` is what this step may move.
    Losses are means over the rows that count. A batch without any moves nothing, nor
    does one whose losses or gradients are not finite: a loss says so (`guard`).
    """
    names, how = spec.kinds[kind], spec.step
    slot = kind if how.moving == "per_task" else EVERY
    balancer, schedule = discovery.make(how.balancer), discovery.make(how.schedule)

    def step(state: TrainState, numbers: Numbers, task_masks, gates, batch: Batch):
        batch = outputs.with_joint(spec, batch)
        counts = _rows_that_count(spec, names, batch)
        rates = _scaled(state.opt.rates, schedule(state.opt.sound))
        blocks = _read_tables(spec, state.tables, names, batch, counts, rates)
        gathered = {
            stack: block.rows.reshape(*batch.rows.ids.shape, -1)
            for stack, block in blocks.items()
        }

        def losses_of(net, gathered):
            features = features_of(spec.net, gathered, batch.rows)
            raw = outputs.forward(
                spec.net, spec.output, net, task_masks, features, names
            )
            return outputs.losses_of(spec, numbers, raw.logits, batch)

        (losses, own), pull_all = jax.vjp(losses_of, state.net, gathered)

        def pull(weights, rest=1.0):
            rest = jnp.full_like(own, rest)
            weights = {n: jnp.asarray(w, losses[n].dtype) for n, w in weights.items()}
            if set(weights) == set(names):
                return pull_all((weights, rest))
            # Each task's pass through the net alone: a cotangent of zero would cost as
            # much as another. XLA computes the forward passes but once.
            some = lambda *at: _only(weights, *losses_of(*at))
            return jax.vjp(some, state.net, gathered)[1]((weights, rest))

        (net_gradient, row_gradients), balance, _ = balancer.combine(
            losses,
            pull,
            state.balance,
            masks={name: task_masks[name] for name in names},
            counts={name: jnp.sum(counts[name]) for name in names},
            step=state.step,
            learning_rate=rates.learning_rate,
        )
        # Without any id, as with closed gates, a step moves nothing.
        sound = guard.is_sound(losses, (net_gradient, row_gradients))
        moves = sound & jnp.any(counts[SHARED])
        gates = jax.tree.map(lambda gate: gate & moves, gates)
        updates, moments = make_optimiser(how, gates).update(
            net_gradient,
            state.opt.slots[slot],
            state.net,
            gates=gates,
            **rates._asdict(),
        )
        net = chain.apply_updates(state.net, updates, gates)
        if balancer.after is not None:
            balance = balancer.after(balance, losses, losses_of(net, gathered)[0])
        tables = _write_tables(
            spec, state.tables, blocks, row_gradients, batch, counts, sound, rates
        )
        opt = OptState(
            state.opt.rates,
            state.opt.sound + moves,
            state.opt.slots | {slot: moments},
        )
        kept = lambda new, old: jnp.where(moves, new, old).astype(old.dtype)
        balance = jax.tree.map(kept, balance, state.balance)
        state = state._replace(
            step=state.step + 1, tables=tables, net=net, opt=opt, balance=balance
        )
        return state, guard.flagged(losses, sound)

    return step


def _only(names, losses: Mapping[str, Array], own: Array) -> tuple:
    return {name: losses[name] for name in names}, own


def _scaled(rates: Rates, factor: Array) -> Rates:
    """Today's rates; a decoupled decay falls with the learning rate it multiplies."""
    return rates._replace(
        learning_rate=rates.learning_rate * factor,
        table_learning_rate=rates.table_learning_rate * factor,
    )


def _rows_that_count(
    spec: TrainSpec, names: tuple[str, ...], batch: Batch
) -> dict[str, Array]:
    """Stack -> bool [batch]: the rows that one of its losses counts."""
    inside = {
        name: spec.learned[name].inside(batch.rows.labels) & batch.valid
        for name in names
    }
    return inside | {SHARED: functools.reduce(jnp.logical_or, inside.values())}


def _ids(spec: TrainSpec, batch: Batch, counts: Array) -> Array:
    """int32 [batch · slots]: places in a stack; nowhere for rows that no loss counts.

    Such a row must not age the moments of its ids either.
    """
    ids = jnp.where(counts[:, None], batch.rows.ids, PADDING)
    return embedding.stacked_ids(spec.net.schema, ids).reshape(-1)


def _read_tables(
    spec: TrainSpec,
    tables: Mapping[str, embedding.Table],
    names: tuple[str, ...],
    batch: Batch,
    counts: Mapping[str, Array],
    rates: Rates,
) -> dict[str, embedding.Block]:
    """Reads the stacks that the logits of the tasks at hand depend on."""
    read = spec.net.model.stacks_read(tuple(tables), names)
    ids = _ids(spec, batch, counts[SHARED])
    return {
        stack: table_shards.read(
            spec.net.mesh,
            spec.step.row_optimiser,
            tables[stack],
            ids,
            rates.table_learning_rate,
        )
        for stack in read
    }


def _write_tables(
    spec: TrainSpec,
    tables: Mapping[str, embedding.Table],
    blocks: Mapping[str, embedding.Block],
    gradients: Mapping[str, Array],
    batch: Batch,
    counts: Mapping[str, Array],
    sound: Array,
    rates: Rates,
) -> dict[str, embedding.Table]:
    """The tables, one step further: of the stacks that were read those that are
    shared or a task's at hand; unmoved where `sound` is False."""
    moved = {}
    for stack in (stack for stack in blocks if stack in counts):
        ids = _ids(spec, batch, counts[stack])
        moved[stack] = table_shards.update(
            spec.net.mesh,
            spec.step.row_optimiser,
            tables[stack],
            jnp.where(sound, ids, embedding.NOWHERE),
            blocks[stack],
            gradients[stack].reshape(blocks[stack].rows.shape),
            rates.table_learning_rate,
        )
    return dict(tables) | moved


def make_epoch(setup: Setup) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """epoch(state, masks, gates, rows, orders) -> (state, losses); donates state.

    Scans over the steps of an epoch; each takes one batch of every kind in turn.

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
    axes = (OWN, OWN, OWN, OWN, ROWS, OWN)
    program = lanes.Program(epoch_program(setup.spec), axes, donated=(1,))
    program = functools.partial(program, setup.numbers)
    mesh = setup.mesh
    if mesh is None:
        return program

    def on_mesh(state, task_masks, gates, rows, orders):
        task_masks, gates = sharding.copy_to_all(mesh, (task_masks, gates))
        batches = orders if rows is None else place(setup, rows, orders)
        return program(state, task_masks, gates, None, batches)

    return on_mesh


@functools.lru_cache(maxsize=64)
def epoch_program(spec: TrainSpec) -> Callable[..., tuple]:
    """The compiled program of `make_epoch`: (numbers, state, masks, gates, …).

    Rows and orders follow; on a mesh, None and the batches on its devices
    (`sharding.split_epoch`).
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def epoch(numbers, state, task_masks, gates, rows, orders):
        steps = {kind: make_step(spec, kind) for kind in spec.kinds}

        def body(state, order):
            means = {}
            for kind, step in steps.items():
                batch = order[kind] if rows is None else take(rows, order[kind])
                state, loss = step(state, numbers, task_masks, gates[kind], batch)
                means |= loss
            return state, means

        state, means = jax.lax.scan(body, state, orders)
        schedule = discovery.make(spec.step.schedule)
        rate = _scaled(state.opt.rates, schedule(state.opt.sound)).table_learning_rate
        mesh, optimiser = spec.net.mesh, spec.step.row_optimiser
        tables = {
            stack: table_shards.settle(mesh, optimiser, table, rate)
            for stack, table in state.tables.items()
        }
        state = table_shards.constrain(mesh, state._replace(tables=tables))
        return state, sharding.shown(mesh, means)

    return epoch
