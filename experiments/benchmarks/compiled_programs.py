"""The programs that studies run, with arguments that are only shapes.

Each is built as a study builds it, from a row's configuration and a schema, but for
devices that are only described, and no log is read: rows and batches are shapes too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from experiments.benchmarks.compiled_targets import Target
from experiments.settings import ablation, sections
from experiments.settings.ablation import Preset
from experiments.settings.config import Config
from experiments.settings.setup import make_setup, task_names
from jaxmtl import discovery
from jaxmtl.data.sources import video_feed
from jaxmtl.data.store import Dataset
from jaxmtl.devices import sharding
from jaxmtl.devices.sharding import AXIS, COPIED
from jaxmtl.sparsity import masks, pruning
from jaxmtl.tables import embedding, row_optim, table_shards
from jaxmtl.training.inference import predict_program
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import epoch_program
from jaxmtl.training.train_state import (
    TrainState,
    dense_masks,
    init_shapes,
    make_gates,
    snapshot_of,
)
from jaxmtl.types import (
    IMPRESSION,
    Batch,
    Field,
    Mask,
    Rows,
    Schema,
    Task,
    Vocabulary,
)

STEPS = 251
"""Of an epoch; a prime number, so that no other loop runs as often."""
ROWS = 2**20
"""Of the training split, which one device holds whole."""
PART = 4
"""Of so many rows one is inside the space of another task: the size of its batches."""
UPDATE = "update_"
"""Begins the names of the updates of a table alone."""
DIM, SLOTS = 32, 20
"""Of tables that are updated alone: their width, and ids a row."""


class Scale(NamedTuple):
    """How large programs are.

    Attributes:
      preset: of rows.
      batch: rows a step and device, of several devices.
      batch_of_one: rows a step of one device.
    """

    preset: Preset
    batch: int
    batch_of_one: int

    def rows(self, target: Target) -> int:
        """Rows a step and device."""
        return self.batch_of_one if target.devices == 1 else self.batch


SCALES = {"full": Scale("paper", 1024, 8192), "quick": Scale("demo", 64, 512)}


class Program(NamedTuple):
    """What is compiled, and what its text is searched for.

    Attributes:
      function: jitted.
      args: its arguments, as shapes on their devices.
      steps: how often its step's loop runs; 0 = all of it is one step.
      tables: sizes on one device of what has a line an id.
      lookups: ids that a step looks up, over all devices.
      batch: rows a step and device; 0 where it takes none.
    """

    function: Any
    args: tuple
    steps: int = 0
    tables: tuple[tuple[int, ...], ...] = ()
    lookups: int = 0
    batch: int = 0

    def lower(self, platform: str) -> jax.stages.Lowered:
        """The program in the form that a platform's compiler takes."""
        traced = self.function.trace(*self.args)
        return traced.lower(lowering_platforms=(platform,))


def train(name: str, target: Target, ids: int, scale: Scale) -> Program:
    """An epoch of a row's joint training (`train.make_epoch`)."""
    _, setup = row_setup(name, schema_of(name, ids), scale.preset)
    setup, batch = target.place(setup), scale.rows(target)
    state, task_masks, gates, rows, orders = epoch_shapes(setup, batch)
    state = _state_on(target, setup, state)
    return Program(
        epoch_program(setup.spec),
        (
            setup.numbers,
            state,
            *_on(target, (task_masks, gates, rows)),
            _on(target, orders, PartitionSpec(None, AXIS)),
        ),
        STEPS,
        _sizes(state.tables),
        setup.schema.slots * batch * target.devices,
        batch,
    )


def epoch_shapes(setup: Setup, batch: int) -> tuple:
    """What the program of an epoch takes, beside numbers, as shapes on no device.

    Args:
      setup: of the training.
      batch: rows a step and device.
    """
    state, devices = init_shapes(setup), setup.mesh.size if setup.mesh else 1
    task_masks = _dense_masks(setup, state.net)
    gates = jax.eval_shape(functools.partial(make_gates, setup), state.net, task_masks)
    rows, orders = None if setup.mesh else _rows(setup.schema, (ROWS,)), {}
    for kind in setup.kinds:
        task = setup.learned.get(kind)  # None: all rows
        part = PART if task and task.space != IMPRESSION else 1
        size = batch // part * devices
        orders[kind] = (
            jax.ShapeDtypeStruct((STEPS, size), "int32")
            if rows
            else _batch_of(setup.schema, STEPS, size)
        )
    return state, task_masks, gates, rows, orders


