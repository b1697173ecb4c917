"""Input of sets larger than memory: rows a second over an epoch, and memory.

    python -m experiments.benchmarks.input
    python -m experiments.benchmarks.input --rows 1000000 --folder made --out benchmarks

A set in Ali-CCP's shape is made (24 int32 ids a row, two labels, two groups: 112 bytes
on disk) and read from a warm file, each time in a process of its own:

- epochs of input alone: shuffled, gathered and sent to the device, nothing else;
- training a small net from it, in turns with the same program on rows that are on the
  device already; the share of time spent waiting for rows says which is the limit;
- other orders of the same rows (`input_orders`).

A core's rows a second are those of the process's CPU time, over all of its threads.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks import command
from experiments.benchmarks.input_orders import compare
from experiments.benchmarks.input_set import SCHEMA, MadeSet, made_blocks
from experiments.benchmarks.memory import watched_memory
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.data.batches.chunks import Chunk
from jaxmtl.data.store.blocks import write_split
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models.shared_trunk import SharedTrunk
from jaxmtl.training import spec
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import dense_masks, make_gates, make_init

TARGET = 3e6
"""Rows a second that input alone shall bring."""
PARTS = 8
"""Of an epoch, whose speeds are told apart."""
TURNS = 4
"""Of training from disk and from memory."""


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to read.

    Attributes:
      rows: sizes of the sets; 112 bytes of disk a row, one set at a time.
      batch: rows a step.
      chunk: steps gathered together.
      epochs: read of input alone; the one of median speed counts.
      seconds: how long to train from disk, from memory, and to read in each order.
      compared: rows read at most in each order.
      folder: where a set is made, and deleted again; None = a temporary folder.
    """

    rows: tuple[int, ...] = (1_000_000, 4_000_000, 40_000_000)
    batch: int = 1024
    chunk: int = 256
    epochs: int = 3
    seconds: float = 10.0
    compared: int = 3_000_000
    folder: Path | None = None


QUICK = Options((1_000_000,), epochs=1, seconds=2.0)
MILLIONS, MEGABYTES = {"form": ".2f", "scale": 1e-6}, {"form": ".0f", "scale": 1e-6}
EPOCH = (
    Column("rows", "rows", ","),
    Column("rows_a_second", "million rows/s", **MILLIONS),
    Column("rows_a_cpu_second", "a core", **MILLIONS),
    Column("over_time", "over the epoch", **MILLIONS),
    Column("before_bytes", "RssAnon before, MB", **MEGABYTES),
    Column("peak_bytes", "peak", **MEGABYTES),
)
TRAINING = (
    Column("rows", "rows", ","),
    Column("from_disk", "from disk, million rows/s", **MILLIONS),
    Column("from_memory", "from the device's memory", **MILLIONS),
    Column("disk_to_memory", "ratio", ".2f"),
    Column("waited", "waiting", ".1%"),
)
ORDERS = (
    Column("rows", "rows", ","),
    Column("order", "order"),
    Column("warm", "warm, million rows/s", **MILLIONS),
    Column("warm_cpu", "warm, a core", **MILLIONS),
    Column("cold", "cold", **MILLIONS),
)


