"""Whether rows keep what their schema promises: shapes, ids, labels, numbers."""

from __future__ import annotations

import numpy as np

from jaxmtl.types import GROUPS, PADDING, UNKNOWN, Rows, Schema


def check_rows(schema: Schema, rows: Rows, where: str) -> None:
    """Raises ValueError, naming row and column, where rows break their schema."""
    _check_columns(schema, rows, where)
    _check_ids(schema, rows.ids, where)
    for task in schema.tasks:
        label = np.asarray(rows.labels[task.name])
        high = 1.0 if task.kind == "binary" else task.high
        wrong = ~np.isnan(label) & ((label < 0) | (label > high))
        if task.kind == "binary":
            wrong |= ~np.isnan(label) & (label != 0) & (label != 1)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(
                f"{where}, row {at}: label {task.name}={label[at]} lies outside"
                f" {'{0, 1}' if task.kind == 'binary' else f'[0, {high:g}]'};"
                " correct the row, or make it NaN if the label is missing"
            )
    if not np.isfinite(rows.numeric).all():
        at, column = np.argwhere(~np.isfinite(np.asarray(rows.numeric)))[0]
        raise ValueError(
            f"{where}, row {at}: numeric feature {schema.numeric[column]!r} is"
            f" {rows.numeric[at, column]}; numeric features must be finite"
        )


def _check_columns(schema: Schema, rows: Rows, where: str) -> None:
    n, labels = rows.num_rows, [t.name for t in schema.tasks]
    wanted = {
        "ids": (rows.ids, np.int32, (n, schema.slots)),
        "numeric": (rows.numeric, np.float32, (n, len(schema.numeric))),
    }
    parts = {
        "label": (rows.labels, labels, np.float32),
        "extra": (rows.extras, schema.extras, np.float32),
        "group": (rows.groups, GROUPS, np.int32),
    }
    for part, (columns, names, dtype) in parts.items():
        if set(columns) != set(names):
            raise ValueError(
                f"{where}: {part}s are {sorted(columns)}, schema {schema.name} asks"
                f" for {sorted(names)}; missing: {sorted(set(names) - set(columns))},"
                f" unknown: {sorted(set(columns) - set(names))}"
            )
        for name in names:
            wanted[f"{part} {name}"] = (columns[name], dtype, (n,))
    for name, (column, dtype, shape) in wanted.items():
        if column.shape != shape or column.dtype != dtype:
            raise ValueError(
                f"{where}: {name} is {column.dtype} {column.shape}, schema"
                f" {schema.name} asks for {np.dtype(dtype)} {shape}"
            )


def _check_ids(schema: Schema, ids: np.ndarray, where: str) -> None:
    sizes = {v.name: v.size for v in schema.vocabularies}
    at = 0
    for field in schema.fields:
        part = np.asarray(ids[:, at : at + field.slots])
        low = UNKNOWN if field.slots == 1 else PADDING
        wrong = (part < low) | (part >= sizes[field.vocabulary])
        if wrong.any():
            row, slot = np.argwhere(wrong)[0]
            raise ValueError(
                f"{where}, row {row}: field {field.name!r} holds id"
                f" {part[row, slot]}, outside its vocabulary {field.vocabulary!r}"
                f" of {sizes[field.vocabulary]} rows (allowed: {low} …"
                f" {sizes[field.vocabulary] - 1})"
            )
        at += field.slots
