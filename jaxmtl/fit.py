"""Training with early stopping on validation; one snapshot serves all tasks.

Choosing each task's own best epoch would describe models that no product can
serve together. The snapshot kept is that of the epoch with the smallest mean
over the tasks of the *regret on validation*: (1 − AUC) / .5 for a task judged
by AUC, MSE / variance of the labels for one judged by MSE, so that 1 is no skill
and 0 perfection for both. Each task's own best epoch is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxmtl import metrics
from jaxmtl.data.batches import Plan
from jaxmtl.setup import Setup
from jaxmtl.spaces import with_joint
from jaxmtl.train import (
    Snapshot,
    TrainState,
    make_epoch,
    make_gates,
    predict_all,
    snapshot_of,
)
from jaxmtl.types import Mask, Rows, Task


class EpochRecord(NamedTuple):
    """One epoch: by task mean training loss, validation metric and regret."""

    epoch: int
    losses: dict[str, float]
    validation: dict[str, float | None]
    regrets: dict[str, float]

    @property
    def regret(self) -> float:
        """The tasks' mean regret, which decides."""
        return sum(self.regrets.values()) / len(self.regrets)


class Fit(NamedTuple):
    """A finished training.

    Attributes:
      best: the snapshot kept.
      best_epoch: its epoch, counted from 1.
      history: all epochs.
      own_best_epoch: task -> the epoch best for that task alone.
    """

    best: Snapshot
    best_epoch: int
    history: tuple[EpochRecord, ...]
    own_best_epoch: dict[str, int]

    def value(self, task: str) -> float | None:
        """The task's validation metric at the snapshot kept."""
        return self.history[self.best_epoch - 1].validation[task]


class NonFiniteLoss(ArithmeticError):
    """A loss or prediction became infinite or NaN; names the step and the task."""


def regret(task: Task, value: float | None, labels: Mapping[str, np.ndarray]) -> float:
    """How far from perfect a validation metric is: 1 = no skill, 0 = perfect.

    An undefined metric has regret 1, so that the other tasks decide.
    """
    if value is None:
        return 1.0
    if task.metric == "auc":
        return (1 - value) / 0.5
    column = np.asarray(labels[task.name], np.float64)
    variance = float(np.var(column[task.inside(labels)]))
    return value / variance if variance > 0 else 1.0


def fit(
    setup: Setup,
    state: TrainState,
    task_masks: Mapping[str, Mask],
    *,
    plan: Plan,
    train: Rows,
    validation: Rows,
    seed: int,
    epochs: int,
    patience: int,
    on_epoch: Callable[[EpochRecord, Snapshot], None] = lambda record, snapshot: None,
) -> Fit:
    """Trains until validation has not improved for `patience` epochs.

    Args:
      setup: the static part of the program.
      state: where to start; donated.
      task_masks: task -> mask.
      plan: the batches of the training split.
      train: training rows on the device.
      validation: validation rows on the device.
      seed: of the order of the data, together with the epoch.
      epochs: the most there may be, at least 1.
      patience: epochs without a smaller regret before stopping.
      on_epoch: called after each epoch with its record and a snapshot.

    Raises:
      NonFiniteLoss: names the first step and the task whose loss it was, or the
        task whose predictions its last step broke.
    """
    epoch_program = make_epoch(setup)
    gates = make_gates(setup, state.net, task_masks)
    labels = {name: np.asarray(column) for name, column in validation.labels.items()}
    labels = with_joint(setup.schema, labels)
    judged = setup.learned
    history: list[EpochRecord] = []
    best, best_epoch = None, 0
    own_best = dict.fromkeys(judged, (math.inf, 1))
    for epoch in range(1, epochs + 1):
        orders = plan.orders(seed, epoch)
        state, step_losses = epoch_program(state, task_masks, gates, train, orders)
        means = _check_finite(step_losses, first_step=(epoch - 1) * plan.steps)
        snapshot = snapshot_of(state)
        step = epoch * plan.steps
        values = _validate(setup, snapshot, task_masks, validation, labels, step)
        parts = {n: regret(task, values[n], labels) for n, task in judged.items()}
        record = EpochRecord(epoch, means, values, parts)
        history.append(record)
        own_best = {
            name: min(own_best[name], (part, epoch)) for name, part in parts.items()
        }
        if best is None or record.regret < history[best_epoch - 1].regret:
            best, best_epoch = snapshot, epoch
        on_epoch(record, snapshot)
        if epoch - best_epoch >= patience:
            break
    own_best_epoch = {name: epoch for name, (_, epoch) in own_best.items()}
    return Fit(best, best_epoch, tuple(history), own_best_epoch)


def _check_finite(step_losses, first_step: int) -> dict[str, float]:
    values = {task: np.asarray(column) for task, column in step_losses.items()}
    wrong = ~np.isfinite(np.stack(list(values.values()), axis=1))
    if wrong.any():
        at, column = np.argwhere(wrong)[0]
        task = list(values)[column]
        raise NonFiniteLoss(
            f"the loss of task {task!r} became {values[task][at]} at step"
            f" {first_step + at + 1}; lower optimiser.learning-rate or look at"
            " the rows of that step"
        )
    return {task: float(column.mean()) for task, column in values.items()}


def _validate(
    setup, snapshot, task_masks, rows, labels, step: int
) -> dict[str, float | None]:
    predictions = predict_all(setup, snapshot, task_masks, rows)
    values = {}
    for name, prediction in predictions.items():
        if not np.isfinite(prediction).all():
            raise NonFiniteLoss(
                f"task {name!r} no longer predicts finite values after step {step};"
                " lower optimiser.learning-rate"
            )
    for name, task in setup.learned.items():
        inside = task.inside(labels)
        score = metrics.auc if task.metric == "auc" else metrics.mse
        predicted = predictions[task.name][inside]
        values[name] = score(labels[task.name][inside], predicted).value
    return values
