"""What training changes, how it begins, and what of it predictions need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxmtl import discovery
from jaxmtl.balancing.methods.fixed import Fixed
from jaxmtl.data.batches import EVERY
from jaxmtl.keys import named
from jaxmtl.layers.pooling import pool
from jaxmtl.optim import chain
from jaxmtl.sparsity import masks
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training.spec import SHARED, NetSpec, Setup, Start, StepSpec
from jaxmtl.types import Array, Features, Key, Mask, Params, Rows


class Rates(NamedTuple):
    """The base rates of a training, float32 scalars; a schedule multiplies them."""

    learning_rate: Array
    table_learning_rate: Array
    weight_decay: Array


class OptState(NamedTuple):
    """What the net's optimiser remembers.

    Attributes:
      rates: base rates.
      sound: int32, the steps that moved something; what a schedule counts.
      slots: slot (`all`, or a task's name if `per_task`) -> moments and counts.
    """

    rates: Rates
    sound: Array
    slots: dict[str, Any]


class TrainState(NamedTuple):
    """All that training changes; arrays only, so it can be donated and saved.

    Attributes:
      step: int32, steps taken.
      tables: stack (`shared` or a task's name) -> table.
      net: parameters.
      opt: rates, moments and counts of the net's optimiser.
      balance: of the balancer.
      extra: name -> tree, what a hook between steps keeps (`jaxmtl.training.fit`),
        such as a finder that moves masks (`jaxmtl.training.mask_moves`); empty without.
    """

    step: Array
    tables: dict[str, embedding.Table]
    net: Params
    opt: OptState
    balance: Any
    extra: dict[str, Any]


class Snapshot(NamedTuple):
    """What predictions need: the tables' rows and the net."""

    tables: dict[str, Array]
    net: Params


def features_of(net: NetSpec, gathered: Mapping[str, Array], rows: Rows) -> Features:
    """Pools gathered embedding rows into what the model sees."""
    pooled = {
        stack: pool(net.schema, part, rows.ids) for stack, part in gathered.items()
    }
    shared = pooled.pop(SHARED)
    return Features(shared, pooled, rows.numeric)


def features_like(net: NetSpec, rows: int = 1) -> Features:
    """Features of a net's shapes, all zero."""
    fields, numerics = len(net.schema.fields), len(net.schema.numeric)
    own = {task: jnp.zeros((rows, fields, dim)) for task, dim in net.own_dims}
    shared = jnp.zeros((rows, fields, net.dim))
    return Features(shared, own, jnp.zeros((rows, numerics)))


def init_net(net: NetSpec, key: Key) -> Params:
    """The initial net; equal keys and architectures give equal nets."""
    return net.model.init(key, features_like(net))


def net_shapes(setup: Setup) -> Params:
    """The shapes of `init_net`; nothing is drawn, and equal specs trace once."""
    return _init_net.eval_shape(setup.spec.net, jax.random.key(0))


_init_net = jax.jit(init_net, static_argnums=0)


def make_gates(
    setup: Setup, net: Params, task_masks: Mapping[str, Mask]
) -> dict[str, Params]:
    """Kind of step -> what it may move (see `StepSpec.moving`)."""
    gates = {
        kind: masks.gates(net, {name: task_masks[name] for name in names})
        for kind, names in setup.kinds.items()
    }
    if setup.moving == "leaky":
        gates = jax.tree.map(jnp.ones_like, gates)
    return gates


def dense_masks(spec: NetSpec, net: Params) -> dict[str, Mask | None]:
    """Task -> the mask that keeps everything; None where there are no masks."""
    return {n: masks.full(net, n) if spec.masked else None for n in spec.tasks}


def make_optimiser(step: StepSpec, gates: Params):
    """The net's optimiser, for gates of these shapes (`jaxmtl.optim.chain`)."""
    counted = jax.tree.map(lambda gate: jnp.ndim(gate) > 0, gates)
    return chain.make(discovery.make(step.optimiser), counted, clip=step.clip)


def make_init(setup: Setup) -> Callable[[Key], TrainState]:
    """A compiled function from a key to the state training starts from.

    It raises a ValueError where the balancer needs what the net has not.
    """
    spec = setup.spec
    named_losses = () if spec.step.balancer == Fixed() else spec.loss.names
    return functools.partial(_make_init(spec.net, spec.step, named_losses), setup.start)


def init_shapes(setup: Setup) -> TrainState:
    """The shapes of what `make_init` makes; nothing is drawn."""
    program = make_init(setup)  # a jit with options of its own cannot be nested
    return program.func.eval_shape(*program.args, jax.random.key(0))


@functools.lru_cache(maxsize=64)
def _make_init(
    net: NetSpec, step: StepSpec, named_losses: tuple[tuple[str, str], ...]
) -> Callable[[Start, Key], TrainState]:
    """`named_losses` are for balancers that weigh losses by their kind."""
    # It runs once: on a CPU, compiling random draws well takes far longer than they do.
    quick = {"xla_backend_optimization_level": 0}
    options = quick if jax.default_backend() == "cpu" else None

    @functools.partial(jax.jit, compiler_options=options)
    def init(start: Start, key: Key) -> TrainState:
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
        dims = {SHARED: net.dim, **dict(net.own_dims)}
        tables = {
            stack: embedding.init(
                named(key, "table", stack),
                net.schema,
                dim,
                start.init_scale,
                step.row_optimiser,
                net.table_layout,
                net.mesh.size if net.mesh else 1,
            )
            for stack, dim in dims.items()
        }
        params = init_net(net, key)
        dense = dense_masks(net, params)
        gates = {
            kind: masks.gates(params, {name: dense[name] for name in names})
            for kind, names in step.kinds(net.tasks).items()
        }
        slots = list(gates) if step.moving == "per_task" else [EVERY]
        any_gates = next(iter(gates.values()))  # of one shape, whichever are closed
        optimiser = make_optimiser(step, any_gates)
        rates = Rates(
            start.learning_rate, start.table_learning_rate, start.weight_decay
        )
        balancer = discovery.make(step.balancer)
        is_apart = not jax.tree.leaves(params["shared"])
        if balancer.needs_shared and is_apart and len(net.tasks) > 1:
            raise ValueError(
                f"the balancer {discovery.name_of(step.balancer)} works on the part of"
                f" the net that tasks share, and {discovery.name_of(net.architecture)}"
                f" with the crossing {net.crossing.kind} has none; use an architecture"
                " with a shared part, or the balancer fixed"
            )
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            tables=tables,
            net=params,
            opt=OptState(
                rates,
                jnp.zeros((), jnp.int32),
                {slot: optimiser.init(params) for slot in slots},
            ),
            balance=balancer.init(
                dict.fromkeys(net.tasks, "log") | dict(named_losses),
                jax.random.key_data(named(key, "balance")),  # arrays can be saved
                start.task_weights,
            ),
            extra={},
        )
        return table_shards.constrain(net.mesh, state)

    return init


def restart(setup: Setup, key: Key, snapshot: Snapshot) -> TrainState:
    """The state of `make_init` with a snapshot's parameters; empty moments.

    The snapshot may be of more tasks than the setup's: each part is taken by name.
    Rates and weights are those of the setup.

    Raises:
      ValueError: a part has another shape there (the net depends on its tasks), or
        another type.
    """
    state = make_init(setup)(key)
    tables = {
        stack: embedding.with_rows(table, snapshot.tables[stack])
        for stack, table in state.tables.items()
    }

    def part(path, like):
        found = snapshot.net
        for step in path:
            found = found[step.key]
        if found.shape != like.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"{name} of the snapshot is {found.shape}, here it is {like.shape}; go"
                f" on from a net built for the same tasks ({', '.join(setup.tasks)})"
            )
        return jnp.copy(found)

    net = jax.tree_util.tree_map_with_path(part, state.net)
    try:
        chex.assert_trees_all_equal_dtypes(net, state.net)
    except AssertionError as error:
        raise ValueError(f"the snapshot is of another precision: {error}") from error
    return state._replace(tables=tables, net=net)


def snapshot_of(state: TrainState) -> Snapshot:
    """A copy that survives the donation of the state."""
    tables = {stack: table.rows for stack, table in state.tables.items()}
    return Snapshot(tables, jax.tree.map(jnp.copy, state.net))
