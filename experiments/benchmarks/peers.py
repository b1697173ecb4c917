"""Training MMoE: ours against torch-rechub, DeepCTR-Torch and plain PyTorch, one run.

    pip install -e ".[peers]"
    python -m experiments.benchmarks.peers
    python -m experiments.benchmarks.peers --ids 1000000 --draws zipf

MMoE at the DCRNN paper's shape: 20 single-valued fields, embeddings of 32, 8 experts
of 128 and 64, two binary tasks with a gate and a tower of 32 each, batches of 1,024,
Adam at its defaults and without decay. The fields share the ids equally. Everyone
trains through the library's own loop (`mmoe_contenders`), on rows that lie in memory.

Run it on an idle machine. OpenMP's threads spin while they wait for each other, so
any other work on their cores slows torch down far more than it does XLA.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import tyro

from experiments.benchmarks.mmoe_contenders import MAKERS, Run, make_log
from experiments.report import describe_environment

OURS, *PEERS, CONTROL = MAKERS
TARGETS = {100_000: 1.5, 1_000_000: 4.0}
"""Ids -> how many times as fast as the faster peer ours shall be."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
      ids: numbers of ids over all fields.
      draws: how ids are drawn: `uniform`, or `zipf` with exponent 1.2.
      batch: rows a step.
      steps: of a timed block.
      repeats: timed blocks of each contender, in turns; the median counts,
        compilation does not.
      rivals: whom ours is measured against.
    """

    ids: tuple[int, ...] = tuple(TARGETS)
    draws: tuple[Literal["uniform", "zipf"], ...] = ("uniform", "zipf")
    batch: int = 1024
    steps: int = 10
    repeats: int = 15
    rivals: tuple[Literal["torch-rechub", "deepctr-torch", "torch"], ...] = (
        "torch-rechub",
        "deepctr-torch",
        "torch",
    )


def installed(name: str) -> str:
    """The version of a distribution, or that there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def measure(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Contender -> median seconds of a block.

    The contenders take turns, so that a machine whose speed drifts is fair to all.
    Each goes untimed before it is timed: that compiles, and the threads of whoever
    went before come to rest.
    """
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                run()
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def compare(options: Options, ids: int, draw: str) -> None:
    """Measures one log, and prints a line for each contender and the target's."""
    log = make_log(ids, draw, options.batch, options.steps)
    runs, weights, missing = {}, {}, {}
    for name in (OURS, *options.rivals):
        try:
            runs[name], weights[name] = MAKERS[name](log)
        except ImportError as error:
            missing[name] = error
    seconds = measure(runs, options.repeats)
    label = f"{ids:>9,}  {draw:<8}"
    for name, block in seconds.items():
        step, ratio = block / options.steps, block / seconds[OURS]
        print(
            f"{label} {name:<14} {weights[name]:>9,} {1e3 * step:>8.1f}"
            f" {options.batch / step:>9,.0f} {ratio:>6.2f}x"
        )
    for name, error in missing.items():
        print(f"{label} {name:<14} not installed ({error}); pip install {name}")
    if ids in TARGETS and all(name in seconds for name in PEERS):
        ratio = min(seconds[name] for name in PEERS) / seconds[OURS]
        verdict = "met" if ratio >= TARGETS[ids] else "missed"
        print(
            f"{label} {ratio:.2f}x the faster peer, target {TARGETS[ids]}x: {verdict}"
        )


def main(options: Options) -> None:
    """Prints a table for each draw and number of ids."""
    environment = describe_environment()
    versions = {name: installed(name) for name in (CONTROL, *PEERS)}
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(environment["threads"])
    print(", ".join(f"{k} {v}" for k, v in (environment | versions).items()))
    print(
        f"median of {options.repeats} blocks of {options.steps} steps of"
        f" {options.batch} rows; threads of each contender: {environment['threads']}\n"
    )
    print(
        f"{'ids':>9}  {'draw':<8} {'':<14} {'weights':>9} {'ms/step':>8}"
        f" {'rows/s':>9} {'× ours':>7}"
    )
    for draw in options.draws:
        for ids in options.ids:
            compare(options, ids, draw)


if __name__ == "__main__":
    main(tyro.cli(Options))
