"""Losses of a task on the rows of its own label space.

A loss returns its sum, the number of rows that count and the values by row, so
that a batch without any labelled row has loss zero and not NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from jaxmtl.types import Array, Batch, Task

LossName = Literal["log", "focal", "squared"]
RowWeight = Callable[[Batch], Array]
ALPHA, GAMMA = 0.75, 2.0
"""Of the focal loss: the LT4REC authors' code for CTR."""


class Loss(NamedTuple):
    """Sum over the rows that count, their number, and the value of each row."""

    total: Array
    count: Array
    values: Array

    @property
    def mean(self) -> Array:
        return self.total / jnp.maximum(self.count, 1)


def predict(task: Task, logits: Array) -> Array:
    """Probabilities, or values for a continuous label without upper end 1."""
    return jax.nn.sigmoid(logits) if task.is_probability else logits


def task_loss(
    task: Task,
    logits: Array,
    batch: Batch,
    *,
    name: LossName,
    weight: Array | None,
    positive: Array | float = 1.0,
) -> Loss:
    """The loss of one task on the valid rows of its label space.

    Args:
      task: binary, or continuous with labels in [0, high].
      logits: float32 [batch].
      batch: rows and their validity.
      name: `log` (cross-entropy), `focal` (Lin et al., "Focal Loss for Dense Object
        Detection", ICCV 2017, eq. 5; each with a soft label as the mean of its two
        parts) or `squared` (on the prediction).
      weight: float32 [batch] that multiplies each row's loss, or None. The
        count is that of rows: a weight above 1 shifts the balance among them.
      positive: weight of the label's own part of a `log` or `focal` loss (DCRNN,
        after tf.nn.weighted_cross_entropy_with_logits). It multiplies the odds that
        are learned (`odds_learned`): take its logarithm off them before they are
        reported. A number of 1 leaves the loss as it is; a traced one is a weight
        whatever its value.

    Raises:
      ValueError: the loss is unknown, or a cross-entropy on amounts.
    """
    if name not in get_args(LossName):
        raise ValueError(f"loss {name!r} is none of {list(get_args(LossName))}")
    is_weighted = not isinstance(positive, (int, float)) or positive != 1
    if is_weighted and name == "squared":
        raise ValueError(
            f"task {task.name!r}: a weight of {positive} for positives needs the loss"
            f" 'log' or 'focal', whose odds can be recalibrated; given is {name!r}"
        )
    if name != "squared" and not task.is_probability:
        raise ValueError(
            f"task {task.name!r} has labels up to {task.high:g}, on which loss {name!r}"
            " has no minimum; use 'squared'"
        )
    label = batch.rows.labels[task.name]
    counts = task.inside(batch.rows.labels) & batch.valid
    label = jnp.where(counts, label, 0)  # NaN would survive a product with zero
    if name == "log":
        values = optax.losses.sigmoid_binary_cross_entropy(logits, label)
        if is_weighted:
            values += (1 - positive) * label * jax.nn.log_sigmoid(logits)
    elif name == "focal":
        values = _focal(logits, label, positive)
    else:
        values = jnp.square(predict(task, logits) - label)
    if weight is not None:
        values = values * weight
    values = jnp.where(counts, values, 0)
    return Loss(jnp.sum(values), jnp.sum(counts), values)


def _focal(logits: Array, label: Array, positive: Array | float) -> Array:
    """−α·w·y·(1 − p)^γ·log p − (1 − α)·(1 − y)·p^γ·log(1 − p) by row."""
    p, q = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    of_one = -(q**GAMMA) * jax.nn.log_sigmoid(logits)
    of_zero = -(p**GAMMA) * jax.nn.log_sigmoid(-logits)
    return ALPHA * positive * label * of_one + (1 - ALPHA) * (1 - label) * of_zero


def odds_learned(name: LossName, logits: Array) -> Array:
    """The log-odds of the label at which the mean loss is least at these logits.

    The identity, save for the focal loss, whose minimiser is no probability
    (Charoenphakdee et al., "On Focal Loss for Class-Posterior Probability
    Estimation", CVPR 2021; here with the weights α and 1 − α of the classes). Where
    the label's mean is η, the slope of the mean loss is zero at the logit x with

        logit(η) = (1 + γ)·x + log(1 + γ·r(x)) − log(1 + γ·r(−x)) + log((1 − α) / α),

    r(x) = log(1 + e^x) / e^x. It grows with x, so that an AUC stays as it is; γ = 0
    leaves the weights of the classes alone.

    Args:
      name: of the loss.
      logits: [batch].
    """
    if name != "focal":
        return logits
    bend = jnp.log1p(GAMMA * _ratio(logits)) - jnp.log1p(GAMMA * _ratio(-logits))
    return (1 + GAMMA) * logits + bend + math.log((1 - ALPHA) / ALPHA)


def linked(names: Iterable[tuple[str, LossName]]) -> tuple[tuple[str, LossName], ...]:
    """Of pairs of a task and its loss those whose loss learns no log-odds."""
    return tuple((task, name) for task, name in names if name == "focal")


def _ratio(x: Array) -> Array:
    """log(1 + e^x) / e^x, from 1 at −∞ to 0 at ∞, with finite slopes everywhere."""
    is_low = x < 0
    low, high = jnp.where(is_low, x, -1.0), jnp.where(is_low, 1.0, x)
    # Below −20 the quotient is 1 to the last bit, and e^x would soon be zero.
    power = jnp.exp(jnp.maximum(low, -20.0))
    upper = jax.nn.softplus(high) * jnp.exp(-high)
    return jnp.where(is_low, jnp.log1p(power) / power, upper)


def duration_conflict(cvr: str, factor: float) -> RowWeight:
    """Weights clicked rows that were hardly watched, by length of the video.

    The rule in the LT4REC authors' code: `factor` (5 there) where
    duration > 60 s and 0 < label < .1, or duration ≤ 60 s and 0 < label < .2.
    """

    def weight(batch: Batch) -> Array:
        label = batch.rows.labels[cvr]
        threshold = jnp.where(batch.rows.extras["duration"] > 60, 0.1, 0.2)
        return jnp.where((label > 0) & (label < threshold), factor, 1.0)

    return weight


def threshold_conflict(cvr: str, factor: float, threshold: float) -> RowWeight:
    """Weights rows whose label stays under a threshold (LT4REC, section 2.2).

    For logs without durations: a click that led to next to nothing pulls the
    two tasks' gradients apart. Labels are those of the task's own space.
    """

    def weight(batch: Batch) -> Array:
        return jnp.where(batch.rows.labels[cvr] < threshold, factor, 1.0)

    return weight
