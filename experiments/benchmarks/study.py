"""Studies an hour: seeds in turn, in processes and in one program; rows run alone.

    python -m experiments.benchmarks.study
    python -m experiments.benchmarks.study --name lt4rec.base_ctr --seeds 4

The first table trains the same seeds of a row in each way of `--together`. Every way
is run twice: with an empty compilation cache and with the one that this leaves, whose
difference is the time of compilation. The second table runs a whole table, and each of
its rows alone: one seed in a process of its own with its own ticket search and
compilation, as a script for each row would; other seeds would take as long.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import experiments
from experiments.analysis.experiment import short_name
from experiments.benchmarks import command
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from experiments.running.crew import How
from experiments.settings import ablation

WAYS = tuple(way for way in get_args(How) if way != "auto")
TARGET = 3.0
"""How many times as fast a table shall be as its rows and seeds alone."""


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to train.

    Attributes:
      name: a row.
      seeds: of the row.
      table: a table; none leaves its part out.
      table_seeds: of the table.
      settings: further flags of every run, in quotes:
        --settings="--data.feed.days 4".
    """

    name: str = "lt4rec.s_weight"
    seeds: int = 10
    table: str = "lt4rec.table2"
    table_seeds: int = 5
    settings: str = ""


ROOT = Path(experiments.__path__[0]).parent
"""Of the checkout."""
QUICK = Options(
    name="lt4rec.base_ctr",
    seeds=2,
    table="",
    settings="--data.feed.users 200 --data.feed.impressions 4000 --training.epochs 2",
)
SEEDS_TOGETHER = (
    Column("way", "--together"),
    Column("cold", "s", ".1f"),
    Column("warm", "s, compiled before", ".1f"),
    Column("an_hour", "studies an hour, compiled before", ".1f"),
    Column("speed", "× in turn", ".2f"),
)
ROWS_TOGETHER = (
    Column("run", "run"),
    Column("seconds", "s", ".1f"),
    Column("times", "times"),
    Column("total", "s, together", ".0f"),
)


def measure(options: Options) -> Iterator[Table]:
    """Yields a row's seeds in each way, then a table against its rows alone."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), shlex.split(options.settings))
        runs.prepare(options.name)
        yield seeds_together(options, runs)
        if options.table:
            yield rows_together(options, runs)


class Runs:
    """Commands in processes of their own, with work directories of their own."""

    def __init__(self, folder: Path, settings: Sequence[str]):
        self._folder, self._settings = folder, settings
        self._number = 0

    def prepare(self, name: str) -> None:
        """Prepares the log, so that no timed run does it."""
        self.seconds(name, 1, "in_turn", "prepare")

    def seconds(
        self,
        name: str,
        seeds: int,
        way: str,
        cache: str | None,
        limit: float | None = None,
    ) -> float:
        """Wall time of a run from its start to its end.

        Args:
          name: of a row or table.
          seeds: to train.
          way: of `--together`.
          cache: of compiled programs, by name; None = none.
          limit: seconds that it may take.

        Raises:
          RuntimeError: the run failed; with what it said.
          subprocess.TimeoutExpired: it took longer.
        """
        self._number += 1
        environment = dict(os.environ)
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        # And not the working directory, where another `experiments` may lie (-P).
        paths = [str(ROOT), *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if cache is not None:
            environment |= {
                "JAX_COMPILATION_CACHE_DIR": str(self._folder / cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
        flags = ["--seeds", seeds, "--together", way, "--no-report"]
        flags += ["--data.cache", self._folder / "data"]
        flags += ["--workdir", self._folder / f"run{self._number}"]
        run = [sys.executable, "-P", "-m", "experiments.run"]
        run += [name, *self._settings, *flags]
        started = time.perf_counter()
        ended = subprocess.run(
            [str(word) for word in run],
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        seconds = time.perf_counter() - started
        if ended.returncode:
            raise RuntimeError(f"{name} failed: {ended.stderr[-500:]}")
        return seconds


def seeds_together(options: Options, runs: Runs) -> Table:
    """A record for each way to train a row's seeds."""
    records = []
    for way in WAYS:
        cold, warm = (
            runs.seconds(options.name, options.seeds, way, way) for _ in range(2)
        )
        records.append({"way": way, "cold": cold, "warm": warm, "an_hour": 3600 / warm})
    in_turn = records[0]["warm"]
    records = [record | {"speed": in_turn / record["warm"]} for record in records]
    title = f"{options.name}, {options.seeds} seeds"
    plot = Plot("an_hour", "studies an hour", "way")
    return Table(title, SEEDS_TOGETHER, records, plot=plot)


def rows_together(options: Options, runs: Runs) -> Table:
    """A table in one run, and each of its rows in a run of its own."""
    name, seeds = options.table, options.table_seeds
    whole = runs.seconds(name, seeds, "auto", None)
    records = [{"run": name, "seconds": whole, "times": 1, "total": whole}]
    for row in map(short_name, ablation.load(name).ROWS):
        alone = runs.seconds(row, 1, "in_turn", None)
        total = seeds * alone
        records.append({"run": row, "seconds": alone, "times": seeds, "total": total})
    ratio = sum(record["total"] for record in records[1:]) / whole
    verdict = "met" if ratio >= TARGET else "missed"
    return Table(
        f"{name} with {seeds} seeds, and its rows alone",
        ROWS_TOGETHER,
        records,
        notes=[f"{ratio:.2f}x as fast as rows alone, target {TARGET:g}x: {verdict}"],
    )


if __name__ == "__main__":
    command.main("study", measure, Options)