def predict(name: str, target: Target, ids: int, scale: Scale) -> Program:
    """The predictions of a row's net for one batch."""
    _, setup = row_setup(name, schema_of(name, ids), scale.preset)
    setup, batch = target.place(setup), scale.rows(target)
    snapshot = jax.eval_shape(snapshot_of, init_shapes(setup))
    of_tasks = jax.eval_shape(
        lambda net: dense_masks(setup.spec.net, net), snapshot.net
    )
    if target.devices == 1:
        rows = _rows(setup.schema, (ROWS,))
        index = jax.ShapeDtypeStruct((batch,), "int32")
    else:
        rows, index = None, _batch_of(setup.schema, batch * target.devices)
    snapshot = _state_on(target, setup, snapshot)
    return Program(
        predict_program(setup.spec.net, setup.spec.output),
        (
            setup.numbers._replace(positive_weights={}, conflict_factor=None),
            snapshot,
            *_on(target, (of_tasks, rows)),
            _on(target, index, PartitionSpec(AXIS)),
        ),
        tables=_sizes(snapshot.tables),
        lookups=setup.schema.slots * batch * target.devices,
        batch=batch,
    )


def prune(name: str, target: Target, ids: int, scale: Scale) -> Program:
    """A round's pruning of a row's net, for one task; all devices do the same."""
    config, setup = row_setup(name, schema_of(name, ids), scale.preset)
    finder = discovery.make(sections.chosen(config.pruning.finder))
    of_neuron = finder.of_neuron if config.pruning.unit == "neuron" else None

    def scores_of(net) -> tuple[Any, Mask]:
        mask = masks.full(net, setup.tasks[0])
        return finder.score(net, mask, gradients=None, key=jax.random.key(0)), mask

    @jax.jit
    def select(scores, mask, keep):
        scope = config.pruning.scope
        return pruning.select(scores, mask, keep, scope, of_neuron)

    scores, mask = jax.eval_shape(scores_of, init_shapes(setup).net)
    keep = jax.ShapeDtypeStruct((), "int32")
    return Program(select, _on(target, (scores, mask, keep)))


