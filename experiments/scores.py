"""Metrics of a split by role: `ctr.auc`, `cvr.mse`, `like.auc`, `cvr.mse@B`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.setup import role
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric, evaluate

MAIN = {"ctr": "auc", "cvr": "mse"}
"""What the paper judges each role by; bootstrapped and drawn."""


def score(
    data: Dataset, split: str, predictions: Mapping[str, np.ndarray]
) -> dict[str, Metric]:
    """Every metric of every predicted task, whole and by segment.

    Args:
      data: the log.
      split: the rows predicted.
      predictions: task -> [n].
    """
    rows = data.splits[split]
    users = np.asarray(rows.groups["user"])
    labels = {name: np.asarray(column) for name, column in rows.labels.items()}
    found = {}
    for name, predicted in predictions.items():
        task, prefix = data.schema.task(name), role(data.schema, name)
        whole = evaluate(task, labels, predicted, users)
        found |= {f"{prefix}.{metric}": value for metric, value in whole.items()}
        for number, segment in enumerate(data.schema.segments):
            inside = np.asarray(rows.extras["segment"]) == number
            part = evaluate(
                task,
                {key: column[inside] for key, column in labels.items()},
                predicted[inside],
                users[inside],
            )
            found |= {f"{prefix}.{m}@{segment}": value for m, value in part.items()}
    return found


def truth(data: Dataset, split: str) -> dict[str, np.ndarray] | None:
    """The oracle's predictions, task -> [n], where a log knows its truth."""
    extras = data.splits[split].extras
    known = {
        task.name: np.asarray(extras[f"truth.{task.name}"])
        for task in data.schema.tasks
        if f"truth.{task.name}" in extras
    }
    return known or None
