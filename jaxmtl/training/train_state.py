"""What training changes, how it begins, and what of it predictions need."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl import optim
from jaxmtl.data.batches import EVERY
from jaxmtl.devices import sharding
from jaxmtl.keys import named
from jaxmtl.sparsity import masks
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training.setup import SHARED, Setup
from jaxmtl.types import Array, Features, Key, Mask, Params, Rows


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


def net_shapes(setup: Setup) -> Params:
    """The shapes of `init_net`; nothing is drawn, and equal structures trace once."""
    return _init_net.eval_shape(setup.structure(), jax.random.key(0))


_init_net = jax.jit(init_net, static_argnums=0)


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
    return Snapshot(tables, jax.tree.map(jnp.copy, state.net))
