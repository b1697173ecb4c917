"""How long a scorer takes, and what memory it needs at its peak."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Latency(NamedTuple):
    """Of one call, in milliseconds."""

    median: float
    p99: float
    best: float


def in_turns(
    runs: Mapping[str, Callable[[], Any]], repeats: int, seconds: float = 0.7
) -> dict[str, Latency]:
    """The latency of each run.

    Runs take turns, so that a machine whose speed drifts is fair to all. Each goes
    untimed before it is timed: that compiles, and the threads of whoever went before
    come to rest.

    Args:
      runs: name -> what to call; its result is waited for.
      repeats: calls of each at most, at least 5.
      seconds: about how long each may take altogether.
    """
    times = {name: [] for name in runs}
    for run in runs.values():
        jax.block_until_ready(run())
    for _ in range(max(repeats, 5)):
        for name, run in runs.items():
            if len(times[name]) >= 5 and sum(times[name]) > seconds:
                continue
            jax.block_until_ready(run())
            started = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - started)
    return {
        name: Latency(*(1e3 * np.quantile(t, [0.5, 0.99, 0.0])).tolist())
        for name, t in times.items()
    }


def program_bytes(program: Callable, *arguments: Any) -> int:
    """What a jitted program holds at its peak: arguments, results, what lies between.

    As the compiler plans it; the runtime itself is not counted.
    """
    analysis = jax.jit(program).lower(*arguments).compile().memory_analysis()
    sizes = ("argument_size", "output_size", "temp_size")
    return sum(getattr(analysis, f"{name}_in_bytes") for name in sizes)


def host_bytes(run: Callable[[], Any]) -> int:
    """What a call allocates at its peak through Python, as NumPy and SciPy do."""
    run()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
