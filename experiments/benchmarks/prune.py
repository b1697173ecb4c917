"""Times one pruning round against the usual ways to find its threshold.

    python -m experiments.benchmarks.prune
    python -m experiments.benchmarks.prune --sizes 1000000 --repeats 20

Each contender keeps the largest 20 % of the same normal weights and ends with a
mask; ours (`pruning.prune`, all checks included) gets them as two kernels of a
net, the others as one flat array. Milliseconds are medians after compilation.
Where weights tie at the threshold, all but ours and torch keep more than asked.
`np.partition` is the best a single host can do outside jit: it runs on no
accelerator and no sharded array.
"""

from __future__ import annotations

import importlib
import platform
import time
from collections.abc import Callable
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

from jaxmtl import masks, pruning
from jaxmtl.types import Array

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
    """Median milliseconds of `call`, and over how many calls; compiles first."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    once()
    seconds = [once()]
    repeats = min(repeats, max(3, int(SECONDS / seconds[0])))
    seconds += [once() for _ in range(repeats - 1)]
    return 1e3 * median(seconds), repeats


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
        "jaxmtl prune": lambda: pruning.prune(net, mask, keep),
        "jnp.sort": lambda: by_sort(flat),
        "jnp.quantile": lambda: by_quantile(flat),
        "lax.top_k": lambda: by_top_k(flat),
        "np.partition": lambda: by_partition(host),
        "torch l1_unstructured": make_by_torch(host),
    }


def versions() -> str:
    """Device and versions, for the line above the figures."""
    device = jax.devices()[0]
    return (
        f"{device.platform} ({device.device_kind}), {platform.machine()}, JAX"
        f" {jax.__version__}, NumPy {np.__version__}, Python"
        f" {platform.python_version()}"
    )


def main(sizes: tuple[int, ...] = (10**5, 10**6, 10**7), repeats: int = 10) -> None:
    """Prints milliseconds, repeats and the ratio of each rival to ours.

    Args:
      sizes: numbers of weights, multiples of 1000.
      repeats: calls timed; slow contenders get fewer, at least 3.
    """
    for size in sizes:
        if size < 1 or size % (LAYERS * WIDTH):
            raise SystemExit(f"{size} weights: give multiples of {LAYERS * WIDTH}")
    if repeats < 1:
        raise SystemExit(f"{repeats} repeats: give at least 1")
    print(versions())
    print(f"{'weights':>10}  {'':<22}{'ms':>10}{'repeats':>9}{'× ours':>9}")
    for size in sizes:
        ours = None
        for name, call in contenders(size).items():
            if call is None:
                print(f"{size:>10}  {name:<22}{'not installed':>28}")
                continue
            ms, done = timed(call, repeats)
            ours = ours or ms
            print(f"{size:>10}  {name:<22}{ms:>10.2f}{done:>9}{ms / ours:>9.1f}")


if __name__ == "__main__":
    tyro.cli(main)
