"""A prepared log, seen otherwise: split anew, with noise, with fewer inputs.

What the papers vary about their data rather than about their models. A view is made
in memory from a prepared log and never written; its settings are part of what its
numbers depend on, and join its fingerprint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Literal

import jax
import numpy as np

from jaxmtl.data.log import SPLITS
from jaxmtl.data.store import Dataset
from jaxmtl.types import PADDING, Rows, Schema

RANDOM = {"train": 0.63, "validation": 0.07, "test": 0.30}
"""Shares of a random split: 7 : 3 as in the DCRNN paper, whose 7 gives up a tenth of
itself for validation."""


@dataclasses.dataclass(frozen=True)
class View:
    """How a log is looked at.

    Attributes:
      split: `source`, the log's own (by time where it has one); `random`, 7 : 3 as
        in the DCRNN paper. Ids that the log's own training split lacks stay unknown.
      train_rows: how many training rows are kept, drawn without replacement, where
        there are more; 0 = all.
      inputs: `all`, or the `categorical` ones alone.
      numeric_noise: deviation of normal noise on numeric features, in units of
        their own deviation in training.
      categorical_noise: chance that an id is replaced by that of a random row.
      judge: `source`, the log's own metric of each task; `auc` for every binary one.
      seed: of the random split and of the noise.
    """

    split: Literal["source", "random"] = "source"
    train_rows: int = 0
    inputs: Literal["all", "categorical"] = "all"
    numeric_noise: float = 0.0
    categorical_noise: float = 0.0
    judge: Literal["source", "auc"] = "source"
    seed: int = 0

    def check(self) -> None:
        """Raises ValueError for a value out of its range."""
        if self.train_rows < 0:
            raise ValueError(
                f"--data.view.train-rows is {self.train_rows}; give how many to keep,"
                " or 0 for all"
            )
        if not self.numeric_noise >= 0:
            raise ValueError(
                f"--data.view.numeric-noise is {self.numeric_noise}; it is a deviation,"
                " 0 or more"
            )
        if not 0 <= self.categorical_noise <= 1:
            raise ValueError(
                f"--data.view.categorical-noise is {self.categorical_noise}; it is a"
                " chance, from 0 to 1"
            )


def apply(data: Dataset, view: View) -> Dataset:
    """The data set as a view shows it.

    Raises:
      ValueError: a setting is out of its range, or asks for numeric features of a
        log that has none.
    """
    view.check()
    if view == View():
        return data
    schema, splits, notes = data.schema, data.splits, list(data.notes)
    if view.numeric_noise and (not schema.numeric or view.inputs == "categorical"):
        raise ValueError(
            f"--data.view.numeric-noise {view.numeric_noise}: {schema.name} shows no"
            " numeric features; use --data.view.categorical-noise, or another log"
        )
    if view.judge == "auc":
        schema = _judged_by_auc(schema)
    if view.split == "random":
        splits = _resplit(splits, np.random.default_rng([view.seed, 0]))
        notes.append("Split at random, 7 : 3; a tenth of the 7 is validation.")
    if 0 < view.train_rows < splits["train"].num_rows:
        random = np.random.default_rng([view.seed, 2])
        splits = splits | {"train": _sample(splits["train"], view.train_rows, random)}
        notes.append(f"{view.train_rows:,} training rows, drawn at random.")
    if view.inputs == "categorical" and schema.numeric:
        schema = dataclasses.replace(schema, numeric=())
        splits = {k: r._replace(numeric=r.numeric[:, :0]) for k, r in splits.items()}
        notes.append("Without numeric features.")
    if view.numeric_noise or view.categorical_noise:
        deviation = splits["train"].numeric.std(axis=0, dtype=np.float64)
        splits = {
            name: _corrupt(
                schema, rows, deviation, view, np.random.default_rng([view.seed, 1, i])
            )
            for i, (name, rows) in enumerate(splits.items())
        }
        notes.append(
            f"Noise on all splits: normal of {view.numeric_noise:g} deviations on"
            f" numeric features, {view.categorical_noise:.0%} of the ids replaced."
        )
    seen = fingerprint(data.fingerprint, view)
    return Dataset(schema, splits, data.counts, tuple(notes), seen)


def fingerprint(log: str, view: View) -> str:
    """That of a log, as a view shows it."""
    if view == View():
        return log
    text = json.dumps([log, dataclasses.asdict(view)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _judged_by_auc(schema: Schema) -> Schema:
    tasks = tuple(
        dataclasses.replace(task, metric="auc") if task.kind == "binary" else task
        for task in schema.tasks
    )
    return dataclasses.replace(schema, tasks=tasks)


def _resplit(splits: dict[str, Rows], random: np.random.Generator) -> dict[str, Rows]:
    parts = [splits[name] for name in SPLITS]
    every = jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    order = random.permutation(every.num_rows)
    ends = np.cumsum([round(RANDOM[name] * len(order)) for name in SPLITS[:-1]])
    # Sorted: rows stay in the order of the log, as those of its own splits do.
    parts = [np.sort(index) for index in np.split(order, ends)]
    return {
        name: jax.tree.map(lambda column, index=index: column[index], every)
        for name, index in zip(SPLITS, parts, strict=True)
    }


def _sample(rows: Rows, n: int, random: np.random.Generator) -> Rows:
    index = np.sort(random.choice(rows.num_rows, n, replace=False))
    return jax.tree.map(lambda column: np.asarray(column)[index], rows)


def _corrupt(
    schema: Schema,
    rows: Rows,
    deviation: np.ndarray,
    view: View,
    random: np.random.Generator,
) -> Rows:
    noise = random.normal(size=rows.numeric.shape)
    numeric = rows.numeric + view.numeric_noise * deviation * noise
    ids = np.array(rows.ids)
    at = 0
    for field in schema.fields:
        # A whole field at a time, with its padding: a set stays a set that occurs.
        part = ids[:, at : at + field.slots]
        hit = random.random(len(part)) < view.categorical_noise
        hit &= (part != PADDING).any(axis=1)
        part[hit] = part[random.integers(len(part), size=int(hit.sum()))]
        at += field.slots
    return rows._replace(numeric=numeric.astype(np.float32), ids=ids)
