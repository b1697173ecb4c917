"""Times one pruning round against the usual ways to find its threshold.

    python -m experiments.benchmarks.prune
    python -m experiments.benchmarks.prune --sizes 1000000 --repeats 20

Each contender keeps the largest 20 % of the same normal weights and ends with a
mask; ours (`pruning.prune`, all checks included) gets them as two kernels of a
net, the others as one flat array. Times are medians after compilation.
Where weights tie at the threshold, all but ours and torch keep more than asked.
`np.partition` is the best a single host can do outside jit: it runs on no
accelerator and no sharded array.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmarks import command
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.sparsity import masks, pruning
from jaxmtl.types import Array

OURS, SORT, TORCH = "jaxmtl prune", "jnp.sort", "torch l1_unstructured"
TARGETS = {SORT: 15.0, TORCH: 5.0}
"""Rival -> how many times as fast ours shall be at `MANY` weights."""
MANY = 10**7
DENSITY = 0.2
LAYERS = 2
WIDTH = 500
SECONDS = 20.0
"""A slow contender is repeated for about this long, and at least 3 times."""


@jax.jit
def by_sort(weights: Array) -> Array:
    size = jnp.abs(weights)
    return size >= jnp.sort(size)[-round(DENSITY * size.size)]


@jax.jit
def by_quantile(weights: Array) -> Array:
    size = jnp.abs(weights)
    return size >= jnp.quantile(size, 1 - DENSITY)


@jax.jit
def by_top_k(weights: Array) -> Array:
    size = jnp.abs(weights)
    return size >= lax.top_k(size, round(DENSITY * size.size))[0][-1]


def by_partition(weights: np.ndarray) -> np.ndarray:
    size = np.abs(weights)
    at = size.size - round(DENSITY * size.size)
    return size >= np.partition(size, at)[at]


def make_by_torch(weights: np.ndarray) -> Callable[[], object] | None:
    """A call of `l1_unstructured`; None where torch is not installed."""
    try:
        torch = importlib.import_module("torch")
        prune = importlib.import_module("torch.nn.utils.prune")
    except ImportError:
        return None
    values = torch.from_numpy(weights.copy())

    def call():
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(values)
        return prune.l1_unstructured(module, "weight", 1 - DENSITY).weight_mask

    return call


def timed(call: Callable[[], object], repeats: int) -> tuple[float, int]:
    """Median seconds of `call`, and over how many calls; compiles first."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    once()
    seconds = [once()]
    repeats = min(repeats, max(3, int(SECONDS / seconds[0])))
    seconds += [once() for _ in range(repeats - 1)]
    return median(seconds), repeats


def contenders(size: int) -> dict[str, Callable[[], object] | None]:
    """Name -> a call that prunes `size` normal weights; ours first."""
    shape = (LAYERS, size // (LAYERS * WIDTH), WIDTH)
    layers = jax.random.normal(jax.random.key(0), shape)
    net = {"shared": {f"layer{i:02d}": {"kernel": w} for i, w in enumerate(layers)}}
    mask = masks.full(net)
    keep = round(DENSITY * size)
    flat = layers.reshape(-1)
    host = np.array(flat)
    return {
        OURS: lambda: pruning.prune(net, mask, keep),
        SORT: lambda: by_sort(flat),
        "jnp.quantile": lambda: by_quantile(flat),
        "lax.top_k": lambda: by_top_k(flat),
        "np.partition": lambda: by_partition(host),
        TORCH: make_by_torch(host),
    }


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      sizes: numbers of weights, multiples of 1000.
      repeats: calls timed; slow contenders get fewer, at least 3.
    """

    sizes: tuple[int, ...] = (10**5, 10**6, MANY)
    repeats: int = 10

    def __post_init__(self):
        for size in self.sizes:
            if size < 1 or size % (LAYERS * WIDTH):
                raise ValueError(f"{size} weights: give multiples of {LAYERS * WIDTH}")
        if self.repeats < 1:
            raise ValueError(f"{self.repeats} repeats: give at least 1")


QUICK = Options((10**5,), repeats=3)
COLUMNS = (
    Column("weights", "weights", ","),
    Column("contender", "contender"),
    Column("seconds", "ms", ".2f", 1e3),
    Column("repeats", "repeats"),
    Column("to_ours", "× ours", ".2f"),
    Column("missing", "missing"),
)


def measure(options: Options) -> Iterator[Table]:
    """Yields one table: each contender at each number of weights."""
    records = [r for size in options.sizes for r in measure_size(size, options.repeats)]
    plot = Plot("seconds", "seconds", "weights", "contender")
    title = f"Pruning weights to {DENSITY:.0%}"
    yield Table(title, COLUMNS, records, notes=verdicts(records), plot=plot)


def measure_size(size: int, repeats: int) -> Iterator[dict]:
    """A record for each contender, ours first."""
    ours = None
    for name, call in contenders(size).items():
        about = {"weights": size, "contender": name}
        if call is None:
            yield about | {"missing": "not installed"}
            continue
        seconds, done = timed(call, repeats)
        ours = ours or seconds
        yield about | {"seconds": seconds, "repeats": done, "to_ours": seconds / ours}


def verdicts(records: list[dict]) -> list[str]:
    """Whether the targets are met."""
    return [
        f"{r['to_ours']:.1f}x as fast as {r['contender']}, target"
        f" {TARGETS[r['contender']]:g}x:"
        f" {'met' if r['to_ours'] >= TARGETS[r['contender']] else 'missed'}"
        for r in records
        if r["weights"] == MANY and r["contender"] in TARGETS and "to_ours" in r
    ]


if __name__ == "__main__":
    command.main("prune", measure, Options)