def update(name: row_optim.Name, target: Target, ids: int, scale: Scale) -> Program:
    """Steps that read and update a table's rows, and do nothing else."""
    mesh, batch = target.mesh(), scale.rows(target)
    optimiser = row_optim.make(name, b1=0.9, b2=0.999, eps=1e-8)
    size = sharding.padded(ids, mesh)
    table = jax.eval_shape(
        lambda: embedding.make_table(optimiser, jnp.zeros((size, DIM)), target.layout)
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def updates(table, ids, rate):
        def body(table, ids):
            block = table_shards.read(mesh, optimiser, table, ids, rate)
            # As the loss |rows|² / 2 would have it.
            return table_shards.update(
                mesh, optimiser, table, ids, block, block.rows, rate
            ), None

        return jax.lax.scan(body, table, ids)[0]

    lookups = batch * SLOTS * target.devices
    table = _split(target, table)
    return Program(
        updates,
        (
            table,
            _on(
                target,
                jax.ShapeDtypeStruct((STEPS, lookups), "int32"),
                PartitionSpec(None, AXIS),
            ),
            _on(target, jax.ShapeDtypeStruct((), "float32")),
        ),
        STEPS,
        _sizes(table),
        lookups,
        batch,
    )


ROWS_TRAINED = ("lt4rec.s_weight", "dcrnn.mmoe", "dcrnn.bilstm_ada")
MAKERS: dict[str, Callable[..., Program]] = {
    **{name: functools.partial(train, name) for name in ROWS_TRAINED},
    "predict": functools.partial(predict, "lt4rec.s_weight"),
    "prune_weights": functools.partial(prune, "lt4rec.s_weight"),
    "prune_neurons": functools.partial(prune, "lt4rec.s_neuron"),
    **{UPDATE + n: functools.partial(update, n) for n in get_args(row_optim.Name)},
}
"""Name -> maker of a program, from its target, its number of ids and its scale."""


@functools.cache
def _feed_schema() -> Schema:
    config = video_feed.FeedConfig(users=60, videos=60, impressions=600, days=4)
    return video_feed.make_feed(config).schema


def schema_of(name: str, ids: int) -> Schema:
    """Of a row's log: the feed's for LT4REC, of 20 fields of one id each for DCRNN.

    Args:
      name: of the row.
      ids: over all vocabularies.
    """
    if name.startswith("lt4rec."):
        schema = _feed_schema()
        sizes = {v.name: v.size for v in schema.vocabularies}
        rest = ids - sum(n for v, n in sizes.items() if v not in ("user", "video"))
        sizes |= {"user": rest // 2, "video": rest - rest // 2}
        vocabularies = tuple(Vocabulary(*pair) for pair in sizes.items())
        return dataclasses.replace(schema, vocabularies=vocabularies)
    names = [f"field{number:02d}" for number in range(SLOTS)]
    return Schema(
        name="fields",
        fields=tuple(Field(name, name) for name in names),
        vocabularies=tuple(Vocabulary(name, ids // SLOTS) for name in names),
        tasks=(Task("click"), Task("buy", space="click")),
        ctr="click",
        cvr="buy",
        user=names[0],
        item=names[1],
    )


def row_setup(name: str, schema: Schema, preset: Preset) -> tuple[Config, Setup]:
    """A row's configuration, and its training on a log of a schema."""
    row = ablation.load(name)
    config = row.configure(ablation.set_up(name, preset))
    if hasattr(row, "resize"):
        config = row.resize(config, schema)
    ones = np.ones(PART, np.float32)
    rows = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _rows(schema, (PART,)))
    rows = rows._replace(labels={task.name: ones / PART for task in schema.tasks})
    data = Dataset(schema, {"train": rows}, {}, (), "")
    return config, make_setup(config, data, task_names(config, schema))


def _dense_masks(setup: Setup, net: Any) -> Any:
    return jax.eval_shape(functools.partial(dense_masks, setup.spec.net), net)


def _rows(schema: Schema, lead: tuple[int, ...]) -> Rows:
    """The shapes of columns, of what programs read."""
    column = lambda *width: jax.ShapeDtypeStruct((*lead, *width), "float32")
    extras = [name for name in schema.extras if name == "duration"]
    return Rows(
        jax.ShapeDtypeStruct((*lead, schema.slots), "int32"),
        column(len(schema.numeric)),
        {task.name: column() for task in schema.tasks},
        {name: column() for name in extras},
        {},
    )


def _batch_of(schema: Schema, *lead: int) -> Batch:
    return Batch(_rows(schema, lead), jax.ShapeDtypeStruct(lead, "bool"))


def _on(target: Target, tree: Any, spec: PartitionSpec = COPIED) -> Any:
    """Shapes on a target's devices, all split alike."""
    mesh = target.mesh()
    if mesh is None:
        place: Sharding = SingleDeviceSharding(target.described()[0])
    else:
        place = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: x.update(sharding=place), tree)


def _split(target: Target, table: embedding.Table) -> embedding.Table:
    lines = lambda x: _on(target, x, PartitionSpec(AXIS) if x.ndim else COPIED)
    return jax.tree.map(lines, table)


def _state_on(target: Target, setup: Setup, state: Any) -> TrainState:
    """A state or a snapshot on a target's devices, split as trainings split it."""
    if setup.mesh is None:
        return _on(target, state)
    places = table_shards.shardings(setup.mesh, state)
    return jax.tree.map(lambda x, place: x.update(sharding=place), state, places)


def _sizes(tables: Any) -> tuple[tuple[int, ...], ...]:
    """The sizes on one device of the arrays that have a line an id."""
    parts = (x.sharding.shard_shape(x.shape) for x in jax.tree.leaves(tables))
    return tuple(sorted({part for part in parts if part}))
