"""Step time by number of ids: row-sparse tables against dense Adam, in one run.

    python -m experiments.benchmarks.step
    python -m experiments.benchmarks.step --vocabularies 100000 1000000 10000000

A step of a single task at the paper's width: 20 fields, embeddings of 32, an MLP of
512, 256 and 128 over embeddings and their inner products, batches of 1,024. The
rival trains the same net through optax.adam on the whole table.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments.report import describe_environment
from jaxmtl import embedding, losses
from jaxmtl.models import SharedTrunk
from jaxmtl.models.crossing import Crossing
from jaxmtl.optim import Adam
from jaxmtl.setup import SHARED, Setup
from jaxmtl.train import features_of, make_epoch, make_gates, make_init, take
from jaxmtl.types import Field, Rows, Schema, Task, Vocabulary

FIELDS = 20


@dataclasses.dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
      vocabularies: numbers of ids in the one table.
      draws: how ids are drawn: `uniform`, or `zipf` with exponent 1.2.
      batch: rows a step.
      steps: of one timed scan.
      repeats: timed scans; the median counts, compilation does not.
    """

    vocabularies: tuple[int, ...] = (100_000, 1_000_000)
    draws: tuple[Literal["uniform", "zipf"], ...] = ("uniform", "zipf")
    batch: int = 1024
    steps: int = 20
    repeats: int = 10


def make_rows(size: int, draw: str, n: int) -> Rows:
    """Rows whose fields all index one table of `size` rows."""
    rng = np.random.default_rng(0)
    if draw == "uniform":
        ids = rng.integers(1, size, (n, FIELDS))
    else:
        ids = 1 + rng.zipf(1.2, (n, FIELDS)) % (size - 1)
    clicks = (rng.random(n) < 0.4).astype(np.float32)
    numbers = np.zeros(n, np.int32)
    return jax.tree.map(
        jnp.asarray,
        Rows(
            ids.astype(np.int32),
            np.zeros((n, 0), np.float32),
            {"click": clicks},
            {},
            {"user": numbers, "item": numbers},
        ),
    )


def make_setup(size: int) -> Setup:
    """The paper's net over one table."""
    schema = Schema(
        name="bench",
        fields=tuple(Field(f"field{i:02d}", "ids") for i in range(FIELDS)),
        vocabularies=(Vocabulary("ids", size),),
        tasks=(Task("click"),),
        ctr="click",
        cvr="click",
        user="field00",
        item="field01",
    )
    return Setup(
        schema=schema,
        tasks=("click",),
        architecture=SharedTrunk(),
        crossing=Crossing("inner"),
        dim=32,
        adam=Adam(1e-4),
        task_losses=(("click", "log"),),
        masked=False,
    )


def sparse_epoch(setup: Setup, rows: Rows, order: jax.Array) -> Callable[[], None]:
    """The project's own epoch, ready to be timed again and again."""
    state = make_init(setup)(jax.random.key(0))
    dense = {"click": None}
    gates, epoch = make_gates(setup, state.net, dense), make_epoch(setup)

    def run():
        nonlocal state
        state, loss = epoch(state, dense, gates, rows, {"click": order})
        jax.block_until_ready((state, loss))

    return run


def dense_epoch(setup: Setup, rows: Rows, order: jax.Array) -> Callable[[], None]:
    """The same net with optax.adam over the whole table."""
    start = make_init(setup)(jax.random.key(0))
    params = {"rows": start.tables[SHARED].rows, "net": start.net}
    adam, model, task = optax.adam(1e-4), setup.model, setup.schema.task("click")

    def objective(params, batch):
        ids = embedding.stacked_ids(setup.schema, batch.rows.ids)
        gathered = {SHARED: embedding.gather(params["rows"], ids)}
        features = features_of(setup, gathered, batch.rows)
        logits = model.apply(params["net"], features).logits["click"]
        return losses.task_loss(task, logits, batch, name="log", weight=None).mean

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, rows, order):
        def body(state, index):
            params, slots = state
            loss, gradient = jax.value_and_grad(objective)(params, take(rows, index))
            updates, slots = adam.update(gradient, slots)
            return (optax.apply_updates(params, updates), slots), loss

        return jax.lax.scan(body, state, order)

    state = (params, adam.init(params))

    def run():
        nonlocal state
        state, loss = epoch(state, rows, order)
        jax.block_until_ready((state, loss))

    return run


def milliseconds(
    runs: Sequence[Callable[[], None]], steps: int, repeats: int
) -> list[float]:
    """Median time of a step of each run, without compilation.

    The runs take turns, so that a machine whose speed drifts is fair to all.
    """
    for run in runs:
        run()
    times = np.empty((repeats, len(runs)))
    for repeat in range(repeats):
        for number, run in enumerate(runs):
            started = time.perf_counter()
            run()
            times[repeat, number] = time.perf_counter() - started
    return list(1e3 * np.median(times, axis=0) / steps)


def main(options: Options) -> None:
    """Prints a line for each draw and vocabulary."""
    environment = describe_environment()
    print(", ".join(f"{key} {value}" for key, value in environment.items()))
    print(f"median of {options.repeats} scans of {options.steps} steps, ms a step\n")
    print(
        f"{'ids':>8}  {'draw':<8} {'row-sparse':>10} {'growth':>7} {'dense':>8} ratio"
    )
    n = options.batch * options.steps
    order = jnp.arange(n, dtype=jnp.int32).reshape(options.steps, options.batch)
    for draw in options.draws:
        cases = [(make_setup(v), make_rows(v, draw, n)) for v in options.vocabularies]
        runs = [
            make(setup, rows, order)
            for make in (sparse_epoch, dense_epoch)
            for setup, rows in cases
        ]
        times = milliseconds(runs, options.steps, options.repeats)
        sparse, dense = times[: len(cases)], times[len(cases) :]
        for size, ours, rival in zip(options.vocabularies, sparse, dense, strict=True):
            print(
                f"{size:>8.0e}  {draw:<8} {ours:>10.1f} {ours / sparse[0]:>6.2f}x"
                f" {rival:>8.1f} {rival / ours:>4.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options))
