"""Metrics of a split by role: `ctr.auc`, `cvr.mse`, `like.auc`, `cvr.mse@B`.

A nested task has two of each: `cvr` among the rows of its space, `ctcvr`, its joint
event, among all impressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.settings.setup import role
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric, evaluate
from jaxmtl.spaces import JOINT, is_nested, joint_task, with_joint
from jaxmtl.types import Schema, Task


def prefix(schema: Schema, name: str) -> str:
    """`ctr`, `cvr` or a task's own name; with `ct` before it for a joint task."""
    if name.startswith(JOINT):
        return "ct" + role(schema, name.removeprefix(JOINT))
    return role(schema, name)


def check_names(schema: Schema) -> None:
    """Refuses names of tasks under which one's metrics would replace another's.

    Raises:
      ValueError: two prefixes coincide, or a name is taken; says what to rename.
    """
    for task in schema.tasks:
        if task.name in ("all", "pair") or task.name.startswith(JOINT):
            raise ValueError(
                f"schema {schema.name}: {task.name!r} is no name for a task: all and"
                f" pair name several, and {JOINT} begins joint tasks; rename it"
            )
    joint = [JOINT + task.name for task in schema.tasks if is_nested(task)]
    known: dict[str, str] = {}
    for name in (*(task.name for task in schema.tasks), *joint):
        start = prefix(schema, name)
        if start in known:
            both = (known[start], name)
            tasks = dict.fromkeys(name.removeprefix(JOINT) for name in both)
            free = [repr(t) for t in tasks if t not in (schema.ctr, schema.cvr)]
            raise ValueError(
                f"schema {schema.name}: metrics of {both[0]!r} and {both[1]!r} would"
                f" both be called {start}; rename {' or '.join(free)}"
            )
        known[start] = name


def task_of(schema: Schema, name: str) -> Task:
    """The task, or joint task, of a prediction."""
    if name.startswith(JOINT):
        return joint_task(schema.task(name.removeprefix(JOINT)))
    return schema.task(name)


def labels_of(data: Dataset, split: str) -> dict[str, np.ndarray]:
    """The labels of a split, those of joint tasks too."""
    columns = data.splits[split].labels.items()
    return with_joint(data.schema, {name: np.asarray(c) for name, c in columns})


def score(
    data: Dataset,
    split: str,
    predictions: Mapping[str, np.ndarray],
    options: Mapping[str, Any] | None = None,
) -> dict[str, Metric]:
    """Every metric of every predicted task, whole and by segment.

    Args:
      data: the log.
      split: the rows predicted.
      predictions: task, or `joint.<task>` -> [n].
      options: name of a metric -> its options, where they are not the defaults.
    """
    rows = data.splits[split]
    users = np.asarray(rows.groups["user"])
    labels, found = labels_of(data, split), {}
    for name, predicted in predictions.items():
        task, start = task_of(data.schema, name), prefix(data.schema, name)
        whole = evaluate(task, labels, predicted, users, options)
        found |= {f"{start}.{metric}": value for metric, value in whole.items()}
        for number, segment in enumerate(data.schema.segments):
            inside = np.asarray(rows.extras["segment"]) == number
            part = evaluate(
                task,
                {key: column[inside] for key, column in labels.items()},
                predicted[inside],
                users[inside],
                options,
            )
            found |= {f"{start}.{m}@{segment}": value for m, value in part.items()}
    return found


def truth(data: Dataset, split: str) -> dict[str, np.ndarray] | None:
    """The oracle's predictions, task -> [n], where a log knows its truth."""
    extras = data.splits[split].extras
    known = {
        task.name: np.asarray(extras[f"truth.{task.name}"])
        for task in data.schema.tasks
        if f"truth.{task.name}" in extras
    }
    for task in data.schema.tasks:
        before = [t.name for t in data.schema.funnel(task.name)]
        if is_nested(task) and all(name in known for name in before):
            product = np.prod([known[name] for name in before], axis=0)
            known[JOINT + task.name] = product
    return known or None
