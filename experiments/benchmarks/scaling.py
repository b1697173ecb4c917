"""A training step split over simulated devices, and what they exchange in it.

    python -m experiments.benchmarks.scaling
    python -m experiments.benchmarks.scaling --ids 1000000 --tables adam

MMoE at the DCRNN paper's shape (`mmoe_contenders`) on one stack of tables that a mesh
splits by rows. All devices are threads of this one machine: where they are more than
its cores, the time is the work of all of them plus what splitting costs, and shows
overhead, not speed-up. What one device holds and sends is what real devices would.

The bytes are read off the compiled program: of each collective of the scan's body, what
a device sends. An all-to-all or an all-gather of n bytes over D devices sends
n (D − 1) / D from each, an all-reduce in a ring twice that. Ids, rows and gradients are
counted for one round (`jaxmtl.tables.routing`), which is enough for ids drawn alike.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax

from experiments.benchmarks import command, mmoe_contenders
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from experiments.benchmarks.step import seconds_a_step
from jaxmtl.devices import sharding
from jaxmtl.tables import row_optim
from jaxmtl.training.train import epoch_program
from jaxmtl.training.train_state import dense_masks, make_gates, make_init
from jaxmtl.types import Rows

BYTES = {"pred": 1, "s32": 4, "u32": 4, "f32": 4, "bf16": 2, "f64": 8, "s64": 8}
COLLECTIVE = re.compile(
    r"= (.+?) (all-gather|reduce-scatter|all-reduce|all-to-all|collective-permute)"
    r"(?:-start)?\("
)
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      devices: numbers of devices, ascending.
      ids: over all fields.
      draw: how ids are drawn: `uniform`, or `zipf` with exponent 1.2.
      tables: the row-sparse optimiser.
      batch: rows a step, of all devices together.
      steps: of one timed scan.
      repeats: timed scans; the median counts, compilation does not.
    """

    devices: tuple[int, ...] = (1, 2, 4, 8)
    ids: int = 100_000
    draw: Literal["uniform", "zipf"] = "uniform"
    tables: row_optim.Name = "lazy_adam"
    batch: int = 1024
    steps: int = 20
    repeats: int = 10


QUICK = Options((1, 2), steps=5, repeats=5)
COLUMNS = (
    Column("devices", "devices"),
    Column("seconds", "ms", ".1f", 1e3),
    Column("least_seconds", "least", ".1f", 1e3),
    Column("to_first", "ratio", ".2f"),
    Column("rows", "kB rows", ",.1f", 1e-3),
    Column("net", "kB net", ",.1f", 1e-3),
    Column("table_bytes", "MB table", ",.2f", 1e-6),
    Column("temporary_bytes", "MB temp", ",.1f", 1e-6),
)


class Sent(NamedTuple):
    """Bytes that each device sends in a step.

    Attributes:
      rows: ids, rows and their gradients in a round, by all-to-all and all-gather.
      net: the gradients of the net, and scalars, by all-reduce.
      other: by anything else.
    """

    rows: float
    net: float
    other: float


def sent(program: str, devices: int) -> Sent:
    """What the collectives of a compiled program send, each counted once.

    Args:
      program: the text of the compiled module of one device.
      devices: that take part in each collective.
    """
    found = {"rows": 0.0, "net": 0.0, "other": 0.0}
    for shapes, name in COLLECTIVE.findall(program):
        size = sum(
            BYTES[kind] * math.prod(int(n) for n in shape.split(",") if n)
            for kind, shape in ARRAY.findall(shapes)
        )
        share = (devices - 1) / devices
        if name in ("all-to-all", "all-gather"):
            found["rows"] += size * share
        elif name == "all-reduce":
            found["net"] += 2 * size * share
        else:
            found["other"] += size
    return Sent(**found)


def contender(options: Options, devices: int):
    """A call that trains a scan, and the numbers of its compiled program."""
    log = mmoe_contenders.make_log(
        options.ids, options.draw, options.batch, options.steps
    )
    setup = dataclasses.replace(
        mmoe_contenders.make_setup(log.size),
        tables=options.tables,
        mesh=sharding.make_mesh(devices),
    )
    state = make_init(setup)(jax.random.key(0))
    masks, (rows, order) = dense_masks(setup, state.net), mmoe_contenders.on_device(log)
    (kind,) = setup.kinds
    given = masks, make_gates(setup, state.net, masks), rows, {kind: order}
    if setup.mesh:
        given = _on_mesh(setup.mesh, *given)
    before = setup.numbers
    compiled = epoch_program(setup.spec).lower(before, state, *given).compile()

    def run() -> None:
        nonlocal state
        state, losses = compiled(before, state, *given)
        jax.block_until_ready((state, losses))

    (table,) = state.tables.values()
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(table))
    memory = compiled.memory_analysis().temp_size_in_bytes
    about = {"devices": devices, "table_bytes": held, "temporary_bytes": memory}
    return run, about | sent(compiled.as_text(), devices)._asdict()


def _on_mesh(mesh, masks, gates, rows: Rows, orders):
    rows = jax.device_get(rows)
    batches = sharding.split_epoch(mesh, rows, jax.device_get(orders))
    return *sharding.copy_to_all(mesh, (masks, gates)), None, batches


def measure(options: Options) -> Iterator[Table]:
    """Sets JAX up with enough devices; the iterator yields one table."""
    jax.config.update("jax_num_cpu_devices", max(options.devices))
    return _tables(options)


def _tables(options: Options) -> Iterator[Table]:
    runs, records = zip(*(contender(options, n) for n in options.devices), strict=True)
    for run in runs:
        run()
    medians, minima = seconds_a_step(runs, options.steps, options.repeats).tolist()
    for record, median, least in zip(records, medians, minima, strict=True):
        record |= {"seconds": median, "least_seconds": least}
        record["to_first"] = median / medians[0]
    yield Table(
        "A training step on simulated devices",
        COLUMNS,
        records,
        lead=f"{options.ids:,} ids {options.draw}, tables under {options.tables},"
        f" batches of {options.batch:,}; median of {options.repeats} scans of"
        f" {options.steps} steps, a step; what each device sends in it, and holds."
        f" The machine has {os.cpu_count()} cores.",
        plot=Plot("seconds", "seconds a step", "devices"),
    )


if __name__ == "__main__":
    command.main("scaling", measure, Options)
