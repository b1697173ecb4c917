"""How near our kernels come to what the machine can do, measured in the same run.

    python -m experiments.benchmarks.roofline
    python -m experiments.benchmarks.roofline --repeats 20 --out benchmarks

A kernel is limited by arithmetic or by memory (Williams, Waterman and Patterson, 2009,
"Roofline"). The ceilings are the rate of a product of two large float32 matrices, 2n³
operations, the fastest of some sizes by JAX and NumPy (the largest is not), and that of
copying a large array by all threads, each byte read once and written once. What our
kernels do is counted so:

- Pruning n weights: each count of a binary search reads a weight and its mark, 5 bytes;
  how many counts there are is found by the same search in NumPy; the check of `keep`
  reads the marks, and the end reads both again and writes marks.
- Table: of n ids the line of each is read, that of each distinct one written (a row
  and its slots, 4 bytes a number), and n gradients of a row are read. Lines lie at
  random places: a copy's rate is out of reach.
- MMoE: 2 operations a row for each weight of a matrix; backward twice that, for the
  gradients of inputs and of weights. Softmax, ReLU and biases are not counted.
- DCRNN's run: 2 operations a row for X_0·W and for each of L - 1 products H·U, and 2
  for each of L products A_t·W of a vector; not the gates' own functions.
- The step: what MMoE's forward and backward pass do; all else counts as lost time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.analysis.table import describe_environment
from experiments.benchmarks import command, crnn, mmoe_contenders
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.prune import timed
from experiments.benchmarks.results import Column, Table
from experiments.benchmarks.step import row_sparse
from jaxmtl.layers.crnn import CELLS
from jaxmtl.sparsity import masks
from jaxmtl.sparsity.pruning import prune
from jaxmtl.tables import embedding
from jaxmtl.training.train_state import features_like, init_net
from jaxmtl.types import Params

FLOPS, BYTES = "FLOP", "byte"
Unit = Literal["FLOP", "byte"]


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      matrices: rows and columns of the large matrices.
      copied: bytes of the array that is copied.
      weights: how many are pruned, a multiple of 1000.
      ids: of the tables, over all fields.
      batch: rows a step.
      repeats: timed calls; the median counts, of the ceilings the fastest.
    """

    matrices: tuple[int, ...] = (1024, 2048, 4096)
    copied: int = 512_000_000
    weights: int = 10**7
    ids: tuple[int, ...] = (10**5, 10**7)
    batch: int = 1024
    repeats: int = 10


QUICK = Options(matrices=(1024,), copied=10**8, weights=10**6, ids=(10**5,), repeats=5)
COLUMNS = (
    Column("kernel", "kernel"),
    Column("work", "GFLOP or GB", ",.3f", 1e-9),
    Column("unit", "of"),
    Column("seconds", "ms", ",.2f", 1e3),
    Column("rate", "giga a second", ",.1f", 1e-9),
    Column("share", "of the ceiling", ".0%"),
)


class Kernel(NamedTuple):
    """What is timed.

    Attributes:
      name: as it is shown.
      unit: of its work.
      work: how much it does.
      run: does it; its result is waited for.
    """

    name: str
    unit: Unit
    work: float
    run: Callable[[], Any]


def measure(options: Options) -> Iterator[Table]:
    """Yields one table: the ceilings, and the kernels below them."""
    ceilings = {unit: [] for unit in (FLOPS, BYTES)}
    for kernel in (*products(options.matrices), copying(options.copied)):
        times = [timed(kernel.run, 1)[0] for _ in range(options.repeats)]
        ceilings[kernel.unit].append(_record(kernel, min(times)))
    best = {u: max(r["rate"] for r in found) for u, found in ceilings.items()}
    records = [record for found in ceilings.values() for record in found]
    for kernel in kernels(options):
        seconds, _ = timed(kernel.run, options.repeats)
        records.append(_record(kernel, seconds))
    for record in records:
        record["share"] = record["rate"] / best[record["unit"]]
    yield Table(
        "Kernels against the machine's ceilings",
        COLUMNS,
        records,
        lead=f"Median of {options.repeats} calls, of the ceilings the fastest.",
        plot=Plot("share", "share of the ceiling", "kernel"),
    )


def _record(kernel: Kernel, seconds: float) -> dict[str, Any]:
    about = {"kernel": kernel.name, "unit": kernel.unit, "work": kernel.work}
    return about | {"seconds": seconds, "rate": kernel.work / seconds}


def kernels(options: Options) -> Iterator[Kernel]:
    """What of ours is held against the ceilings, each made when it is its turn."""
    yield pruning(options.weights)
    for ids in options.ids:
        yield table_update(ids, options.batch)
    yield from mmoe(options.batch)
    for kind in CELLS:
        yield dcrnn_run(kind, crnn.Options(batch=options.batch))
    for ids in options.ids:
        yield whole_step(ids, options.batch)


def products(sizes: Sequence[int]) -> Iterator[Kernel]:
    """The product of two square matrices, by JAX and by NumPy."""
    product = jax.jit(jnp.matmul)
    for n in sizes:
        a = np.random.default_rng(0).random((n, n), np.float32)
        by_jax = functools.partial(product, *[jnp.asarray(a)] * 2)
        by_numpy = functools.partial(np.matmul, a, a)
        for name, run in {"JAX": by_jax, "NumPy": by_numpy}.items():
            name = f"ceiling: product of {n:,} × {n:,} by {name}"
            yield Kernel(name, FLOPS, 2 * n**3, run)


