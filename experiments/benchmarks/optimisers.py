"""How far the tables' optimisers part, in updates and in AUC, on the simulated feed.

    python -m experiments.benchmarks.optimisers
    python -m experiments.benchmarks.optimisers --seeds 5 --out benchmarks

The single CTR task of `lt4rec.base_ctr` at its demonstration, trained from the same
start on the same batches by each of the row-sparse optimisers, and by optax.adam on
the whole table. The net is under Adam everywhere; only what trains the tables differs.

Adams take the demonstration's learning rate. The others' is the best of a list by
validation, with seed 0. `parting` compares tables: the distance to dense Adam's rows
as a share of how far those have moved, after a fifth of an epoch and after a whole.
Training amplifies the least difference, so `nudged` is dense Adam again from a start
whose table was moved by a rounding: no row can be told from dense Adam that parts less.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.analysis.statistics import mean_interval
from experiments.benchmarks import command, dense
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from experiments.settings import ablation, sources
from experiments.settings.config import DataConfig
from experiments.settings.setup import make_plan, make_setup, task_names
from jaxmtl import metrics
from jaxmtl.data.batches import EVERY, Plan
from jaxmtl.data.store import Dataset
from jaxmtl.tables import embedding
from jaxmtl.training.inference import predict_all
from jaxmtl.training.spec import SHARED, Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    dense_masks,
    make_gates,
    make_init,
    snapshot_of,
)

DENSE, NUDGED = "dense adam", "nudged"
Optimiser = Literal["nudged", "adam", "lazy_adam", "adagrad", "rowwise_adagrad", "sgd"]
PARTS = 5
"""Of an epoch: what runs between two looks at the tables."""


ROW = "lt4rec.base_ctr"


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to train.

    Attributes:
      optimisers: those compared with dense Adam.
      data: the log.
      seeds: of initial weights and of the order of the data.
      epochs: of each training; the best by validation counts.
      sgd_rates: the learning rates that SGD chooses from.
      adagrad_rates: those of both Adagrads.
    """

    optimisers: tuple[Optimiser, ...] = get_args(Optimiser)
    data: DataConfig = dataclasses.field(
        default_factory=lambda: ablation.set_up(ROW, "demo").data
    )
    seeds: int = 3
    epochs: int = 6
    sgd_rates: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    adagrad_rates: tuple[float, ...] = (0.01, 0.03, 0.1)


QUICK = Options(("adam", "lazy_adam"), seeds=1, epochs=1)
COLUMNS = (
    Column("optimiser", "optimiser"),
    Column("rate", "rate", ".3g"),
    Column("test_interval", "test AUC"),
    Column("minus_dense_interval", "- dense adam"),
    Column("parting", f"parting after 1/{PARTS} … 1 epoch", ".2g"),
)


class Task(NamedTuple):
    """The training that all optimisers do."""

    setup: Setup
    data: Dataset
    plan: Plan


class Score(NamedTuple):
    """AUC on validation and on the test at one epoch's end."""

    validation: float
    test: float


class Trained(NamedTuple):
    """What a training leaves: its best epoch's score, and its rows in between.

    `rows` are the table's after each part of the first epoch, from its start on.
    """

    best: Score
    rows: list[np.ndarray]


def make_task(options: Options) -> Task:
    """The demonstration's CTR; summed, so that optax's scan takes the same batches."""
    config = ablation.load(ROW).configure(ablation.set_up(ROW, "demo"))
    config = dataclasses.replace(
        config,
        data=options.data,
        training=dataclasses.replace(config.training, schedule="sum"),
    )
    data = sources.load(config.data, say=lambda text: print(text, file=sys.stderr))
    setup = make_setup(config, data, task_names(config, data.schema))
    return Task(setup, data, make_plan(config, data, setup))


def parts_of(task: Task, name: str, seed: int, epochs: int) -> Iterator[Snapshot]:
    """The parameters at the start, and after each part of each epoch."""
    state, train = make_init(task.setup)(jax.random.key(seed)), None
    rows = task.data.on_device("train")
    if name == NUDGED:
        table = state.tables[SHARED]
        moved = table.rows * (1 + jnp.finfo(table.rows.dtype).eps)
        nudged = embedding.with_rows(table, moved)
        state = state._replace(tables={SHARED: nudged})
    yield snapshot_of(state)
    if name in (DENSE, NUDGED):
        state, program = dense.start(task.setup, state), dense.make_epoch(task.setup)
        train = lambda state, order: program(state, rows, order)[0]
        look = lambda state: jax.tree.map(jnp.copy, state.parameters)
    else:
        whole = dense_masks(task.setup, state.net)
        gates, program = (
            make_gates(task.setup, state.net, whole),
            make_epoch(task.setup),
        )
        train = lambda state, order: program(state, whole, gates, rows, {EVERY: order})[
            0
        ]
        look = snapshot_of
    size = task.plan.steps // PARTS
    for epoch in range(1, epochs + 1):
        (order,) = task.plan.orders(seed, epoch).values()
        for part in range(PARTS):
            state = train(state, order[part * size : (part + 1) * size])
            yield look(state)


