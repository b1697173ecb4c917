"""What a log cannot show: labels all of one kind, inputs that tell nothing.

Such a log can be trained on, and what comes of it looks like any other result. So
each finding is a sentence that says what is left, to stand below every table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from jaxmtl.spaces import is_nested
from jaxmtl.types import UNKNOWN, Rows, Schema, Task

FIRST = 1000
"""Rows that are looked at first: few columns that are constant there are not."""
WHERE = {"train": "training", "validation": "validation", "test": "the test"}
AUC = "its AUC is undefined there, and "
LEFT = {
    "train": "there is nothing to learn of it but that",
    "validation": "it chooses neither an epoch nor a ticket",
    "test": f"{AUC}a constant has the best MSE",
}
"""What labels that are all the same leave of a task."""
NONE_LEFT = {**LEFT, "train": "it cannot be trained", "test": "it is not judged"}


def remarks(schema: Schema, splits: Mapping[str, Rows]) -> list[str]:
    """A sentence for everything that the rows of a log cannot show.

    Args:
      schema: of the rows.
      splits: `train`, `validation` and `test`, in memory or mapped from files.
    """
    return [
        *_roles(schema),
        *(line for task in schema.tasks for line in _labels(task, splits)),
        *(line for task in schema.tasks for line in _outside(task, splits)),
        *_inputs(schema, splits["train"]),
    ]


def _roles(schema: Schema) -> Iterator[str]:
    if schema.task(schema.ctr).kind == "continuous":
        yield (
            f"the label of the CTR, {schema.ctr!r}, is continuous: it is judged by MSE,"
            " and there is no AUC of it"
        )
    if schema.ctr == schema.cvr:
        others = [task.name for task in schema.tasks if task.name != schema.ctr]
        yield (
            f"ctr and cvr are one label, {schema.ctr!r}: it is trained as the CTR, and"
            " there is no CVR"
            + (f"; {_listed(others)} plays no role" if others else "")
        )


def _labels(task: Task, splits: Mapping[str, Rows]) -> Iterator[str]:
    space = f" where {task.space!r} is above 0" if is_nested(task) else ""
    for split, where in WHERE.items():
        known = _known(task, splits[split])
        if not known.size:
            yield f"{where} has no label of {task.name!r}{space}: {NONE_LEFT[split]}"
        elif known.min() == known.max():
            left = LEFT[split].removeprefix(AUC if task.kind == "continuous" else "")
            yield (
                f"all {known.size:,} labels of {task.name!r} in {where}{space} are"
                f" {known[0]:g}: {left}"
            )


def _known(task: Task, rows: Rows) -> np.ndarray:
    """The labels that a task is trained or judged on."""
    names = {task.name} | ({task.space} if is_nested(task) else set())
    labels = {name: np.asarray(rows.labels[name]) for name in names}
    return labels[task.name][task.inside(labels)]


def _outside(task: Task, splits: Mapping[str, Rows]) -> Iterator[str]:
    if not is_nested(task):
        return
    count = 0
    for rows in splits.values():
        label, space = (np.asarray(rows.labels[n]) for n in (task.name, task.space))
        count += int(np.count_nonzero((label > 0) & ~(space > 0)))
    if count:
        yield (
            f"{count:,} rows hold a label of {task.name!r} above 0 although"
            f" {task.space!r}, its space, is not: they are not used for it"
        )


def _inputs(schema: Schema, train: Rows) -> Iterator[str]:
    fields, at = {}, 0
    for field in schema.fields:
        fields[field.name] = np.asarray(train.ids[:, at : at + field.slots])
        at += field.slots
    same = [name for name, ids in fields.items() if _is_constant(ids)]
    unknown = [name for name in same if (fields[name][0] == UNKNOWN).all()]
    numeric = [
        name
        for name, column in zip(schema.numeric, train.numeric.T, strict=True)
        if _is_constant(column)
    ]
    if unknown:
        yield (
            f"{_listed(unknown)}: training holds no id often enough for it to be known,"
            " so all rows are UNKNOWN there, and alike"
        )
    constant = [*(name for name in same if name not in unknown), *numeric]
    if constant:
        yield f"{_listed(constant)}: the same in every training row, and no help"
    if len(same) + len(numeric) == len(schema.fields) + len(schema.numeric):
        yield "no input tells one training row from another: only means are learned"


def _is_constant(column: np.ndarray) -> bool:
    return all(bool((part == column[0]).all()) for part in (column[:FIRST], column))


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
