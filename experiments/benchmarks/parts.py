"""A training step in parts, each beside the least time that the machine could need.

    python -m experiments.benchmarks.parts
    python -m experiments.benchmarks.parts --steps mmoe --out benchmarks
    taskset -c 1 python -m experiments.benchmarks.parts     # of one core

`base_ctr` is the demonstration of `lt4rec.base_ctr`, `mmoe` MMoE at the DCRNN paper's
shape (`mmoe_contenders`). Each part is a program of its own in the step's shapes; the
whole step is the epoch's program. The parts need not sum up to it: a part alone writes
what the step keeps in a fusion, and calling it costs what the first line says.

A bound is of arithmetic or of memory. Products: 2 operations a row and weight forward,
twice that backward, at the rate of the fastest of some large products. All else: the
bytes that have to be read and written once, at the rate of a copy:

- take: the batch's columns, read and written.
- read, update: the lines of all ids read and written, those of distinct ids written;
  gradients read. Lines lie at random places, so a copy's rate is out of reach.
- pool, cross: what goes in and comes out, forward and backward.
- loss: logits and labels in, gradients out.
- guard: gradients, read.
- optimise: gradients read, weights and moments read and written.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import command, mmoe_contenders, optimisers, roofline
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from experiments.benchmarks.roofline import BYTES, FLOPS, Kernel
from experiments.benchmarks.step import seconds_a_step
from jaxmtl.layers.crossing import feature_layer
from jaxmtl.layers.narrow import narrow_product
from jaxmtl.optim import chain
from jaxmtl.sparsity.masks import path_name
from jaxmtl.tables import embedding
from jaxmtl.training import guard, outputs
from jaxmtl.training.feed import take
from jaxmtl.training.spec import SHARED, Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    dense_masks,
    features_of,
    make_gates,
    make_init,
    make_optimiser,
)
from jaxmtl.types import Array, Rows


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      steps: whose step.
      ids: of `mmoe`, over all fields.
      batch: rows a step of `mmoe`.
      length: steps of the whole that are timed together.
      repeats: timed calls of each part, in turns; the fastest counts.
      matrices: rows and columns of the large matrices.
      copied: bytes of the array that is copied.
    """

    steps: tuple[Literal["base_ctr", "mmoe"], ...] = ("base_ctr", "mmoe")
    ids: int = 100_000
    batch: int = 1024
    length: int = 10
    repeats: int = 50
    matrices: tuple[int, ...] = (1024, 2048)
    copied: int = 512_000_000


QUICK = Options(steps=("mmoe",), repeats=5, matrices=(1024,), copied=10**8)
COLUMNS = (
    Column("part", "part"),
    Column("seconds", "ms", ",.3f", 1e3),
    Column("bound", "bound, ms", ",.3f", 1e3),
    Column("share", "bound / ms", ".0%"),
    Column("limit", "of"),
)


class Step(NamedTuple):
    """What is trained: on which rows, in which order [steps, batch]."""

    setup: Setup
    rows: Rows
    order: Array


def base_ctr(options: Options) -> Step:
    """The demonstration's single CTR task."""
    task = optimisers.make_task(optimisers.Options())
    (order,) = task.plan.orders(0, 1).values()
    return Step(task.setup, task.data.on_device("train"), order[: options.length])


def mmoe(options: Options) -> Step:
    """MMoE at the DCRNN paper's shape."""
    log = mmoe_contenders.make_log(
        options.ids, "uniform", options.batch, options.length
    )
    return Step(mmoe_contenders.make_setup(log.size), *mmoe_contenders.on_device(log))


