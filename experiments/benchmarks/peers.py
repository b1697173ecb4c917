"""Training MMoE: ours against torch-rechub, DeepCTR-Torch and plain PyTorch, one run.

    pip install -e ".[peers]"
    python -m experiments.benchmarks.peers
    python -m experiments.benchmarks.peers --ids 1000000 --draws zipf

MMoE at the DCRNN paper's shape: 20 single-valued fields, embeddings of 32, 8 experts
of 128 and 64, two binary tasks with a gate and a tower of 32 each, batches of 1,024,
Adam at its defaults and without decay. The fields share the ids equally. Everyone
trains through the library's own loop (`mmoe_contenders`), on rows that lie in memory.

Each is a process of its own; ours takes turns with one rival after the other, so that a
machine whose speed drifts is fair to both, and tables of two at once fit into memory.
Who runs out of it is recorded as such.

Run it on an idle machine. OpenMP's threads spin while they wait for each other, so
any other work on their cores slows torch down far more than it does XLA.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from experiments.benchmarks import command, mmoe_contenders
from experiments.benchmarks.apart import OUT_OF_MEMORY, Apart, Failed
from experiments.benchmarks.mmoe_contenders import MAKERS
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table

OURS, *PEERS, CONTROL = MAKERS
TARGETS = {100_000: 1.5, 1_000_000: 4.0, 10_000_000: 20.0}
"""Ids -> how many times as fast as the faster peer ours shall be."""
LEAST = 3
"""Blocks that are timed however long they take."""


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      ids: numbers of ids over all fields.
      draws: how ids are drawn: `uniform`, or `zipf` with exponent 1.2.
      batch: rows a step.
      steps: of a timed block.
      repeats: timed blocks of each contender, in turns; compilation does not count.
      seconds: after which ours and a rival stop, if they have three blocks each.
      rivals: whom ours is measured against.
      memory: gigabytes that a contender may fill, two at a time; None = half of what
        the machine has.
    """

    ids: tuple[int, ...] = tuple(TARGETS)
    draws: tuple[Literal["uniform", "zipf"], ...] = ("uniform", "zipf")
    batch: int = 1024
    steps: int = 10
    repeats: int = 15
    seconds: float = 60.0
    rivals: tuple[Literal["torch-rechub", "deepctr-torch", "torch"], ...] = (
        "torch-rechub",
        "deepctr-torch",
        "torch",
    )
    memory: float | None = None

    @property
    def bytes(self) -> float:
        """What a contender may fill."""
        if self.memory is not None:
            return 1e9 * self.memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


QUICK = Options((100_000,), ("uniform",), steps=5, repeats=3)
COLUMNS = (
    Column("ids", "ids", ",d"),
    Column("contender", "contender"),
    Column("weights", "weights", ",d"),
    Column("seconds", "ms/step", ".1f", 1e3),
    Column("rows_a_second", "rows/s", ",.0f"),
    Column("to_ours", "× ours", ".2f"),
    Column("least_to_ours", "least", ".2f"),
    Column("most_to_ours", "most", ".2f"),
    Column("missing", "missing"),
)


def installed(name: str) -> str:
    """The version of a distribution, or that there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def make(name: str, ids: int, draw: str, options: Options) -> tuple[Any, int]:
    """A contender, in the process that it shall run in."""
    log = mmoe_contenders.make_log(ids, draw, options.batch, options.steps)
    return MAKERS[name](log)


def measure(options: Options) -> Iterator[Table]:
    """Yields a table for each draw."""
    versions = ", ".join(f"{name} {installed(name)}" for name in (CONTROL, *PEERS))
    for draw in options.draws:
        records, notes = [], []
        for ids in options.ids:
            found = list(compare(options, ids, draw))
            records += found
            notes += verdict(ids, found)
        yield Table(
            f"A training step of MMoE, {draw} ids",
            COLUMNS,
            records,
            lead=f"Up to {options.repeats} blocks of {options.steps} steps of"
            f" {options.batch:,} rows, a step; of the blocks' ratios to ours, in pairs,"
            f" median, least and most. {versions}.",
            notes=notes,
            plot=Plot("seconds", "seconds a step", "ids", "contender"),
        )


def compare(options: Options, ids: int, draw: str) -> Iterator[dict]:
    """A record of ours, then one of each rival on the same log."""
    start = lambda name: Apart(
        functools.partial(make, name, ids, draw, options), options.bytes
    )
    ours = start(OURS)
    records, blocks = [], []
    for name in options.rivals:
        record = {"ids": ids, "draw": draw, "contender": name}
        try:
            rival = start(name)
            record["weights"] = rival.about
            pairs = take_turns(ours, rival, options)
            rival.close()
        except Failed as failure:
            records.append(record | {"missing": _missing(name, str(failure))})
            continue
        blocks += pairs[:, 0].tolist()
        records.append(record | speeds(pairs[:, 1], options) | ratios(pairs))
    alone = blocks or [ours.seconds() for _ in range(options.repeats)]
    first = {"ids": ids, "draw": draw, "contender": OURS, "weights": ours.about}
    ours.close()
    yield first | speeds(np.array(alone), options) | {"to_ours": 1.0}
    yield from records


def take_turns(ours: Apart, rival: Apart, options: Options) -> np.ndarray:
    """[blocks, 2]: seconds of ours and of a rival.

    Raises:
      Failed: the rival ran out of memory, or failed.
    """
    pairs: list[tuple[float, float]] = []
    while len(pairs) < options.repeats and (
        len(pairs) < LEAST or np.sum(pairs) < options.seconds
    ):
        pairs.append((ours.seconds(), rival.seconds()))
    return np.array(pairs)


def speeds(blocks: np.ndarray, options: Options) -> dict[str, float]:
    """Seconds of a step, and rows a second."""
    step = float(np.median(blocks)) / options.steps
    return {"seconds": step, "rows_a_second": options.batch / step}


def ratios(pairs: np.ndarray) -> dict[str, float]:
    """How many times as long as ours a rival takes."""
    found = pairs[:, 1] / pairs[:, 0]
    names = ("least_to_ours", "to_ours", "most_to_ours")
    return dict(zip(names, np.quantile(found, [0, 0.5, 1]).tolist(), strict=True))


def _missing(name: str, failure: str) -> str:
    if "ModuleNotFoundError" in failure or "ImportError" in failure:
        return f"not installed ({failure}): pip install {name}"
    return failure


def verdict(ids: int, records: list[dict]) -> list[str]:
    """Whether the target is met, where all peers took part or ran out of memory."""
    peers = [record for record in records if record["contender"] in PEERS]
    ran = [record["to_ours"] for record in peers if "to_ours" in record]
    failed = [r for r in peers if r.get("missing", "").startswith(OUT_OF_MEMORY)]
    if ids not in TARGETS or len(ran) + len(failed) < len(PEERS):
        return []
    label = f"{ids:,} ids: target {TARGETS[ids]:g}x the faster peer"
    if not ran:
        return [f"{label}: no peer has memory enough"]
    result = "met" if min(ran) >= TARGETS[ids] else "missed"
    return [f"{label}: {min(ran):.2f}x, {result}"]


if __name__ == "__main__":
    command.main("peers", measure, Options)