def train(task: Task, name: str, seed: int, epochs: int) -> Trained:
    """One training, scored at the end of every epoch."""
    rows, scores = [], []
    for number, snapshot in enumerate(parts_of(task, name, seed, epochs)):
        if number <= PARTS:
            rows.append(np.asarray(snapshot.tables[SHARED]))
        if number and number % PARTS == 0:
            scores.append(
                Score(*(score(task, snapshot, s) for s in ("validation", "test")))
            )
    return Trained(max(scores), rows)


def score(task: Task, snapshot: Snapshot, split: str) -> float:
    """AUC of a snapshot on a split."""
    rows = task.data.on_device(split)
    whole = dense_masks(task.setup, snapshot.net)
    (name,) = task.setup.tasks
    predicted = predict_all(task.setup, snapshot, whole, rows)[name]
    return metrics.auc(np.asarray(rows.labels[name]), predicted).value


def parting(found: Trained, reference: Trained) -> list[float]:
    """Distance to the reference's rows, over how far those moved; a part each."""
    start = reference.rows[0]
    moves = [np.linalg.norm(rows - start) for rows in reference.rows[1:]]
    pairs = zip(found.rows[1:], reference.rows[1:], strict=True)
    return [
        float(np.linalg.norm(a - b) / moved)
        for (a, b), moved in zip(pairs, moves, strict=True)
    ]


def with_optimiser(task: Task, name: str, rate: float | None) -> Task:
    """The task with its tables under an optimiser."""
    tables = "sgd" if name in (DENSE, NUDGED) else name
    setup = task.setup.with_step(tables=tables)
    given = setup.start.learning_rate if rate is None else rate
    setup = setup.with_start(table_learning_rate=given)
    return task._replace(setup=setup)


def measure_one(task: Task, name: str, options: Options) -> tuple[dict, list[Trained]]:
    """A record of an optimiser, and its trainings, one a seed."""
    adagrads = dict.fromkeys(("adagrad", "rowwise_adagrad"), options.adagrad_rates)
    rates = {"sgd": options.sgd_rates, **adagrads}.get(name, (None,))
    first = {
        rate: train(with_optimiser(task, name, rate), name, 0, options.epochs)
        for rate in rates
    }
    rate = max(first, key=lambda rate: first[rate].best)
    chosen = with_optimiser(task, name, rate)
    others = range(1, options.seeds)
    found = [first[rate], *(train(chosen, name, s, options.epochs) for s in others)]
    record = {
        "optimiser": name,
        "rate": chosen.setup.start.table_learning_rate,
        "by_rate": {str(rate): run.best._asdict() for rate, run in first.items()},
        "validation": [run.best.validation for run in found],
        "test": [run.best.test for run in found],
    }
    return record, found


def measure(options: Options) -> Iterator[Table]:
    """Yields one table: dense Adam, then each optimiser against it."""
    task, records, reference = make_task(options), [], None
    for name in (DENSE, *options.optimisers):
        record, found = measure_one(task, name, options)
        reference = reference or (record, found)
        pairs = zip(found, reference[1], strict=True)
        parts = np.mean([parting(a, b) for a, b in pairs], axis=0)
        gain = np.subtract(record["test"], reference[0]["test"]).tolist()
        record |= {"minus_dense": gain, "mean_gain": float(np.mean(gain))}
        record["parting"] = parts.tolist()
        record |= {
            f"{n}_interval": _interval(record[n]) for n in ("test", "minus_dense")
        }
        records.append(record)
        print(f"{name}: test AUC {record['test_interval']}", file=sys.stderr)
    yield Table(
        "Optimisers of the tables against dense Adam",
        COLUMNS,
        records,
        lead=f"{task.plan.steps} steps an epoch, {options.epochs} epochs,"
        f" {options.seeds} seeds: mean ± half width of the 95 % interval.",
        plot=Plot("mean_gain", "test AUC minus dense Adam's", "optimiser"),
    )


def _interval(values) -> str:
    found = mean_interval(values)
    if found.high is None:
        return f"{found.mean:.4f}"
    return f"{found.mean:.4f} ± {found.high - found.mean:.4f}"


if __name__ == "__main__":
    command.main("optimisers", measure, Options)
