"""The rival of row-sparse tables: the same net under optax.adam on whole tables."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxmtl.tables import embedding
from jaxmtl.training import outputs
from jaxmtl.training.feed import take
from jaxmtl.training.spec import SHARED, Setup
from jaxmtl.training.train_state import Snapshot, TrainState, features_of
from jaxmtl.types import Array, Batch


class DenseState(NamedTuple):
    """Parameters, and optax's state over all of them."""

    parameters: Snapshot
    slots: Any


def start(setup: Setup, state: TrainState) -> DenseState:
    """Where `make_init` starts. Shares the state's arrays, so keep it no longer."""
    tables = {SHARED: state.tables[SHARED].rows}
    parameters = Snapshot(tables, state.net)
    return DenseState(parameters, _adam(setup).init(parameters))


def make_epoch(setup: Setup) -> Callable[..., tuple[DenseState, Array]]:
    """epoch(state, rows, order) -> (state, losses [steps]); donates state.

    Trains all tasks on the sum of their losses, without masks, weights or own views.
    """
    adam = _adam(setup)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, rows, order):
        def body(state, index):
            loss, gradients = jax.value_and_grad(_loss)(
                state.parameters, setup, take(rows, index)
            )
            updates, slots = adam.update(gradients, state.slots)
            parameters = optax.apply_updates(state.parameters, updates)
            return DenseState(parameters, slots), loss

        return jax.lax.scan(body, state, order)

    return epoch


def _adam(setup: Setup) -> optax.GradientTransformation:
    adam = setup.spec.step.optimiser
    return optax.adam(setup.start.learning_rate, adam.b1, adam.b2, adam.eps)


def _loss(parameters: Snapshot, setup: Setup, batch: Batch) -> Array:
    ids = embedding.stacked_ids(setup.schema, batch.rows.ids)
    gathered = {SHARED: embedding.gather(parameters.tables[SHARED], ids)}
    features = features_of(setup.spec.net, gathered, batch.rows)
    net, output = setup.spec.net, setup.spec.output
    raw = outputs.forward(net, output, parameters.net, {}, features, setup.tasks)
    found, _ = outputs.losses_of(setup.spec, setup.numbers, raw.logits, batch)
    return sum(found.values())