def measure(options: Options) -> Iterator[Table]:
    """Yields a table for each step."""
    ceilings = [*roofline.products(options.matrices), roofline.copying(options.copied)]
    _, fastest = seconds_a_step([_waited(k.run) for k in ceilings], 1, 10)
    rates = dict.fromkeys((FLOPS, BYTES), 0.0)
    for kernel, seconds in zip(ceilings, fastest.tolist(), strict=True):
        rates[kernel.unit] = max(rates[kernel.unit], kernel.work / seconds)
    for name in options.steps:
        step = {"base_ctr": base_ctr, "mmoe": mmoe}[name](options)
        kernels = [whole(step), *parts(step)]
        runs = [_waited(kernel.run) for kernel in kernels]
        for run in runs:
            run()  # compiles
        _, fastest = seconds_a_step(runs, 1, options.repeats)
        fastest[0] /= len(step.order)
        yield Table(
            f"A training step of {name} in parts",
            COLUMNS,
            [_record(*pair, rates) for pair in zip(kernels, fastest, strict=True)],
            lead=f"{step.order.shape[1]:,} rows, the fastest of {options.repeats}"
            f" calls; ceilings {1e-9 * rates[FLOPS]:,.0f} GFLOP/s and"
            f" {1e-9 * rates[BYTES]:,.1f} GB/s.",
            plot=Plot("seconds", "seconds", "part"),
        )


def _waited(run: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(run())


def _record(kernel: Kernel, seconds: float, rates: dict[str, float]) -> dict[str, Any]:
    bound = kernel.work / rates[kernel.unit]
    found = {"part": kernel.name, "seconds": float(seconds), "limit": kernel.unit}
    return found | {"bound": bound, "share": bound / float(seconds)}


def whole(step: Step) -> Kernel:
    """All steps of the epoch's program; the work is one step's products."""
    setup, rows, order = step
    state, epoch = make_init(setup)(jax.random.key(0)), make_epoch(setup)
    work = sum(_operations(w, order.shape[1]) for _, w in _kernels(state.net))
    dense = dense_masks(setup, state.net)
    gates, orders = (
        make_gates(setup, state.net, dense),
        dict.fromkeys(setup.kinds, order),
    )

    def run():
        nonlocal state
        state, losses = epoch(state, dense, gates, rows, orders)
        return state, losses

    return Kernel("the step", FLOPS, work, run)


def parts(step: Step) -> Iterator[Kernel]:
    """What a step consists of, in its order."""
    setup, rows, order = step
    state = make_init(setup)(jax.random.key(0))
    spec, net, table = setup.spec, state.net, state.tables[SHARED]
    empty = jax.jit(lambda x: x + 1)
    yield Kernel("a call, empty", BYTES, 0, lambda: empty(order[0, :1]))

    batch, taking = take(rows, order[0]), jax.jit(take)
    work = 2 * sum(x.nbytes for x in jax.tree.leaves(batch))
    yield Kernel("take", BYTES, work, lambda: taking(rows, order[0]))

    ids = embedding.stacked_ids(setup.schema, batch.rows.ids).reshape(-1)
    optimiser, rate = spec.step.row_optimiser, setup.start.table_learning_rate
    reading = jax.jit(lambda table: embedding.read(optimiser, table, ids, rate))
    line, block = table.packed[0].nbytes, reading(table)
    work = 2 * ids.size * line
    yield Kernel("tables: read", BYTES, work, lambda: reading(table))

    gathered = {SHARED: block.rows.reshape(*batch.rows.ids.shape, -1)}
    pooling = lambda gathered: features_of(spec.net, gathered, batch.rows)
    features = pooling(gathered)
    yield _there_and_back("pool", pooling, gathered)

    layer = feature_layer(spec.net.crossing)
    own = layer.init(jax.random.key(0), features)
    crossing = lambda shared: layer.apply(own, features._replace(shared=shared))
    yield _there_and_back("cross", crossing, features.shared)

    for path, weight in _kernels(net):
        yield _product(path, weight, len(batch.valid))

    masks = dense_masks(setup, net)
    forward = lambda net, shared: (
        outputs.forward(
            spec.net,
            spec.output,
            net,
            masks,
            features._replace(shared=shared),
            setup.tasks,
        ).logits
    )
    work = sum(_operations(w, len(batch.valid)) for _, w in _kernels(net))
    kernel = _there_and_back("cross and net", forward, net, features.shared)
    yield kernel._replace(unit=FLOPS, work=work)

    logits, batch = forward(net, features.shared), outputs.with_joint(spec, batch)
    losses = lambda logits: outputs.losses_of(spec, setup.numbers, logits, batch)
    kernel = _there_and_back("loss", losses, logits)
    yield kernel._replace(work=3 * sum(x.nbytes for x in logits.values()))

    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), (net, gathered))
    found, sound = losses(logits)[0], jax.jit(guard.is_sound)
    work = sum(x.nbytes for x in jax.tree.leaves(gradients))
    yield Kernel("guard", BYTES, work, lambda: sound(found, gradients))
    yield _optimise(setup, state, gradients[0])

    given = gradients[1][SHARED].reshape(block.rows.shape)

    @functools.partial(jax.jit, donate_argnums=0)
    def updating(table, block, given):
        return embedding.update(optimiser, table, ids, block, given, rate)

    def update():
        nonlocal table
        table = updating(table, block, given)
        return table

    distinct = np.unique(np.asarray(ids)).size
    work = (ids.size + distinct) * line + given.nbytes
    yield Kernel("tables: update", BYTES, work, update)


