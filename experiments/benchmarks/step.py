"""A training step by number of ids and by batch: row-sparse tables against dense Adam.

    python -m experiments.benchmarks.step
    python -m experiments.benchmarks.step --tables adam --out benchmarks

MMoE at the DCRNN paper's shape (`mmoe_contenders`): 20 fields over one stack of tables
of width 32, 8 experts of 128 and 64, two tasks, batches of 1,024. The rival trains the
same net through optax.adam on the whole table; where its five arrays of the table's
size would not fit, it is left out.

Two numbers say that no step copies the table: the bytes that XLA plans for temporaries
of the compiled scan, and how far the process's resident memory rose during one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from experiments.benchmarks import command, dense, mmoe_contenders
from experiments.benchmarks.mmoe_contenders import Log, make_log, on_device
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.tables import row_optim
from jaxmtl.training.train import epoch_program
from jaxmtl.training.train_state import dense_masks, make_gates, make_init

FLAT, TARGET = (100_000, 10_000_000), 1.25
"""Between these numbers of ids a step shall grow by less than the target."""


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      vocabularies: numbers of ids over all fields.
      draws: how ids are drawn: `uniform`, or `zipf` with exponent 1.2.
      tables: the row-sparse optimiser.
      dense_up_to: ids that the dense rival still trains.
      batch: rows a step, while the number of ids varies.
      batches: rows a step, while there are `BATCHED` ids; none leaves this part out.
      steps: of one timed scan.
      repeats: timed scans; the median counts, compilation does not.
    """

    vocabularies: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    draws: tuple[Literal["uniform", "zipf"], ...] = ("uniform", "zipf")
    tables: row_optim.Name = "lazy_adam"
    dense_up_to: int = 1_000_000
    batch: int = 1024
    batches: tuple[int, ...] = (256, 1024, 4096)
    steps: int = 20
    repeats: int = 10


BATCHED = 100_000
QUICK = Options(
    (10_000, 100_000), ("uniform",), batches=(256, 1024), steps=5, repeats=5
)
MILLISECONDS, MEGABYTES = 1e3, 1e-6
OURS = (
    Column("seconds", "ours, ms", ".1f", MILLISECONDS),
    Column("least_seconds", "least", ".1f", MILLISECONDS),
)
TEMPORARIES = Column("temporary_bytes", "XLA temp", ",.1f", MEGABYTES)
RIVAL = (
    Column("dense_seconds", "dense, ms", ".1f", MILLISECONDS),
    Column("dense_to_ours", "× ours", ".1f"),
)
COLUMNS = (
    Column("ids", "ids", ".0e"),
    *OURS,
    Column("growth", "growth", ".2f"),
    Column("table_bytes", "rows, MB", ",.1f", MEGABYTES),
    TEMPORARIES,
    Column("resident_rise_bytes", "RSS rise", ",.1f", MEGABYTES),
    *RIVAL,
)
BY_BATCH = (
    Column("batch", "rows a step", ","),
    *OURS,
    Column("rows_a_second", "rows a second", ",.0f"),
    TEMPORARIES,
    *RIVAL,
)


class Contender(NamedTuple):
    """A scan of steps to time.

    Attributes:
      run: trains a scan, and waits for it.
      temporaries: bytes the compiled scan needs besides its arguments and results.
    """

    run: Callable[[], None]
    temporaries: int


def row_sparse(log: Log, tables: row_optim.Name) -> Contender:
    """The project's own epoch."""
    setup = mmoe_contenders.make_setup(log.size).with_step(tables=tables)
    state = make_init(setup)(jax.random.key(0))
    masks, (rows, order) = dense_masks(setup, state.net), on_device(log)
    (kind,) = setup.kinds
    given = masks, make_gates(setup, state.net, masks), rows, {kind: order}
    program = epoch_program(setup.spec)
    return _contender(program, (setup.numbers,), state, given)


def dense_adam(log: Log) -> Contender:
    """The same net with optax.adam over the whole table."""
    setup = mmoe_contenders.make_setup(log.size)
    state = dense.start(setup, make_init(setup)(jax.random.key(0)))
    return _contender(dense.make_epoch(setup), (), state, on_device(log))


def _contender(program: Callable, before: tuple, state, after: tuple) -> Contender:
    """Of a compiled (…, state, …) -> (state, losses) that donates its state."""
    compiled = program.lower(*before, state, *after).compile()

    def run():
        nonlocal state
        state, found = compiled(*before, state, *after)
        jax.block_until_ready((state, found))

    return Contender(run, compiled.memory_analysis().temp_size_in_bytes)