def read_epochs(made: MadeSet, epochs: int) -> dict:
    """Input alone, from a warm file: the epoch of median speed, and memory in all.

    Raises:
      ValueError: an epoch did not bring every row once.
    """
    made.warm()
    with watched_memory() as memory:
        found = [_read_epoch(made, epoch) for epoch in range(epochs)]
    found.sort(key=lambda record: record["rows_a_second"])
    bytes_ = {f"{name}_bytes": value for name, value in memory.items()}
    return found[len(found) // 2] | bytes_


def _read_epoch(made: MadeSet, epoch: int) -> dict:
    total, n, ends = 0, 0, [(0.0, 0)]
    with made.chunks(epoch, whole=True) as chunks:
        started, cpu = time.perf_counter(), time.process_time()
        for chunk in chunks:
            jax.block_until_ready(chunk.steps)
            (order,) = chunk.numbers.values()
            numbers = order[order >= 0]
            total, n = total + int(numbers.sum(dtype=np.int64)), n + numbers.size
            ends.append((time.perf_counter() - started, n))
    cpu = time.process_time() - cpu
    if (n, total) != (made.n, made.n * (made.n - 1) // 2):
        raise ValueError(f"an epoch of {made.n} rows brought {n}, numbers' sum {total}")
    at = np.linspace(0, len(ends) - 1, min(PARTS, len(ends) - 1) + 1).astype(int)
    seconds, rows = np.diff(np.array(ends)[at], axis=0).T
    return {
        "rows": n,
        "rows_a_second": n / ends[-1][0],
        "rows_a_cpu_second": n / cpu,
        "over_time": (rows / seconds).tolist(),
    }


def make_setup() -> Setup:
    """Embeddings of 8, a trunk of 64 and 32: small, so that input has to be fast."""
    names = tuple(task.name for task in SCHEMA.tasks)
    return spec.make_setup(
        schema=SCHEMA,
        tasks=names,
        architecture=SharedTrunk((64, 32)),
        crossing=Crossing("none"),
        dim=8,
        learning_rate=1e-3,
        task_losses=dict.fromkeys(names, "log"),
        summed=True,
        masked=False,
    )


def make_trainer(batch: int) -> Callable[[Chunk], int]:
    """A call that trains a chunk of steps, waits, and says how many rows these are."""
    setup = make_setup()
    state = make_init(setup)(jax.random.key(0))
    masks, program = dense_masks(setup, state.net), make_epoch(setup)
    gates = make_gates(setup, state.net, masks)

    def train(chunk: Chunk) -> int:
        nonlocal state
        state, means = program(state, masks, gates, chunk.rows, chunk.steps)
        jax.block_until_ready((state, means))
        return batch * (chunk.stop - chunk.start)

    return train


def train(made: MadeSet, seconds: float) -> dict:
    """Rows a second of training from disk and from memory, in turns."""
    made.warm()
    train, waited = make_trainer(made.batch), 0.0
    rows, took = np.zeros(2), np.zeros(2)
    with made.chunks(2, whole=False) as chunks:
        there = next(chunks)
    train(there)  # compiles
    for turn in range(TURNS):
        with made.chunks(3 + turn, whole=False) as chunks:
            train(next(chunks))  # nothing was trained while this one was made
            started = asked = time.perf_counter()
            for chunk in chunks:
                waited += time.perf_counter() - asked
                rows[0] += train(chunk)
                asked = time.perf_counter()
                if asked - started > seconds / TURNS:
                    break
            took[0] += time.perf_counter() - started
        started = time.perf_counter()
        while time.perf_counter() - started < seconds / TURNS:
            rows[1] += train(there)
        took[1] += time.perf_counter() - started
    from_disk, from_memory = (rows / took).tolist()
    waited_share = waited / float(took[0])
    return {
        "rows": made.n,
        "from_disk": from_disk,
        "from_memory": from_memory,
        "disk_to_memory": from_disk / from_memory,
        "waited": waited_share,
    }


def alone(task: Callable, *given):
    """What a function returns in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(task, *given).result()


def measure_size(options: Options, n: int) -> dict:
    """Makes a set, reads it in every way, and deletes it."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made = MadeSet(Path(folder) / "train", n, options.batch, options.chunk)
        write_split(made.folder, n, made_blocks(n))
        return {
            "epoch": alone(read_epochs, made, options.epochs),
            "training": alone(train, made, options.seconds),
            "orders": alone(compare, made, options.compared, options.seconds),
        }


def measure(options: Options) -> Iterator[Table]:
    """Yields a table of input alone, one of training, and one of other orders."""
    records = [measure_size(options, n) for n in options.rows]
    lead = f"Batches of {options.batch:,}, {options.chunk} steps a chunk."
    epochs = [record["epoch"] for record in records]
    verdicts = [
        f"{epoch['rows']:,} rows: target {TARGET / 1e6:.0f} million/s"
        f" {'met' if epoch['rows_a_second'] >= TARGET else 'missed'}"
        for epoch in epochs
    ]
    plot = Plot("rows_a_second", "rows a second", "rows")
    yield Table("Input alone", EPOCH, epochs, lead, verdicts, plot)
    training = [record["training"] for record in records]
    yield Table("Training of a small net", TRAINING, training, lead)
    orders = [order for record in records for order in record["orders"]]
    plot = Plot("warm", "rows a second, warm", "order", "rows")
    yield Table("Ways to shuffle", ORDERS, orders, lead, plot=plot)


if __name__ == "__main__":
    command.main("input", measure, Options)
