"""How well a task is predicted, on the rows of its own label space.

A metric is a file of `jaxmtl.metrics.methods`: being there adds it to what `evaluate`
computes. Those that other code asks for by name are functions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxmtl import discovery
from jaxmtl.metrics import methods
from jaxmtl.metrics.methods.auc import area_under_curve as auc
from jaxmtl.metrics.methods.calibration import predicted_over_observed as calibration
from jaxmtl.metrics.methods.gauc import grouped_area as grouped_auc
from jaxmtl.metrics.methods.log_loss import CLIP
from jaxmtl.metrics.methods.log_loss import cross_entropy as log_loss
from jaxmtl.metrics.methods.mse import squared_error as mse
from jaxmtl.metrics.methods.mse_positive import (
    squared_error_of_positives as mse_positive,
)
from jaxmtl.metrics.metric import Measure, Metric
from jaxmtl.types import Task

__all__ = [
    "CLIP",
    "Measure",
    "Metric",
    "auc",
    "calibration",
    "evaluate",
    "grouped_auc",
    "higher_is_better",
    "log_loss",
    "mse",
    "mse_positive",
]


def evaluate(
    task: Task,
    labels: Mapping[str, ArrayLike],
    predictions: ArrayLike,
    users: ArrayLike,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Metric]:
    """Every metric that applies to a task, on the rows of its label space.

    Args:
      task: what is predicted; its space and kind choose rows and metrics.
      labels: task name -> [n], of all rows; NaN = missing.
      predictions: [n], for ALL rows: probabilities, or values where the task is
        none. Those outside the space are not scored but must be finite too.
      users: [n], ids that group a user's rows.
      options: name of a metric -> its options, where they are not the defaults.

    Returns:
      Metrics by name, one for each file of `methods` that applies: `mse` and
      `calibration` for every task, `auc` for a binary one, and so on.

    Raises:
      ValueError: shapes differ, a label is missing, or a prediction is not
        finite; names the first such row.
    """
    rows = task.inside({k: np.asarray(v) for k, v in labels.items()})
    predictions, users = np.asarray(predictions, np.float64), np.asarray(users)
    for name, column in (("predictions", predictions), ("users", users)):
        if column.shape != rows.shape:
            raise ValueError(
                f"task {task.name!r}: {name} have shape {column.shape}, labels"
                f" {rows.shape}; give one for every row, inside the space or not"
            )
    wrong = ~np.isfinite(predictions)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"task {task.name!r}, row {at}: prediction is {predictions[at]}; it must"
            " be finite, so look for a diverged net or an overflow"
        )
    y, p = np.asarray(labels[task.name], np.float64)[rows], predictions[rows]
    kinds = discovery.all_options(methods.__name__)
    chosen = {name: kind() for name, kind in kinds.items()} | dict(options or {})
    measures = {name: discovery.make(each) for name, each in chosen.items()}
    return {
        name: measure.of(y, p, users[rows])._replace(space=task.space)
        for name, measure in measures.items()
        if measure.applies(task)
    }


def higher_is_better(name: str) -> bool:
    """Whether of two models the one with more of a metric predicts better.

    Args:
      name: of a file of `methods`.
    """
    return discovery.make(discovery.options(methods.__name__, name)()).higher_is_better