def resident_rise(run: Callable[[], None]) -> int | None:
    """Bytes by which resident memory rose at most while something ran.

    None where the system does not tell: it takes Linux, and leave to reset the peak.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def kilobytes(name: str) -> int:
        (line,) = [x for x in status.read_text().splitlines() if x.startswith(name)]
        return int(line.split()[1])

    try:
        reset.write_text("5")  # the peak starts again from what is resident now
        before = kilobytes("VmRSS")
        run()
        return 1024 * max(kilobytes("VmHWM") - before, 0)
    except (OSError, ValueError):
        return None


def seconds_a_step(
    runs: Sequence[Callable[[], None]], steps: int, repeats: int
) -> np.ndarray:
    """[2, runs]: median and minimum time of a step of each run, without compilation.

    The runs take turns, so that a machine whose speed drifts is fair to all.
    """
    times = np.empty((repeats, len(runs)))
    for repeat in range(repeats):
        for number, run in enumerate(runs):
            started = time.perf_counter()
            run()
            times[repeat, number] = time.perf_counter() - started
    return np.stack([np.median(times, axis=0), np.min(times, axis=0)]) / steps


def measure(options: Options) -> Iterator[Table]:
    """Yields a table for each draw, and one for the batches."""
    for draw in options.draws:
        records = measure_draw(options, draw)
        by_ids = {record["ids"]: record for record in records}
        flat = [verdict(*map(by_ids.get, FLAT))] if set(FLAT) <= set(by_ids) else []
        yield Table(
            f"A training step by number of ids, {draw}",
            COLUMNS,
            records,
            lead=f"Tables under {options.tables}; median of {options.repeats} scans of"
            f" {options.steps} steps of {options.batch:,} rows, a step.",
            notes=flat,
            plot=Plot("seconds", "seconds a step", "ids"),
        )
    if options.batches:
        yield Table(
            f"A training step by batch, {BATCHED:,} ids uniform",
            BY_BATCH,
            measure_batches(options),
            lead=f"Tables under {options.tables}; median of {options.repeats} scans of"
            f" {options.steps} steps, a step.",
            plot=Plot("rows_a_second", "rows a second", "batch"),
        )


def measure_batches(options: Options) -> list[dict]:
    """A record for each number of rows a step."""
    records = []
    for batch in options.batches:
        log = make_log(BATCHED, "uniform", batch, options.steps)
        pair = row_sparse(log, options.tables), dense_adam(log)
        for contender in pair:
            contender.run()
        runs = [contender.run for contender in pair]
        medians, minima = seconds_a_step(runs, options.steps, options.repeats).tolist()
        records.append(
            {
                "batch": batch,
                "seconds": medians[0],
                "least_seconds": minima[0],
                "rows_a_second": batch / medians[0],
                "temporary_bytes": pair[0].temporaries,
                "dense_seconds": medians[1],
                "dense_to_ours": medians[1] / medians[0],
            }
        )
    return records


def measure_draw(options: Options, draw: str) -> list[dict]:
    """A record for each number of ids."""
    logs = [
        make_log(ids, draw, options.batch, options.steps)
        for ids in options.vocabularies
    ]
    ours = [row_sparse(log, options.tables) for log in logs]
    sizes = enumerate(options.vocabularies)
    few = [number for number, ids in sizes if ids <= options.dense_up_to]
    rivals = [dense_adam(logs[number]) for number in few]
    rises = []
    for contender in (*ours, *rivals):
        contender.run()  # what the first run allocates for good is no rise
        rises.append(resident_rise(contender.run))
    runs = [contender.run for contender in (*ours, *rivals)]
    medians, minima = seconds_a_step(runs, options.steps, options.repeats).tolist()
    records = [
        {
            "ids": ids,
            "draw": draw,
            "table_bytes": 4 * mmoe_contenders.DIM * ids,
            "seconds": median,
            "least_seconds": least,
            "growth": median / medians[0],
            "temporary_bytes": contender.temporaries,
            "resident_rise_bytes": rise,
        }
        for ids, contender, median, least, rise in zip(
            options.vocabularies, ours, medians, minima, rises, strict=False
        )
    ]
    for number, seconds in zip(few, medians[len(ours) :], strict=True):
        records[number]["dense_seconds"] = seconds
        records[number]["dense_to_ours"] = seconds / medians[number]
    return records


def verdict(few: dict, many: dict) -> str:
    """Whether the step stays flat between two numbers of ids."""
    median, least = (many[name] / few[name] for name in ("seconds", "least_seconds"))
    return (
        f"{median:.2f}x (of the minima {least:.2f}x) from {few['ids']:.0e} to"
        f" {many['ids']:.0e} ids, target {TARGET}x:"
        f" {'met' if median < TARGET else 'missed'}"
    )


if __name__ == "__main__":
    command.main("step", measure, Options)