def copying(size: int) -> Kernel:
    """A copy into memory that is there already, by as many threads as are allowed."""
    threads = describe_environment()["threads"]
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    pool = ThreadPoolExecutor(threads)
    parts = [np.array_split(array, threads) for array in (target, source)]
    run = lambda: list(pool.map(np.copyto, *parts))
    return Kernel("ceiling: copy", BYTES, 2 * size, run)


def pruning(n: int) -> Kernel:
    """`pruning.prune` of normal weights to a fifth."""
    weights = np.random.default_rng(0).normal(size=(n // 1000, 1000)).astype(np.float32)
    net = {"shared": {"layer": {"kernel": jnp.asarray(weights)}}}
    mask, keep = masks.full(net), n // 5
    run = lambda: prune(net, mask, keep)
    work = n * (5 * counts_to_prune(weights, keep) + 1 + 6)
    return Kernel(f"pruning {n:,} weights", BYTES, work, run)


def counts_to_prune(weights: np.ndarray, keep: int) -> int:
    """How often `selection.mark_largest` counts over all weights.

    A binary search for the threshold's bits, then one for the place of the last weight
    that stays among those of the threshold's size.
    """
    size = np.sort(np.abs(weights).reshape(-1).view(np.int32))
    reaching = lambda t: size.size - int(np.searchsorted(size, t))
    threshold, counts = _search(reaching, keep, 31)
    places = np.flatnonzero(np.abs(weights).reshape(-1).view(np.int32) == threshold)
    behind = lambda at: int(np.count_nonzero(places >= at))
    surplus = reaching(threshold) - keep
    return counts + _search(behind, surplus, size.size.bit_length())[1]


def _search(count: Callable[[int], int], k: int, bits: int) -> tuple[int, int]:
    """`selection.search`: what it finds, and how often it counts."""
    found, counts, reached = 0, 1, count(0)
    while bits > 0 and reached > k:
        bits, counts = bits - 1, counts + 1
        fewer = count(found | 1 << bits)
        if fewer >= k:
            found, reached = found | 1 << bits, fewer
    return found, counts


def table_update(ids: int, batch: int) -> Kernel:
    """Reading a batch's rows and updating them under lazy Adam, in place."""
    log = mmoe_contenders.make_log(ids, "uniform", batch, 1)
    setup = mmoe_contenders.make_setup(log.size)
    optimiser, key = setup.spec.step.row_optimiser, jax.random.key(0)
    table = embedding.init(key, setup.schema, setup.dim, 0.01, optimiser)
    named = embedding.stacked_ids(setup.schema, jnp.asarray(log.ids)).reshape(-1)
    gradients = jnp.full((named.size, setup.dim), 1e-3)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(table, named, gradients):
        block = embedding.read(optimiser, table, named, setup.start.table_learning_rate)
        rate = setup.start.table_learning_rate
        return embedding.update(optimiser, table, named, block, gradients, rate)

    def run():
        nonlocal table
        table = update(table, named, gradients)
        return table.packed

    lines = named.size + np.unique(named).size
    work = 4 * (lines * table.packed.shape[1] + gradients.size)
    return Kernel(f"table of {ids:,} ids, read and updated", BYTES, work, run)


def mmoe(batch: int) -> Iterator[Kernel]:
    """MMoE's net at the DCRNN paper's shape, without tables and losses."""
    setup = mmoe_contenders.make_setup(2)
    net = init_net(setup, jax.random.key(0))
    features = features_like(setup, batch)

    @jax.jit
    def forward(net, features):
        logits = setup.model.apply(net, features).logits
        return sum(jnp.sum(jnp.tanh(x)) for x in logits.values())

    both = jax.jit(jax.grad(forward, argnums=(0, 1)))
    work = mmoe_operations(net, batch)
    yield Kernel("MMoE, forward", FLOPS, work, lambda: forward(net, features))
    name = "MMoE, forward and backward"
    yield Kernel(name, FLOPS, 3 * work, lambda: both(net, features))


def mmoe_operations(net: Params, batch: int) -> int:
    """Of a forward pass; biases are vectors, but for those of experts."""
    leaves = jax.tree_util.tree_leaves_with_path(net)
    weights = sum(x.size for path, x in leaves if path[-1].key != "bias")
    return 2 * batch * weights


def dcrnn_run(kind: str, options: crnn.Options) -> Kernel:
    """One task's run from X_0 to H_L, as `crnn` times it."""
    cells, x, shifts = crnn.draw(options, kind, 1, options.length)
    run = jax.jit(functools.partial(crnn.fast, kind))
    columns = CELLS[kind].gates * options.hidden
    depth = options.dim + (options.length - 1) * options.hidden
    rows = options.batch * depth + options.length * options.dim
    name = f"DCRNN's run, {kind.upper()}, forward"
    return Kernel(name, FLOPS, 2 * columns * rows, lambda: run(cells, x, shifts))


def whole_step(ids: int, batch: int, steps: int = 10) -> Kernel:
    """Training steps of MMoE, tables included."""
    log = mmoe_contenders.make_log(ids, "uniform", batch, steps)
    net = init_net(mmoe_contenders.make_setup(2), jax.random.key(0))
    run = row_sparse(log, "lazy_adam").run
    work = 3 * steps * mmoe_operations(net, batch)
    return Kernel(f"{steps} steps of MMoE, {ids:,} ids", FLOPS, work, run)


if __name__ == "__main__":
    command.main("roofline", measure, Options)