def _optimise(setup: Setup, state: Any, gradients: Any) -> Kernel:
    """The net's optimiser, all gates open."""
    net, (slots,) = jax.tree.map(jnp.copy, (state.net, [*state.opt.slots.values()]))
    (gates,) = make_gates(setup, net, dense_masks(setup, net)).values()
    rates = state.opt.rates._asdict()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(net, slots, gradients, gates):
        optimiser = make_optimiser(setup.spec.step, gates)
        updates, slots = optimiser.update(gradients, slots, net, gates=gates, **rates)
        return chain.apply_updates(net, updates, gates), slots

    def run():
        nonlocal net, slots
        net, slots = step(net, slots, gradients, gates)
        return net

    size = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))
    work = 2 * size((net, slots)) + size(gradients)
    return Kernel("optimise", BYTES, work, run)


def _there_and_back(name: str, function: Callable[..., Any], *given: Any) -> Kernel:
    """A function and its pull-back; what goes in and comes out passes twice."""

    @jax.jit
    def both(given, gradient):
        result, pull = jax.vjp(function, *given)
        return result, pull(gradient)

    result = function(*given)
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), result)
    work = 2 * sum(x.nbytes for x in jax.tree.leaves((given, result)))
    return Kernel(name, BYTES, work, lambda: both(given, gradient))


def _kernels(net: Any) -> list[tuple[str, Array]]:
    """Path and value of each leaf that is a matrix, or one of each expert."""
    leaves = jax.tree_util.tree_leaves_with_path(net)
    matrices = [(path_name(p), w) for p, w in leaves if p[-1].key != "bias"]
    return [(path, weight) for path, weight in matrices if weight.ndim > 1]


def _operations(weight: Array, batch: int) -> int:
    return 6 * batch * weight.size


def _product(path: str, weight: Array, batch: int) -> Kernel:
    """A layer's three products; the experts' first layer has one input for all."""
    is_own = weight.ndim > 2 and "layer00" not in path
    experts, own = "e" * (weight.ndim - 2), "e" * is_own
    given = jnp.ones((*weight.shape[:is_own], batch, weight.shape[-2]))
    plain = functools.partial(jnp.einsum, f"{own}bi,{experts}io->{experts}bo")
    function = narrow_product if path.endswith("gate/weight") else plain
    name = f"net: {path.removeprefix('shared/').removesuffix('/kernel')}"
    kernel = _there_and_back(name, function, given, weight)
    return kernel._replace(unit=FLOPS, work=_operations(weight, batch))


if __name__ == "__main__":
    command.main("parts", measure, Options)
