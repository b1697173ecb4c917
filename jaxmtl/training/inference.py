"""Predictions as one compiled program, for the trainings that share it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxmtl.data.batches import EVERY
from jaxmtl.devices import lanes, sharding
from jaxmtl.devices.lanes import OWN
from jaxmtl.devices.lanes import SHARED as ROWS
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training import outputs
from jaxmtl.training.feed import place, take
from jaxmtl.training.spec import NetSpec, Numbers, OutputSpec, Setup
from jaxmtl.training.train_state import Snapshot, features_of
from jaxmtl.types import Array, Mask, Rows


def make_predict(setup: Setup) -> Callable[..., dict[str, Array]]:
    """predict(snapshot, masks, rows, index) -> task -> predictions [index].

    Joint tasks too, as `outputs.predictions` names them. Rows are on the device or,
    as for a mesh, on the host; a mesh must divide the length of `index`.
    """
    compiled = predict_program(setup.spec.net, setup.spec.output)
    program = lanes.Program(compiled, (OWN, OWN, OWN, ROWS, OWN))
    program = functools.partial(program, _of_outputs(setup.numbers))
    mesh = setup.mesh

    def predict(snapshot, task_masks, rows, index):
        if mesh is None and isinstance(rows.ids, jax.Array):
            return program(snapshot, task_masks, rows, index)
        batch = place(setup, rows, {EVERY: index})[EVERY]
        return program(snapshot, sharding.copy_to_all(mesh, task_masks), None, batch)

    return predict


def _of_outputs(numbers: Numbers) -> Numbers:
    """The numbers that predictions depend on: other losses share their programs."""
    return Numbers({}, None, numbers.offsets)


@functools.lru_cache(maxsize=64)
def predict_program(net: NetSpec, output: OutputSpec) -> Callable[..., dict]:
    """The compiled program of `make_predict`: (numbers, snapshot, masks, rows, index).

    On a mesh, and for rows on the host, the last two are None and a batch.
    """

    @jax.jit
    def predict(numbers, snapshot: Snapshot, task_masks, rows, index):
        batch = index if rows is None else take(rows, index)
        ids = embedding.stacked_ids(net.schema, batch.rows.ids)
        gathered = {
            stack: table_shards.gather(net.mesh, part, ids.reshape(-1)).reshape(
                *ids.shape, -1
            )
            for stack, part in snapshot.tables.items()
        }
        features = features_of(net, gathered, batch.rows)
        raw = outputs.forward(
            net, output, snapshot.net, task_masks, features, net.tasks
        )
        found = outputs.predictions(net.schema, output, numbers, raw.logits)
        return sharding.shown(net.mesh, found)

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
    task_masks = sharding.copy_to_all(setup.mesh, task_masks)
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
