"""The gradient of a task's mean loss at a snapshot, for finders that score by it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.chunks import read_chunks
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.devices import sharding
from jaxmtl.tables import embedding, table_shards
from jaxmtl.training import outputs
from jaxmtl.training.feed import place, take
from jaxmtl.training.spec import Setup, TrainSpec
from jaxmtl.training.train_state import Snapshot, features_of
from jaxmtl.types import Mask, Params, Rows


def mean_gradient(
    setup: Setup,
    snapshot: Snapshot,
    task_masks: Mapping[str, Mask | None],
    *,
    plan: Plan | LargePlan,
    train: Rows,
    seed: int,
    batches: int,
    epoch: int = 1,
) -> Params:
    """The gradient of the loss's mean over the rows of the first batches of an epoch.

    Args:
      setup: of a training of one task.
      snapshot: where it is taken.
      task_masks: task -> mask. What a task does not see has gradient zero.
      plan: the batches of the training split.
      train: training rows, as `jaxmtl.training.fit.fit` takes them.
      seed: of the order of the data.
      batches: how many of the epoch; all of them where there are fewer.
      epoch: counted from 1.

    Raises:
      ValueError: the training is of several tasks.
    """
    if len(setup.tasks) != 1:
        raise ValueError(
            f"a mean gradient is of one task, the training is of {list(setup.tasks)}"
        )
    bounds = [(0, min(batches, plan.steps))]
    to_devices = functools.partial(place, setup)
    reading = read_chunks(plan, train, seed, epoch, bounds, to_devices)
    with contextlib.closing(reading) as parts:
        part = next(parts)
    task_masks = sharding.copy_to_all(setup.mesh, task_masks)
    program = _program(setup.spec)
    return program(setup.numbers, snapshot, task_masks, part.rows, part.steps)


@functools.lru_cache(maxsize=64)
def _program(spec: TrainSpec) -> Callable[..., Params]:
    net = spec.net
    ((kind, (task,)),) = spec.kinds.items()

    def of_batch(numbers, snapshot: Snapshot, task_masks, batch):
        """The gradient of the loss's sum over rows, and the number of these."""
        batch = outputs.with_joint(spec, batch)
        ids = embedding.stacked_ids(net.schema, batch.rows.ids)
        gathered = {
            stack: table_shards.gather(net.mesh, part, ids.reshape(-1)).reshape(
                *ids.shape, -1
            )
            for stack, part in snapshot.tables.items()
        }
        features = features_of(net, gathered, batch.rows)
        inside = spec.learned[task].inside(batch.rows.labels) & batch.valid
        count = jnp.sum(inside, dtype=jnp.float32)

        def loss(params):
            raw = outputs.forward(
                net, spec.output, params, task_masks, features, (task,)
            )
            found, own = outputs.losses_of(spec, numbers, raw.logits, batch)
            return (found[task] + own) * count

        return jax.grad(loss)(snapshot.net), count

    @jax.jit
    def gradient(numbers, snapshot, task_masks, rows, steps):
        def body(total, order):
            batch = order if rows is None else take(rows, order)
            found = of_batch(numbers, snapshot, task_masks, batch)
            return jax.tree.map(jnp.add, total, found), None

        none = jax.tree.map(jnp.zeros_like, snapshot.net), jnp.zeros((), jnp.float32)
        (total, count), _ = jax.lax.scan(body, none, steps[kind])
        return jax.tree.map(lambda x: x / jnp.maximum(count, 1), total)

    return gradient
